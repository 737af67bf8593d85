"""Relative indices by hand: gaps, padding, and their bits."""

import numpy as np
import pytest

from lib.kernels.formats.checks import FormatError
from lib.kernels.formats.relative import Relative
from tests.kernels.formats.parts import floats, ints, matrix


def test_gaps_by_hand() -> None:
    stored = Relative.encode(matrix([[0, 2, 0, 0, 3], [0, 0, 0, 0, 0], [4, 0, 0, 0, 5]]), field_bits=2)
    assert stored.gap.tolist() == [1, 2, 0, 3]
    assert stored.row_pointer.tolist() == [0, 2, 2, 4]
    assert stored.values.tolist() == [2, 3, 4, 5]


def test_padding_by_hand() -> None:
    weight = np.zeros((1, 50), dtype=np.float32)
    weight[0, [15, 32, 49]] = 1, 2, 3
    # 15 zeros fit in 4 bits; 16 zeros before column 32 are one padding entry of 16 columns and a gap of 0
    stored = Relative.encode(weight)
    assert stored.gap.tolist() == [15, 15, 0, 15, 0]
    assert stored.values.tolist() == [1, 0, 2, 0, 3]
    assert stored.value_bits(16) == 80
    assert stored.index_entries == 5 + 2
    assert stored.index_bits == 5 * 4 + 2 * 3


@pytest.mark.parametrize(("every", "bits"), [(4, 5.0), (8, 2.5), (16, 1.25)])
def test_bits_of_even_rows(every: int, bits: float) -> None:
    # 16-bit weights, one in k: (16 + 4) / k bits per weight of the matrix, as no gap needs padding
    weight = np.zeros((64, 256), dtype=np.float32)
    weight[:, every - 1 :: every] = 1
    stored = Relative.encode(weight)
    pointers = 65 * (64 * 256 // every).bit_length()
    assert (stored.index_bits - pointers + stored.value_bits(16)) / weight.size == bits


def test_gap_beyond_the_last_column_is_refused() -> None:
    Relative((1, 6), ints(0, 2), ints(2, 2), floats(1, 2))
    with pytest.raises(FormatError, match="beyond the last of 5 columns"):
        Relative((1, 5), ints(0, 2), ints(2, 2), floats(1, 2))


@pytest.mark.parametrize("field_bits", [0, 17, -1, 4.0, True])
def test_malformed_fields_are_refused(field_bits: int) -> None:
    with pytest.raises(FormatError, match="field_bits"):
        Relative.encode(matrix([[1]]), field_bits=field_bits)
