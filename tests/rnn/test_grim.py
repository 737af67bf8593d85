"""BCR: rows by columns in every block, a case by hand, and the rate that the literal projection misses."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lib.errors import WrongUse
from lib.rnn.baselines import Unstructured
from lib.rnn.grim import BlockColumnRow
from lib.rnn.structure import measured_rate
from tests.rnn.parts import gaussian, uneven

SIDE = st.integers(1, 30)


@settings(deadline=None, max_examples=40)
@given(SIDE, SIDE, st.integers(1, 10), st.integers(1, 10), st.floats(1, 30), st.booleans())
def test_blocks_keep_rows_by_columns(
    rows: int, columns: int, high: int, wide: int, rate: float, exact: bool
) -> None:
    mask = BlockColumnRow(high, wide, exact).mask(gaussian(rows, columns), rate)
    for i in range(0, rows, high):
        for j in range(0, columns, wide):
            part = mask[i : i + high, j : j + wide]
            assert torch.equal(part, part.any(dim=1)[:, None] & part.any(dim=0))


def test_literal_projection_by_hand() -> None:
    # column segments of 2 x 2 blocks have squared norms 26, 1.01 | 0.02, 4 above, 0, 0.04 | 0.05, 36 below.
    # Half of eight stay: 26, 1.01, 4, 36. Row segments then hold 25.01, 2 | 0, 4 above, 0, 0 | 0, 36 below;
    # half of eight stay: 25.01, 2, 4, 36.
    weight = torch.tensor([[5, 0.1, 0.1, 0], [1, 1, 0.1, 2], [0, 0.2, 0.2, 0], [0, 0, 0.1, 6]])
    mask = BlockColumnRow(2, 2, exact_rate=False).mask(weight, 4)
    assert mask.tolist() == [
        [True, True, False, False],
        [True, True, False, True],
        [False, False, False, False],
        [False, False, False, True],
    ]
    assert measured_rate(mask) == 16 / 6  # the target was 4


@pytest.mark.parametrize("weights", [gaussian, uneven])
@pytest.mark.parametrize("block", [(4, 16), (16, 64), (64, 64)])
def test_undershoot_is_shown_and_handled(weights: Callable[..., Tensor], block: tuple[int, int]) -> None:
    weight = weights(512, 256)
    literal = measured_rate(BlockColumnRow(*block, exact_rate=False).mask(weight, 10))
    assert literal < 9.6
    assert measured_rate(BlockColumnRow(*block).mask(weight, 10)) == pytest.approx(10, rel=0.005)


def test_blocks_of_one_weight_are_unstructured() -> None:
    weight = gaussian(20, 30)
    assert torch.equal(BlockColumnRow(1, 1).mask(weight, 6), Unstructured().mask(weight, 6))


def test_one_block_keeps_whole_rows_and_columns() -> None:
    mask = BlockColumnRow(100, 100).mask(gaussian(40, 40), 4)
    assert torch.equal(mask, mask.any(dim=1)[:, None] & mask.any(dim=0))
    assert measured_rate(mask) == pytest.approx(4, rel=0.06)  # a row of it holds 1/20 of what is kept


@pytest.mark.parametrize(("rows", "columns"), [(0, 4), (4, -1), (True, 4), (2.0, 4)])
def test_malformed_blocks_are_named(rows: int, columns: int) -> None:
    with pytest.raises(WrongUse, match="block_"):
        BlockColumnRow(rows, columns)
