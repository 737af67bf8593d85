"""What reordering, sharing and indices come to, on masks small enough to count by eye."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lib.errors import WrongUse
from lib.rnn import row_groups

STRIPES = torch.tensor(
    [
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [1, 1, 0, 1],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [1, 1, 0, 1],
    ],
    dtype=torch.bool,
)
"""Two patterns, of three and of two weights, and two empty rows."""


@st.composite
def masks(draw: st.DrawFn) -> Tensor:
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    bits = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(bits).reshape(rows, columns)


def test_reordered_rows_stand_by_pattern_longest_first_empty_last() -> None:
    assert row_groups.reordered(STRIPES).tolist() == [2, 5, 0, 3, 1, 4]


def test_equal_lengths_of_different_patterns_do_not_mix() -> None:
    mask = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=torch.bool)
    assert row_groups.reordered(mask).tolist() == [0, 2, 1, 3]


@given(masks())
def test_reordering_is_a_permutation_that_never_splits_a_pattern(mask: Tensor) -> None:
    order = row_groups.reordered(mask)
    assert sorted(order.tolist()) == list(range(len(mask)))
    rows = [tuple(row) for row in mask[order].tolist()]
    changes = sum(a != b for a, b in pairwise(rows))
    assert changes == len(set(rows)) - 1


def test_group_heights_leave_empty_rows_out() -> None:
    assert sorted(row_groups.group_heights(STRIPES)) == [2, 2]
    assert row_groups.group_heights(torch.zeros(3, 2, dtype=torch.bool)) == []


def test_imbalance_by_hand() -> None:
    # bundles of two: (2, 0), (3, 2), (0, 3) take 2, 3 and 3 slots a lane: 16 slots for 10 weights
    assert row_groups.imbalance(STRIPES, 2) == pytest.approx(16 / 10)
    # sorted: (3, 3), (2, 2), (0, 0)
    assert row_groups.imbalance(STRIPES[row_groups.reordered(STRIPES)], 2) == 1


def test_a_last_bundle_that_is_short_of_rows_uses_fewer_lanes() -> None:
    assert row_groups.imbalance(torch.ones(5, 3, dtype=torch.bool), 4) == 1


def test_one_lane_is_always_even() -> None:
    assert row_groups.imbalance(STRIPES, 1) == 1


def test_loads_by_hand() -> None:
    assert row_groups.loads(STRIPES, 1) == 10
    # bundles: rows 0-1 need two inputs, 2-3 three, 4-5 three
    assert row_groups.loads(STRIPES, 2) == 8
    assert row_groups.loads(STRIPES, 100) == 3


@given(masks(), st.integers(1, 12))
def test_sharing_never_loads_more_than_apart_nor_less_than_each_used_input_once(
    mask: Tensor, unroll: int
) -> None:
    assert int(mask.any(0).sum()) <= row_groups.loads(mask, unroll) <= int(mask.sum())


def test_block_loads_by_hand() -> None:
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[:3, :2] = True  # upper left block of 4 x 3 keeps three rows and two columns
    mask[1, 4] = True  # upper right keeps one weight
    assert row_groups.block_loads(mask, (4, 3), 2) == 2 * 2 + 1
    assert row_groups.block_loads(mask, (4, 3), 1) == int(mask.sum())


def test_index_bits_by_hand() -> None:
    # ten weights, four columns of 2 bits, seven offsets of up to 10: 4 bits; six rows: 3 bits
    assert row_groups.csr_index_bits(STRIPES) == 10 * 2 + 7 * 4
    assert row_groups.coo_index_bits(STRIPES) == 10 * (3 + 2)


def test_block_index_bits_by_hand() -> None:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2, :2] = True
    # one block of four keeps 2 rows and 2 columns of 1 bit; each of four has two counters up to 2: 2 bits
    assert row_groups.block_index_bits(mask, (2, 2)) == 2 + 2 + 4 * (2 + 2)


def test_block_index_bits_of_a_ragged_matrix_count_every_block() -> None:
    mask = torch.zeros(3, 5, dtype=torch.bool)
    assert row_groups.block_index_bits(mask, (2, 2)) == 2 * 3 * (2 + 2)


def test_outside_blocks_counts_weights_missing_from_rows_times_columns() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    assert row_groups.outside_blocks(mask, (3, 3)) == 2
    assert row_groups.outside_blocks(mask, (1, 1)) == 0
    assert row_groups.outside_blocks(mask, (3, 2)) == 1


def test_index_bits_of_another_pattern_are_refused() -> None:
    mask = torch.tensor([[1, 1], [1, 0]], dtype=torch.bool)
    with pytest.raises(WrongUse, match="2 x 2"):
        row_groups.block_index_bits(mask, (2, 2))


@pytest.mark.parametrize(
    "mask", [torch.zeros(0, 3, dtype=torch.bool), torch.ones(4, dtype=torch.bool), torch.ones(2, 2)]
)
def test_what_is_no_filled_boolean_matrix_is_refused(mask: Tensor) -> None:
    with pytest.raises(WrongUse, match="booleans"):
        row_groups.reordered(mask)


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(WrongUse, match="lanes"):
        row_groups.imbalance(STRIPES, 0)
    with pytest.raises(WrongUse, match="unroll"):
        row_groups.loads(STRIPES, 0)
    with pytest.raises(WrongUse, match="unroll"):
        row_groups.block_loads(STRIPES, (2, 2), 0)
    with pytest.raises(WrongUse, match="block"):
        row_groups.outside_blocks(STRIPES, (0, 2))
    with pytest.raises(WrongUse, match="nothing is kept"):
        row_groups.imbalance(torch.zeros(2, 2, dtype=torch.bool), 2)
