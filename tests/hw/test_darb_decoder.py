"""Decoders of sparse rows: by hand, and in the directions they may never err."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hw_models.darb_decoder import DecodeCycles, csr_cycles, fixed_block_cycles, relative_index_cycles
from hw_models.errors import HardwareModelError

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 70), st.floats(0, 1), st.integers(0, 10**6)).map(
    lambda drawn: np.random.default_rng(drawn[3]).random(drawn[:2]) < drawn[2]
)


def row(columns: int, *kept: int) -> NDArray[np.bool_]:
    mask = np.zeros((1, columns), dtype=np.bool_)
    mask[0, list(kept)] = True
    return mask


def test_fixed_blocks_by_hand() -> None:
    # 4, 2 and 1 weights in three rows of 16: 2, 1 and 1 cycles of 2 decoders
    result = fixed_block_cycles([4, 8, 16], 16, 2)
    assert (result.cycles, result.weights, result.entries) == (4, 7, 7)
    assert result.utilisation == 7 / 8
    # 4 x 2, 2 x 3 and 1 x 4 bits of offset, and 2 bits a row that name one of three classes
    assert result.index_bits == 8 + 6 + 4 + 3 * 2


def test_equal_rows_need_no_class() -> None:
    assert fixed_block_cycles([8] * 5, 64, 4).index_bits_per_weight == 3


def test_a_block_of_one_is_a_dense_row_without_indices() -> None:
    dense = fixed_block_cycles([1], 24, 8)
    assert (dense.cycles, dense.index_bits, dense.utilisation) == (3, 0, 1)


def test_a_ragged_last_block_keeps_a_weight_as_well() -> None:
    assert fixed_block_cycles([8], 17, 4).weights == 3


def test_a_block_wider_than_the_row_points_into_the_row() -> None:
    assert fixed_block_cycles([64], 16, 4).index_bits == 4


def test_every_decoder_is_busy_where_they_divide_the_weights_of_a_row() -> None:
    assert fixed_block_cycles([8, 16, 32], 1024, 32).utilisation == 1


def test_dropped_rows_take_no_time() -> None:
    result = fixed_block_cycles([0, 0], 16, 4)
    assert (result.cycles, result.weights, result.utilisation, result.index_bits_per_weight) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("kept", "entries"),
    [((0,), 1), ((15,), 1), ((16,), 2), ((31,), 2), ((32,), 3), ((3, 19), 2), ((3, 20), 3), ((3, 4), 2)],
)
def test_gaps_beyond_the_field_cost_padding_entries(kept: tuple[int, ...], entries: int) -> None:
    # a field of 4 bits counts 0 to 15 zeros in front of a weight
    result = relative_index_cycles(row(40, *kept), 1)
    assert (result.entries, result.cycles) == (entries, entries)
    assert result.weights == len(kept)


def test_lanes_wait_for_the_longest_row() -> None:
    mask = np.vstack([row(4, 0, 1, 2, 3), row(4, 0), row(4, 2), row(4, 1, 3)])
    assert relative_index_cycles(mask, 2).cycles == 4 + 2
    assert relative_index_cycles(mask, 4).cycles == 4
    assert relative_index_cycles(mask, 1).cycles == 8
    assert relative_index_cycles(mask, 2).utilisation == 8 / 12
    # 8 entries of 4 bits, 5 pointers to 0 to 8
    assert relative_index_cycles(mask, 2).index_bits == 8 * 4 + 5 * 4


def test_csr_by_hand() -> None:
    mask = np.vstack([row(10, 0, 3, 4, 9), row(10), row(10, 2)])
    result = csr_cycles(mask, 2)
    assert (result.cycles, result.weights) == (2 + 1 + 1, 5)
    assert result.index_bits == 5 * 4 + 4 * 3


@settings(deadline=None, max_examples=60)
@given(MASKS, st.integers(1, 9))
def test_what_holds_of_every_matrix(mask: NDArray[np.bool_], decoders: int) -> None:
    relative, csr = relative_index_cycles(mask, decoders), csr_cycles(mask, decoders)
    for result in (relative, csr):
        assert result.weights == mask.sum() <= result.entries
        assert 0 <= result.utilisation <= 1
        assert result.cycles >= result.entries / decoders
    assert relative.cycles >= relative_index_cycles(mask, decoders + 1).cycles or decoders + 1 < len(mask)
    assert csr.cycles >= csr_cycles(mask, decoders + 1).cycles
    assert relative_index_cycles(mask, decoders, 8).entries == mask.sum()  # no gap is wider than 255


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.integers(1, 70), st.integers(1, 9))
def test_fixed_blocks_take_as_long_as_csr_of_their_mask(
    exponents: list[int], columns: int, decoders: int
) -> None:
    sizes = [2**exponent for exponent in exponents]
    mask = np.zeros((len(sizes), columns), dtype=np.bool_)
    for index, size in enumerate(sizes):
        mask[index, ::size] = True
    fixed, csr = fixed_block_cycles(sizes, columns, decoders), csr_cycles(mask, decoders)
    assert (fixed.cycles, fixed.weights) == (csr.cycles, csr.weights)
    assert fixed.index_bits <= csr.index_bits + 3 * len(sizes)  # at most six classes


def test_an_empty_matrix_takes_a_cycle_a_row_in_csr_and_none_elsewhere() -> None:
    empty = np.zeros((3, 5), dtype=np.bool_)
    assert (relative_index_cycles(empty, 2).cycles, csr_cycles(empty, 2).cycles) == (0, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fixed_block_cycles([2], 0, 1), "columns"),
        (lambda: fixed_block_cycles([2], 4, 0), "decoders"),
        (lambda: fixed_block_cycles([-1], 4, 1), "block_sizes"),
        (lambda: relative_index_cycles(np.ones(3, dtype=np.bool_), 1), "mask"),
        (lambda: relative_index_cycles(np.ones((2, 2), dtype=np.bool_), 1, 0), "index_bits"),
        (lambda: csr_cycles(np.zeros((0, 2), dtype=np.bool_), 1), "mask"),
        (lambda: csr_cycles(np.ones((2, 2)), 1), "mask"),  # type: ignore[arg-type]
        (lambda: csr_cycles(np.ones((2, 2), dtype=np.bool_), 1.5), "decoders"),  # type: ignore[arg-type]
        (lambda: DecodeCycles(1, 3, 3, 2, 0), "no possible result"),
    ],
)
def test_malformed_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(HardwareModelError, match=message):
        call()
