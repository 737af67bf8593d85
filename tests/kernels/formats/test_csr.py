"""CSR by hand, against scipy, and its index in the closed form that other formats are held against."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from hw_models.csb import csr_index_overhead
from lib.kernels.formats.checks import FormatError
from lib.kernels.formats.csr import Csr
from tests.kernels.formats.parts import floats, ints, matrix, sparse


def test_arrays_by_hand() -> None:
    stored = Csr.encode(matrix([[0, 2, 0, 3], [0, 0, 0, 0], [4, 0, 0, 0]]))
    assert stored.row_pointer.tolist() == [0, 2, 2, 3]
    assert stored.column_index.tolist() == [1, 3, 0]
    assert stored.values.tolist() == [2, 3, 4]
    assert stored.index_entries == 7
    assert stored.index_bits == 3 * 2 + 4 * 2
    assert stored.value_bits(16) == 48


def test_arrays_are_those_of_scipy() -> None:
    weight = sparse(40, 70)
    ours, theirs = Csr.encode(weight), csr_matrix(weight)
    assert np.array_equal(ours.row_pointer, theirs.indptr)
    assert np.array_equal(ours.column_index, theirs.indices)
    assert np.array_equal(ours.values, theirs.data)


def test_entries_are_those_of_the_published_overhead() -> None:
    stored = Csr.encode(sparse(64, 128, 0.1))
    weights = len(stored.values)
    assert stored.index_entries / weights == csr_index_overhead(weights, 64)


def test_pointers_to_a_power_of_two_need_one_bit_more() -> None:
    assert Csr.encode(matrix([[1, 1, 1, 1]])).index_bits == 4 * 2 + 2 * 3
    assert Csr.encode(matrix([[1, 1, 1, 0]])).index_bits == 3 * 2 + 2 * 2


@pytest.mark.parametrize(
    ("pointer", "columns", "message"),
    [
        (ints(0, 2, 1, 3), ints(0, 1, 2), "never fall"),
        (ints(1, 2, 2, 3), ints(0, 1, 2), "start at 0"),
        (ints(0, 1, 2, 4), ints(0, 1, 2), "end at 3"),
        (ints(0, 2, 2, 3), ints(1, 0, 2), "rise"),
        (ints(0, 2, 2, 3), ints(1, 1, 2), "rise"),
    ],
)
def test_contradictions_are_named(pointer: np.ndarray, columns: np.ndarray, message: str) -> None:
    assert Csr((3, 3), ints(0, 2, 2, 3), ints(0, 1, 0), floats(1, 2, 3)).decode()[2, 0] == 3
    with pytest.raises(FormatError, match=message):
        Csr((3, 3), pointer, columns, floats(1, 2, 3))
