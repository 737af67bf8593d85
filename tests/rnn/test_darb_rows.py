"""Densities of rows, near misses and the sensitivity of denser rows: small cases by hand."""

import pytest
import torch

from lib.errors import WrongUse
from lib.rnn import darb_rows

MASK = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]).bool()
WEIGHT = torch.arange(1.0, 17.0).view(4, 4)


def test_densities_by_hand() -> None:
    found = darb_rows.row_densities(MASK)
    assert found.densities == (0.75, 0.5, 0.25, 0.0)
    assert (found.empty, found.spread) == (1, 3)


def test_an_empty_mask_has_no_spread() -> None:
    assert darb_rows.row_densities(torch.zeros(2, 3, dtype=torch.bool)).spread == 1


def test_deviation_by_hand() -> None:
    # mean 0.375; squares 0.140625, 0.015625, 0.015625, 0.140625
    assert darb_rows.row_densities(MASK).deviation == pytest.approx(0.078125**0.5)
    assert darb_rows.row_densities(torch.ones(3, 4, dtype=torch.bool)).deviation == 0


def test_shuffling_keeps_the_weights_and_levels_the_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(200, 100, generator=generator) * torch.linspace(0.5, 2, 200)[:, None]
    level = darb_rows.shuffled(weight, generator)
    assert torch.equal(level.flatten().sort().values, weight.flatten().sort().values)
    found = [darb_rows.row_densities(matrix.abs() > 1.5) for matrix in (weight, level)]
    assert found[0].deviation > 3 * found[1].deviation
    binomial = found[1].densities
    mean = sum(binomial) / len(binomial)
    assert found[1].deviation == pytest.approx((mean * (1 - mean) / 100) ** 0.5, rel=0.2)


def test_segments_far_below_the_threshold_do_not_count() -> None:
    weight = torch.tensor([[10.0, 9.0, 8.0, 2.0], [7.0, -1.0, 1.0, 0.0]])
    # two of eight stay, both in the upper segment of 4; the best of the lower one is 7 < 0.8 * 9
    assert darb_rows.near_misses(weight, 4) == 0.0


def test_no_empty_segment_is_no_miss() -> None:
    assert darb_rows.near_misses(torch.eye(4).repeat(1, 2)[:, :4].flip(1) + torch.eye(4), 2) == 0.0


def test_an_emptied_segment_near_the_threshold_counts() -> None:
    weight = torch.tensor([[9.0, 8.0, 7.0, 6.0], [9.5, -7.5, 1.0, 0.5]])
    # four of eight stay: 9.5, 9, 8, 7.5; the pairs (7, 6) and (1, 0.5) are empty, only 7 is near 7.5
    assert darb_rows.near_misses(weight, 2) == 0.5
    assert darb_rows.near_misses(weight, 2, within=0.95) == 0.0


def test_rows_shorter_than_a_segment_have_no_misses() -> None:
    assert darb_rows.near_misses(torch.ones(5, 3), 8) == 0.0


@pytest.mark.parametrize(("rate", "within"), [(0.2, 0.8), (4, 0.0), (4, 1.1)])
def test_impossible_segments_are_refused(rate: float, within: float) -> None:
    with pytest.raises(WrongUse):
        darb_rows.near_misses(torch.ones(4, 4), rate, within)


def test_halves_lose_their_smallest_weights() -> None:
    dense = darb_rows.prune_half(WEIGHT, MASK, "dense", 2)  # rows 0 and 3: 1, 2, 3, 13, 14
    assert (MASK & ~dense).nonzero().tolist() == [[0, 0], [0, 1]]
    sparse = darb_rows.prune_half(WEIGHT, MASK, "sparse", 1)  # rows 1 and 2: 9
    assert (MASK & ~sparse).nonzero().tolist() == [[2, 0]]
    assert torch.equal(darb_rows.prune_half(WEIGHT, MASK, "dense", 0), MASK)


def test_a_half_cannot_lose_more_than_it_has() -> None:
    with pytest.raises(WrongUse, match="keeps 1 weights; 2 cannot"):
        darb_rows.prune_half(WEIGHT, MASK, "sparse", 2)
    with pytest.raises(WrongUse, match="dense or sparse"):
        darb_rows.prune_half(WEIGHT, MASK, "upper", 1)  # type: ignore[arg-type]


def test_both_halves_lose_equally_many_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(33, 20, generator=generator) * torch.rand(33, 1, generator=generator)
    masks = darb_rows.sensitivity_masks({"a": weight}, 2)
    assert masks["dense"]["a"].sum() == masks["sparse"]["a"].sum() < weight.numel() / 2
    assert not torch.equal(masks["dense"]["a"], masks["sparse"]["a"])


def test_a_sparse_half_without_weights_costs_neither_half_any() -> None:
    masks = darb_rows.sensitivity_masks({"a": WEIGHT}, 2)  # rows 2 and 3 keep all
    assert torch.equal(masks["dense"]["a"], masks["sparse"]["a"])
