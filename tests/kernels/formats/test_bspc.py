"""BSPC by hand, and its index for a matrix pruned in strips against CSR."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hw_models.sparsity import bits_for
from lib.kernels.formats.bspc import Bspc
from lib.kernels.formats.checks import FormatError
from lib.kernels.formats.csr import Csr
from lib.rnn.rtmobile import BlockStructured
from tests.kernels.formats.parts import ints, matrix

SMALL = matrix([[0, 2, 0, 3], [0, 0, 0, 0], [0, 4, 0, 5], [6, 0, 0, 0]])


def test_arrays_by_hand() -> None:
    stored = Bspc.encode(SMALL)
    assert stored.reorder.tolist() == [0, 2, 3]
    assert stored.filter_offset.tolist() == [0, 2, 4, 5]
    assert stored.register_load.tolist() == [2, 1]
    assert stored.stride.tolist() == [0, 2, 3]
    assert stored.column_index.tolist() == [1, 3, 0]
    assert stored.weights.tolist() == [2, 3, 4, 5, 6]
    assert stored.index_entries == 3 + 4 + 2 + 3 + 3
    assert stored.index_bits == 3 * 2 + 4 * 3 + 2 * 3 + 3 * 2 + 3 * 2


def test_groups_that_are_as_wide_are_told_apart() -> None:
    weight = matrix([[1, 0], [2, 0], [0, 3]])
    assert Bspc.encode(weight).register_load.tolist() == [2, 1]
    assert np.array_equal(Bspc.encode(weight).decode(), weight)


def test_rows_of_a_strip_share_one_list() -> None:
    weight = torch.randn(256, 128, generator=torch.Generator().manual_seed(0))
    mask = BlockStructured(4, 4, row_rate=2).mask(weight, 16).numpy()
    stored, csr = Bspc.encode(weight.numpy(), mask), Csr.encode(weight.numpy(), mask)
    assert stored.groups == 4
    rows, nonzeros = int(mask.any(axis=1).sum()), int(mask.sum())
    lists = sum(int(mask[start : start + 64].any(axis=0).sum()) for start in range(0, 256, 64))
    closed = (
        rows * bits_for(256)
        + (rows + 1) * bits_for(nonzeros + 1)
        + 4 * bits_for(257)
        + 5 * bits_for(lists + 1)
        + lists * bits_for(128)
    )
    assert stored.index_bits == closed
    assert csr.index_bits == nonzeros * bits_for(128) + 257 * bits_for(nonzeros + 1)
    assert lists * 20 < nonzeros  # about 32 rows of a strip share each list
    assert stored.index_bits < 0.4 * csr.index_bits


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reorder": ints(0, 0, 3)}, "twice"),
        ({"register_load": ints(1, 1)}, "add up to the 3"),
        ({"register_load": ints(3, 0)}, "at least 1"),
        ({"register_load": ints(1, 2)}, "as many weights as its group"),
        ({"filter_offset": ints(0, 1, 4, 5)}, "as many weights as its group"),
        ({"stride": ints(0, 1, 3)}, "as many weights as its group|rise"),
        ({"column_index": ints(3, 1, 0)}, "rise"),
    ],
)
def test_contradictions_are_named(changed: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        replace(Bspc.encode(SMALL), **changed)  # type: ignore[arg-type]
