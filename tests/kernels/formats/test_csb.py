"""CSB's five arrays by hand, and the published index overhead (Fig. 10b)."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models.csb import index_overhead
from hw_models.errors import HardwareModelError
from hw_models.reference_points import points
from lib.kernels.formats.checks import FormatError
from lib.kernels.formats.csb import Csb
from lib.rnn.csb_rnn import CompressedBlocks
from lib.rnn.grim import BlockColumnRow
from tests.kernels.formats.parts import ints, matrix

SMALL = matrix([[1, 0, 2, 0, 9], [0, 0, 0, 0, 0], [3, 0, 4, 8, 0]])  # blocks of 2 x 3; two are cut off


def test_arrays_by_hand() -> None:
    stored = Csb.encode(SMALL, block=(2, 3))
    assert stored.kernel_rows.tolist() == [1, 1, 1, 1]
    assert stored.kernel_columns.tolist() == [2, 1, 2, 1]
    assert stored.row_index.tolist() == [0, 0, 0, 0]
    assert stored.column_index.tolist() == [0, 2, 1, 0, 2, 0]
    assert stored.values.tolist() == [1, 2, 9, 3, 4, 8]
    assert stored.index_entries == 4 + 6
    assert stored.index_bits == 4 * (2 + 2) + 4 * 1 + 6 * 2  # 0 to 2 rows, 0 to 3 columns of 4 blocks


def test_values_run_along_the_rows_of_a_block() -> None:
    stored = Csb.encode(np.arange(1, 17, dtype=np.float32).reshape(4, 4), block=(2, 2))
    assert stored.values.tolist() == [1, 2, 5, 6, 3, 4, 7, 8, 9, 10, 13, 14, 11, 12, 15, 16]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 9), st.integers(1, 9), st.floats(1, 20))
def test_round_trip_of_projected_matrices(rows: int, columns: int, high: int, wide: int, rate: float) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    for structure in (CompressedBlocks((high, wide)), BlockColumnRow(high, wide)):
        mask = structure.mask(weight, rate).numpy()
        stored = Csb.encode(weight.numpy(), mask, block=(high, wide))
        assert np.array_equal(stored.decode(), weight.numpy() * mask)
        assert len(stored.values) == mask.sum()


def test_counts_are_those_of_the_pattern() -> None:
    weight = torch.randn(100, 39, generator=torch.Generator().manual_seed(0))
    structure = CompressedBlocks((16, 10))
    pattern = structure.pattern(weight, 5)
    stored = Csb.encode(weight.numpy(), pattern.mask(), block=(16, 10))
    assert stored.storage(12) == pattern.storage(12)
    assert stored.index_entries / len(stored.values) == pattern.storage().index_overhead


@pytest.mark.parametrize(("model", "rate", "block"), [("SR2", 16.0, 32), ("MT1", 4.0, 16), ("SR4", 25.0, 40)])
def test_even_kernels_need_the_closed_form(model: str, rate: float, block: int) -> None:
    # every block keeps B / sqrt(r) rows and columns: 2 sqrt(r) / B entries per weight, as published
    mask = np.zeros((2 * block, 3 * block), dtype=np.float32)
    kept = round(block / sqrt(rate))
    for i in range(2):
        for j in range(3):
            mask[i * block : i * block + kept, j * block : j * block + kept] = 1
    stored = Csb.encode(mask, block=(block, block))
    assert stored.index_entries / len(stored.values) == pytest.approx(index_overhead(rate, block))


def test_published_overhead_is_what_a_projected_matrix_needs_or_more() -> None:
    # SR1's first layer at block 32, 13.5x: 23.0 % published. Kernels of uneven size need fewer entries.
    (published,) = [
        float(row["nio_percent"])
        for row in (point.model_dump() for point in points("csb_index_overhead"))
        if row["model"] == "SR1" and int(row["block"]) == 32
    ]
    weight = torch.randn(1024, 512, generator=torch.Generator().manual_seed(0))
    mask = CompressedBlocks(32).mask(weight, 13.5).numpy()
    stored = Csb.encode(weight.numpy(), mask, block=(32, 32))
    assert 0.85 * published < 100 * stored.index_entries / len(stored.values) < published


def test_mask_must_be_rows_by_columns() -> None:
    mask = np.ones((4, 4), dtype=bool)
    mask[3, 2] = False
    with pytest.raises(FormatError, match=r"not rows by columns in block \(1, 1\)"):
        Csb.encode(np.ones((4, 4), dtype=np.float32), mask, block=(2, 2))
    Csb.encode(np.ones((4, 4), dtype=np.float32), mask, block=(1, 1))


def test_blocks_far_beyond_the_matrix_cost_no_memory() -> None:
    stored = Csb.encode(SMALL, block=(2**16, 2**16))  # padded to whole blocks it would take 4 GiB
    assert np.array_equal(stored.decode(), SMALL)
    assert stored.index_bits == 2 * 17 + (2 + 4) * 16
    assert Csb.encode(SMALL, block=(2**16, 1)).decode().tolist() == SMALL.tolist()


def test_a_matrix_of_zeros_has_no_overhead_per_weight() -> None:
    stored = Csb.encode(np.zeros((5, 7), dtype=np.float32), block=(2, 3))
    assert stored.pattern.rate == float("inf")
    for overhead in ("index_overhead", "bit_overhead"):
        with pytest.raises(HardwareModelError, match="keeps no weight"):
            getattr(stored.storage(), overhead)


@pytest.mark.parametrize("block", [(0, 2), (2, -1), 2, (2,), (2.0, 2), None, (2**16 + 1, 2), (2, 10**12)])
def test_malformed_blocks_are_refused(block: tuple[int, int]) -> None:
    with pytest.raises(FormatError, match="block must"):
        Csb.encode(SMALL, block=block)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kernel_rows": ints(0, 1, 1, 1)}, "rows and columns or neither"),
        ({"kernel_rows": ints(2, 1, 1, 1)}, "row_index must have 5 entries"),
        ({"row_index": ints(0, 0, 1, 0)}, "padding below the last of 3 rows"),
        ({"column_index": ints(0, 2, 2, 0, 2, 0)}, "padding beyond the last of 5 columns"),
        ({"column_index": ints(2, 0, 1, 0, 2, 0)}, "rise"),
        ({"column_index": ints(0, 0, 1, 0, 2, 0)}, "rise"),
        ({"block": (3, 3)}, "kernel_rows must have 2 entries"),
    ],
)
def test_contradictions_are_named(changed: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        replace(Csb.encode(SMALL, block=(2, 3)), **changed)  # type: ignore[arg-type]
