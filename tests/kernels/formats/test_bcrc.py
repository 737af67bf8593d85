"""BCRC by hand, and its closed form against CSR."""

from dataclasses import replace

import numpy as np
import pytest

from hw_models.sparsity import bits_for
from lib.kernels.formats.bcrc import Bcrc
from lib.kernels.formats.checks import FormatError
from lib.kernels.formats.csr import Csr
from tests.kernels.formats.parts import ints, matrix, sparse

SMALL = matrix([[6, 0, 0, 0], [0, 2, 0, 3], [0, 0, 0, 0], [0, 4, 0, 5]])


def test_arrays_by_hand() -> None:
    stored = Bcrc.encode(SMALL)
    assert stored.reorder.tolist() == [1, 3, 0, 2]
    assert stored.row_offset.tolist() == [0, 2, 4, 5, 5]
    assert stored.occurrence.tolist() == [0, 2, 3, 4]
    assert stored.column_stride.tolist() == [0, 2, 3, 3]
    assert stored.compact_column.tolist() == [1, 3, 0]
    assert stored.weights.tolist() == [2, 3, 4, 5, 6]
    assert stored.groups == 3
    assert stored.index_entries == 4 + 5 + 4 + 4 + 3
    assert stored.index_bits == 4 * 2 + 5 * 3 + 4 * 3 + 4 * 2 + 3 * 2


@pytest.mark.parametrize("height", [1, 4, 16])
def test_column_bits_shrink_by_the_height_of_groups(height: int) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 100), dtype=bool)
    for start in range(0, 64, height):
        mask[start : start + height, rng.choice(100, 10, replace=False)] = True
    stored, csr = (kind.encode(mask.astype(np.float32)) for kind in (Bcrc, Csr))
    assert isinstance(stored, Bcrc)
    groups, lists = 64 // height, 640 // height
    assert stored.groups == groups
    assert stored.index_bits == (
        64 * bits_for(64)
        + 65 * bits_for(641)
        + (groups + 1) * (bits_for(65) + bits_for(lists + 1))
        + lists * bits_for(100)
    )
    assert (stored.index_bits < csr.index_bits) == (height > 1)


def test_rows_without_a_common_list_cost_more_than_csr() -> None:
    weight = sparse(64, 64, 0.1)
    assert Bcrc.encode(weight).index_bits > Csr.encode(weight).index_bits


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reorder": ints(1, 3, 0, 0)}, "every row of the matrix once"),
        ({"occurrence": ints(0, 1, 3, 4)}, "as many weights as its group"),
        ({"occurrence": ints(0, 2, 3, 3)}, "end at 4"),
        ({"row_offset": ints(0, 1, 4, 5, 5)}, "as many weights as its group"),
        ({"column_stride": ints(0, 3, 3)}, "column_stride must have 4 entries"),
        ({"compact_column": ints(3, 1, 0)}, "rise"),
    ],
)
def test_contradictions_are_named(changed: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        replace(Bcrc.encode(SMALL), **changed)  # type: ignore[arg-type]
