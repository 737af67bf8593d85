"""What every storage format must do: give the matrix back exactly, count its index, refuse corrupt arrays."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lib.errors import ReproError
from lib.kernels.formats.bcrc import Bcrc
from lib.kernels.formats.bspc import Bspc
from lib.kernels.formats.checks import Format, FormatError
from lib.kernels.formats.csb import Csb
from lib.kernels.formats.csr import Csr
from lib.kernels.formats.darb import Darb
from lib.kernels.formats.relative import Relative
from tests.kernels.formats.parts import ENCODERS, corruptions, sparse

Encode = Callable[[NDArray[np.float32]], Format]
EVERY = pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS.keys())
SIDE = st.integers(1, 40)

# the first index out of range of each array of a stored 10 x 20 matrix, where it has one
TOPS = {
    "column_index": 20,
    "compact_column": 20,
    "reorder": 10,
    "gap": 16,
    "row_index": 3,
    "kernel_rows": 4,
    "kernel_columns": 5,
    "offset": 2,
}


@EVERY
@settings(deadline=None, max_examples=40)
@given(SIDE, SIDE, st.floats(0, 1), st.integers(0, 9))
def test_round_trip(encode: Encode, rows: int, columns: int, density: float, seed: int) -> None:
    weight = sparse(rows, columns, density, seed)
    stored = encode(weight)
    decoded = stored.decode()
    assert decoded.dtype == np.float32
    assert decoded.flags.c_contiguous
    assert np.array_equal(decoded, weight)
    assert stored.shape == (rows, columns)
    assert stored.index_entries >= 0
    assert stored.index_bits >= 0
    assert stored.value_bits(16) >= 16 * np.count_nonzero(weight)


@EVERY
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (7, 13), (64, 64)])
def test_empty_and_full_matrices(encode: Encode, shape: tuple[int, int]) -> None:
    for weight in (np.zeros(shape, dtype=np.float32), np.ones(shape, dtype=np.float32)):
        assert np.array_equal(encode(weight).decode(), weight)


@EVERY
def test_empty_rows_columns_and_blocks(encode: Encode) -> None:
    weight = sparse(17, 23, 0.6)
    weight[[0, 5, 16]] = 0
    weight[:, [0, 9, 22]] = 0
    weight[3:6, 4:8] = 0
    assert np.array_equal(encode(weight).decode(), weight)


@EVERY
def test_matrix_in_another_order_of_memory(encode: Encode) -> None:
    weight = sparse(12, 30)
    for view in (weight.T, weight[::-1, ::3], np.asfortranarray(weight)):
        assert np.array_equal(encode(view).decode(), view)


@pytest.mark.parametrize(
    "encode", [Csr.encode, Relative.encode, Bspc.encode, Bcrc.encode], ids=["csr", "relative", "bspc", "bcrc"]
)
def test_mask_says_what_is_stored(encode: Callable[..., Format]) -> None:
    weight = np.arange(24, dtype=np.float32).reshape(4, 6)  # the first weight is zero and kept all the same
    mask = np.arange(24).reshape(4, 6) % 5 == 0
    stored = encode(weight, mask)
    assert np.array_equal(stored.decode(), weight * mask)
    assert stored.value_bits(1) == mask.sum()


@EVERY
def test_stored_arrays_are_copies_that_cannot_be_written(encode: Encode) -> None:
    stored = encode(sparse(10, 20))
    arrays = [getattr(stored, field.name) for field in fields(stored)]  # type: ignore[arg-type]
    for array in (array for array in arrays if isinstance(array, np.ndarray)):
        assert not array.flags.writeable
    given_ = np.ones(1, dtype=np.float32)
    one = np.zeros(1, dtype=np.int32)
    kept = Csr((1, 1), np.array([0, 1], dtype=np.int32), one, given_)
    given_[0] = one[0] = 7
    assert kept.decode().tolist() == [[1]]


@EVERY
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros((2, 2)), "float32"),
        (np.zeros((2, 2), dtype=np.float16), "float32"),
        (np.zeros((2, 2), dtype=np.int32), "float32"),
        ([[1.0, 2.0]], "float32"),
        (np.zeros(3, dtype=np.float32), "filled matrix"),
        (np.zeros((2, 2, 2), dtype=np.float32), "filled matrix"),
        (np.zeros((0, 4), dtype=np.float32), "filled matrix"),
        (np.zeros((4, 0), dtype=np.float32), "filled matrix"),
        (np.full((2, 2), np.nan, dtype=np.float32), "not finite"),
        (np.full((2, 2), -np.inf, dtype=np.float32), "not finite"),
        (np.ma.masked_invalid(np.full((2, 2), np.nan, dtype=np.float32)), "MaskedArray"),
    ],
)
def test_malformed_weights_are_refused(encode: Encode, weight: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        encode(weight)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((2, 3), dtype=bool),
        np.ones((2, 2)),
        [[True, True], [True, True]],
        np.ones(4, dtype=bool),
        np.ma.masked_array(np.ones((2, 2), dtype=bool), mask=np.eye(2, dtype=bool)),
    ],
)
def test_malformed_masks_are_refused(mask: Any) -> None:
    with pytest.raises(FormatError, match="mask must be"):
        Csr.encode(np.ones((2, 2), dtype=np.float32), mask)


def stored_matrices() -> dict[str, Format]:
    """One 10 x 20 matrix in each format, no array of which is empty or constant."""
    weight = sparse(10, 20, 0.4, seed=3)
    weight[4] = 0
    halves = np.zeros((10, 20), dtype=np.float32)
    halves[:, 1::2] = 1
    return {
        "csr": Csr.encode(weight),
        "relative": Relative.encode(weight),
        "bspc": Bspc.encode(weight),
        "bcrc": Bcrc.encode(weight),
        "csb": Csb.encode(weight, block=(3, 4)),
        "darb": Darb.encode(halves, block_size=np.full(10, 2, dtype=np.int32)),
    }


def corrupt_arrays() -> list[Any]:
    return [
        pytest.param(stored, field.name, name, wrong, id=f"{format_}, {field.name}: {name}")
        for format_, stored in stored_matrices().items()
        for field in fields(stored)  # type: ignore[arg-type]
        if isinstance(array := getattr(stored, field.name), np.ndarray)
        for name, wrong in corruptions(array, TOPS.get(field.name)).items()
    ]


@pytest.mark.parametrize(("stored", "field", "name", "wrong"), corrupt_arrays())
def test_corrupt_arrays_are_refused(stored: Any, field: str, name: str, wrong: Any) -> None:
    with pytest.raises(FormatError) as caught:
        replace(stored, **{field: wrong})
    assert isinstance(caught.value, ReproError)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("stored", stored_matrices().values(), ids=stored_matrices().keys())
@pytest.mark.parametrize(
    "shape",
    [(0, 20), (10, -20), (10, 2**31), (10.0, 20), (10,), (True, 20), None, [10, 20], (9, 20), (10, 3)],
)
def test_corrupt_shapes_are_refused(stored: Any, shape: Any) -> None:
    with pytest.raises(FormatError):
        replace(stored, shape=shape)


@EVERY
@pytest.mark.parametrize("bits", [0, -8, 1.5, True])
def test_malformed_value_bits_are_refused(encode: Encode, bits: Any) -> None:
    with pytest.raises(FormatError, match="bits"):
        encode(sparse(3, 3)).value_bits(bits)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_changed_index_is_refused_or_decodes(data: st.DataObject) -> None:
    """Whatever a constructor accepts must decode inside the matrix."""
    stored = data.draw(st.sampled_from(list(stored_matrices().values())))
    names = [
        field.name
        for field in fields(stored)  # type: ignore[arg-type]
        if getattr(getattr(stored, field.name), "dtype", None) == np.int32
    ]
    name = data.draw(st.sampled_from(names))
    array = getattr(stored, name).copy()
    array[data.draw(st.integers(0, len(array) - 1))] = data.draw(st.integers(-2, 25))
    try:
        changed = replace(stored, **{name: array})  # type: ignore[type-var]
    except FormatError:
        return
    assert changed.decode().shape == (10, 20)
