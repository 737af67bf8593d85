"""What all storage formats share: their interface, their error, and the checks their arrays must pass.

Generated kernels read these arrays without looking again, so an array that has been checked is kept as a copy
that nobody can write to.

Widths of fields are those of `hw_models.sparsity.bits_for`. An offset into n values lies between 0 and n and
so needs bits_for(n + 1); papers write log2(n), which is the same except where n is a power of two.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lib.errors import ReproError

Matrix = NDArray[np.float32]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int32]
Values = NDArray[np.float32]


class FormatError(ReproError):
    """The arrays of a stored matrix are not what they must be, or a matrix cannot be stored as asked."""


class Format(Protocol):
    """A stored sparse matrix (P, Q)."""

    @property
    def shape(self) -> tuple[int, int]:
        """P rows (outputs) and Q columns (inputs)."""

    @property
    def index_entries(self) -> int:
        """Entries of the index arrays, as the paper of the format counts them."""

    @property
    def index_bits(self) -> int:
        """Bits of everything that is not a value, each entry in the narrowest field that holds its array."""

    def value_bits(self, bits: int) -> int:
        """Bits of all stored values (padding among them) at `bits` each."""

    def decode(self) -> Matrix:
        """The matrix (P, Q), exactly."""


def checked_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Fails unless `shape` is two whole numbers of at least 1 that 32-bit indices can address."""
    if not isinstance(shape, tuple) or len(shape) != 2 or not all(type(side) is int for side in shape):
        raise FormatError(f"shape must be two whole numbers, got {shape!r}")
    if min(shape) < 1 or max(shape) > np.iinfo(np.int32).max:
        raise FormatError(f"the sides of a matrix must lie between 1 and 2^31 - 1, got {shape}")
    return shape


def checked_matrix(weight: Any, mask: Any = None) -> tuple[Matrix, Mask]:
    """The weights to store, and which of them: those of `mask`, or all that are not zero.

    Raises FormatError unless the weight is a filled, finite float32 matrix and the mask a bool one of its
    shape."""
    if not _plain(weight) or weight.dtype != np.float32:
        kind = weight.dtype if _plain(weight) else type(weight).__name__
        raise FormatError(f"weight must be a numpy array of float32, got {kind}")
    if weight.ndim != 2 or weight.size == 0:
        raise FormatError(f"weight must be a filled matrix (P, Q), got shape {weight.shape}")
    if not np.isfinite(weight).all():
        raise FormatError("weight holds values that are not finite")
    if mask is None:
        return weight, weight != 0
    if not _plain(mask) or mask.dtype != np.bool_ or mask.shape != weight.shape:
        raise FormatError(f"mask must be a numpy array of bool in the weight's shape {weight.shape}")
    return weight, mask


def checked_indices(name: str, array: Any, below: int, length: int | None = None) -> Indices:
    """A read-only copy of an index array whose entries lie between 0 and `below` - 1."""
    _check_array(name, array, np.dtype(np.int32), length)
    if array.size and (array.min() < 0 or array.max() >= below):
        raise FormatError(f"{name} must lie between 0 and {below - 1}, found {array.min()} to {array.max()}")
    return _frozen(array)


def checked_offsets(name: str, array: Any, total: int, count: int | None = None) -> Indices:
    """A read-only copy of offsets that start at 0, never fall, and end at `total`, for `count` lists."""
    _check_array(name, array, np.dtype(np.int32), None if count is None else count + 1)
    steps = np.diff(array.astype(np.int64))
    if not len(array) or array[0] != 0 or array[-1] != total or (steps < 0).any():
        raise FormatError(f"{name} must start at 0, never fall and end at {total}, the entries it divides")
    return _frozen(array)


def checked_values(name: str, array: Any, length: int | None = None) -> Values:
    """A read-only copy of an array of finite weights."""
    _check_array(name, array, np.dtype(np.float32), length)
    if not np.isfinite(array).all():
        raise FormatError(f"{name} holds values that are not finite")
    return _frozen(array)


def check_rising(name: str, columns: Indices, offsets: Indices) -> None:
    """Fails unless the columns of every stretch between two offsets rise, none of them twice."""
    inside = np.ones(max(len(columns) - 1, 0), dtype=np.bool_)
    starts = offsets[(offsets > 0) & (offsets < len(columns))]
    inside[starts - 1] = False
    if (np.diff(columns)[inside] <= 0).any():
        raise FormatError(f"{name} must rise within each list, no column twice")


def check_value_bits(bits: int) -> int:
    """Fails unless `bits` is a whole number of at least 1."""
    if isinstance(bits, bool) or not isinstance(bits, int) or bits < 1:
        raise FormatError(f"bits of a value must be a whole number of at least 1, got {bits!r}")
    return bits


def indices(values: Any) -> Indices:
    """An index array of the type that formats store. Raises FormatError if 32 bits cannot hold it."""
    array, limits = np.asarray(values), np.iinfo(np.int32)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise FormatError("an index does not fit in 32 bits: store parts of the matrix")
    return array.astype(np.int32)


def offsets(lengths: Any) -> Indices:
    """Where stretches of these lengths start, and where the last one ends."""
    return indices(np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))]))


def set_fields(instance: object, **fields: object) -> None:
    """Puts checked arrays into a frozen dataclass that is being made."""
    for name, value in fields.items():
        object.__setattr__(instance, name, value)


def _check_array(name: str, array: Any, dtype: np.dtype[Any], length: int | None) -> None:
    if not _plain(array) or array.dtype != dtype or array.ndim != 1:
        kind = f"{array.dtype} {array.shape}" if _plain(array) else type(array).__name__
        raise FormatError(f"{name} must be a one-dimensional numpy array of {dtype}, got {kind}")
    if not array.flags.c_contiguous:
        raise FormatError(f"{name} must be contiguous in memory: pass numpy.ascontiguousarray({name})")
    if length is not None and len(array) != length:
        raise FormatError(f"{name} must have {length} entries, got {len(array)}")


def _plain(array: Any) -> bool:
    # a masked array hides entries from min, max and isfinite, but not from a kernel that reads its memory
    return isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)


def _frozen(array: Any) -> Any:
    copy = array.copy()
    copy.flags.writeable = False
    return copy
