"""The blind control keeps the structure and the rate, and looks at no weight."""

import torch

from lib.rnn.blind import Blind
from lib.rnn.grim import BlockColumnRow
from lib.rnn.row_groups import outside_blocks


def test_the_mask_does_not_depend_on_the_weights() -> None:
    structure = Blind(BlockColumnRow(4, 4), 3)
    generator = torch.Generator().manual_seed(0)
    first, second = (structure.mask(torch.randn(16, 12, generator=generator), 4) for _ in range(2))
    assert torch.equal(first, second)
    assert outside_blocks(first, (4, 4)) == 0


def test_another_seed_is_another_mask() -> None:
    weight = torch.ones(16, 12)
    masks = [Blind(BlockColumnRow(4, 4), seed).mask(weight, 4) for seed in (0, 1)]
    assert not torch.equal(*masks)


def test_rate_one_keeps_everything() -> None:
    assert Blind(BlockColumnRow(4, 4), 0).mask(torch.zeros(5, 7), 1).all()
