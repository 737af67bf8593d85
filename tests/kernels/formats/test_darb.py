"""DARB's rows by hand, their bits per survivor, and their classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.kernels.formats.checks import FormatError
from lib.kernels.formats.darb import Darb
from lib.rnn.darb import DensityAdaptive, block_max_mask
from tests.kernels.formats.parts import ints, matrix

SMALL = matrix([[0, 2, 3, 0, 4], [0, 0, 7, 0, 0], [0, 0, 0, 0, 0]])
SIZES = ints(2, 4, 0)  # blocks of 2, 2, 1 and of 4, 1


def test_arrays_by_hand() -> None:
    stored = Darb.encode(SMALL, block_size=SIZES)
    assert stored.offset.tolist() == [1, 0, 0, 2, 0]
    assert stored.values.tolist() == [2, 3, 4, 7, 0]  # the last block of row 1 is empty
    assert stored.index_entries == 5 + 3
    assert stored.offset_bits == 3 * 1 + 2 * 2
    assert stored.bits_per_survivor == 7 / 5
    assert stored.class_bits() == 3 * 2  # three classes
    assert stored.class_bits(grouped=True) == 3 * 2 + 3 * 2
    assert stored.index_bits == 7 + 6


@pytest.mark.parametrize(("block", "bits"), [(4, 4.5), (8, 2.375), (16, 1.25), (32, 0.65625)])
def test_bits_of_uniform_blocks(block: int, bits: float) -> None:
    # 16-bit weights: (16 + log2 k) / k bits per weight of the matrix; one class needs no bits
    weight = torch.randn(32, 256, generator=torch.Generator().manual_seed(0))
    mask = block_max_mask(weight, block).numpy()
    stored = Darb.encode(weight.numpy(), mask, block_size=np.full(32, block))
    assert (stored.value_bits(16) + stored.index_bits) / weight.numel() == bits
    assert stored.bits_per_survivor == np.log2(block)


def test_bits_of_mixed_blocks_are_the_closed_form() -> None:
    sizes = ints(1, 2, 8, 16)
    stored = Darb.encode(np.zeros((4, 64), dtype=np.float32), block_size=sizes)
    assert stored.bits_per_survivor == pytest.approx(np.sum(np.log2(sizes) / sizes) / np.sum(1 / sizes))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 50), st.floats(1, 30), st.sampled_from(["widest", "drop"]))
def test_round_trip_of_pruned_matrices(rows: int, columns: int, rate: float, empty) -> None:  # type: ignore[no-untyped-def]
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    structure = DensityAdaptive(reference_rate=20, empty_rows=empty)
    sizes, mask = structure.block_sizes(weight, rate).numpy(), structure.mask(weight, rate).numpy()
    stored = Darb.encode(weight.numpy(), mask, block_size=sizes)
    assert np.array_equal(stored.decode(), weight.numpy() * mask)
    assert len(stored.values) == mask.sum()


def test_matrix_whose_rows_are_all_dropped() -> None:
    stored = Darb.encode(np.zeros((3, 5), dtype=np.float32), block_size=ints(0, 0, 0))
    assert not stored.decode().any()
    assert (stored.index_entries, stored.index_bits, stored.bits_per_survivor) == (3, 0, 0)


def test_crowded_blocks_are_refused() -> None:
    with pytest.raises(FormatError, match="row 0 keeps more than one weight in a block of 4"):
        Darb.encode(SMALL, block_size=ints(4, 4, 0))
    with pytest.raises(FormatError, match="row 1 keeps weights but has block size 0"):
        Darb.encode(SMALL, block_size=ints(2, 0, 0))


@pytest.mark.parametrize(
    "sizes", [[2, 4, 0], np.array([2.0, 4, 0]), ints(2, 4), ints(2, 3, 0), ints(2, -4, 0)]
)
def test_malformed_sizes_are_refused(sizes: np.ndarray) -> None:
    with pytest.raises(FormatError, match="block_size"):
        Darb.encode(SMALL, block_size=sizes)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"offset": ints(2, 0, 0, 2, 0)}, "below the block size of its row"),
        ({"offset": ints(1, 0, 1, 2, 0)}, "padding beyond the last of 5 columns"),
        ({"block_size": ints(3, 4, 0)}, "powers of two"),
        ({"block_size": ints(4, 4, 0)}, "offset must have 4 entries"),
    ],
)
def test_contradictions_are_named(changed: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        replace(Darb.encode(SMALL, block_size=SIZES), **changed)  # type: ignore[arg-type]
