"""The structures to compare with: each by hand, and the circulant projection."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.errors import WrongUse
from lib.rnn.baselines import (
    BankBalanced,
    BlockCirculant,
    Columns,
    RowBalanced,
    Rows,
    Unstructured,
    WholeBlocks,
)
from tests.rnn.parts import gaussian, uneven

WEIGHT = torch.tensor([[4.0, -5, 1, 0], [3, 0, 0, -2], [0.5, 1, 0, 0.1]])


def test_masks_by_hand() -> None:
    assert Unstructured().mask(WEIGHT, 4).int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert RowBalanced().mask(WEIGHT, 2).int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 0]]
    assert BankBalanced(2).mask(WEIGHT, 2).int().tolist() == [[0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1]]
    assert Rows().mask(WEIGHT, 3).int().tolist() == [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert Columns().mask(WEIGHT, 4).int().tolist() == [[0, 1, 0, 0]] * 3


def test_rows_and_banks_are_even() -> None:
    weight = uneven(40, 36)
    assert len(RowBalanced().mask(weight, 5).sum(dim=1).unique()) == 1
    banks = BankBalanced(6).mask(weight, 3).view(40, 6, 6).sum(dim=2)
    assert banks.unique().tolist() == [2]


def test_short_last_bank_keeps_what_it_has() -> None:
    mask = BankBalanced(2).mask(torch.ones(1, 5), 1.25)  # banks of 3 and of 2, two weights stay in each
    assert mask.int().tolist() == [[1, 1, 0, 1, 1]]


def test_what_banks_do_not_divide_goes_to_the_largest_weights() -> None:
    weight = torch.tensor([[9.0, 1, 2, 8, 7, 0, 3, 3], [1.0, 1, 1, 2, 5, 4, 1, 1]])
    # three of eight stay: one in each bank of 4, and one more where the second largest is larger
    assert BankBalanced(2).mask(weight, 8 / 3).int().tolist() == [
        [1, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 1, 0, 0],
    ]


@pytest.mark.parametrize("columns", [12, 128, 7])
def test_banks_keep_as_many_as_balanced_rows(columns: int) -> None:
    weight = uneven(40, columns)
    banks, rows = BankBalanced(4).mask(weight, 12), RowBalanced().mask(weight, 12)
    assert torch.equal(banks.sum(dim=1), rows.sum(dim=1))


def test_circulant_by_hand() -> None:
    weight = torch.tensor([[1.0, 2, 10], [4, 3, 20], [6, 8, 30]])
    # blocks of 2: diagonals (1, 3) and (2, 4); at the edges, what is there: 10 and 20, 6 and 8, 30
    expected = torch.tensor([[2.0, 3, 10], [3, 2, 20], [6, 8, 30]])
    assert torch.equal(BlockCirculant(2).project(weight), expected)
    assert BlockCirculant(2).rate(weight) == 9 / 8


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9))
def test_circulant_projection_is_the_nearest(rows: int, columns: int, block: int) -> None:
    weight, circulant = gaussian(rows, columns), BlockCirculant(block)
    nearest = circulant.project(weight)
    assert torch.allclose(circulant.project(nearest), nearest, atol=1e-6)
    other = circulant.project(gaussian(rows, columns, seed=1))
    # what is left over is orthogonal to every circulant matrix
    assert float(((weight - nearest) * other).sum()) == pytest.approx(0, abs=1e-3)


def test_circulant_rows_are_shifted() -> None:
    block = BlockCirculant(4).project(gaussian(4, 4))
    for row in range(3):
        assert torch.equal(block[row + 1], block[row].roll(1))


def test_circulant_blocks_of_one_change_nothing() -> None:
    weight = gaussian(4, 2, 3, 3)
    assert torch.equal(BlockCirculant(1).project(weight), weight)
    assert BlockCirculant(1).rate(weight) == 1


@pytest.mark.parametrize("make", [BankBalanced, BlockCirculant])
def test_malformed_settings_are_named(make: Callable[[int], object]) -> None:
    with pytest.raises(WrongUse, match="at least 1"):
        make(0)


def test_whole_blocks_by_hand() -> None:
    weight = torch.tensor([[1.0, 1, 0, 3], [1, 1, 0, 0], [5, 0, 2, 2]])
    # squared norms 4 and 9 above, 25 and 8 below, where the blocks are cut off
    mask = WholeBlocks(2).mask(weight, 2)
    assert mask.tolist() == [[False, False, True, True]] * 2 + [[True, True, False, False]]


def test_blocks_of_one_weight_are_unstructured() -> None:
    weight = torch.randn(9, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(WholeBlocks(1).mask(weight, 3), Unstructured().mask(weight, 3))


def test_a_block_without_a_side_is_refused() -> None:
    with pytest.raises(WrongUse, match="side"):
        WholeBlocks(0)
