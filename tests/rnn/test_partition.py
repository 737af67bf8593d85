"""Cutting matrices: blocks with padding and back, and even parts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import WrongUse
from lib.rnn.partition import blocks_of, even_parts, matrix_of, real

SIDE = st.integers(1, 12)


@given(SIDE, SIDE, SIDE, SIDE)
def test_blocks_and_back(rows: int, columns: int, high: int, wide: int) -> None:
    matrix = torch.arange(1.0, rows * columns + 1).view(rows, columns)
    blocks = blocks_of(matrix, high, wide, -1.0)
    assert torch.equal(matrix_of(blocks, rows, columns), matrix)
    assert torch.equal(blocks > 0, real(rows, columns, high, wide))


def test_blocks_are_neighbourhoods() -> None:
    blocks = blocks_of(torch.arange(15).view(3, 5), 2, 3)
    assert blocks.shape == (2, 2, 2, 3)
    assert blocks[0, 1].tolist() == [[3, 4, 0], [8, 9, 0]]
    assert blocks[1, 0].tolist() == [[10, 11, 12], [0, 0, 0]]


def test_even_parts_by_hand() -> None:
    assert even_parts(7, 3) == [slice(0, 2), slice(2, 4), slice(4, 7)]
    with pytest.raises(WrongUse, match="at most 2"):
        even_parts(2, 3)
