"""Held-out images: disjoint, complete, drawn by the generator."""

import pytest
import torch

from lib.cnn.image_parts import hold_out
from lib.errors import WrongUse
from lib.lab.datasets import load


def test_parts_are_disjoint_and_complete() -> None:
    whole = load("fashion_mnist", "train", limit=60)
    rest, apart = hold_out(whole, 20, torch.Generator().manual_seed(0))
    assert (len(rest), len(apart)) == (40, 20)
    pixels = torch.cat([images for part in (rest, apart) for images, _ in part.batches(16)])
    everything = next(whole.batches(60))[0]
    assert sorted(x.sum().item() for x in pixels) == pytest.approx(sorted(x.sum().item() for x in everything))


def test_items_and_batches_agree() -> None:
    part, _ = hold_out(load("fashion_mnist", "train", limit=30), 10, torch.Generator().manual_seed(0))
    images, labels = next(part.batches(20))
    assert torch.equal(images[7], part[7][0])
    assert int(labels[7]) == part[7][1]


@pytest.mark.parametrize("count", [0, 30, 31])
def test_an_empty_part_is_refused(count: int) -> None:
    with pytest.raises(WrongUse, match="hold out 1 to 29"):
        hold_out(load("fashion_mnist", "train", limit=30), count, torch.Generator())
