"""Rows of density-adaptive regular blocks (DARB, AAAI 2020): one survivor per block of k_i weights in row i.

Survivor t of row i lies in column t * k_i + offset. As k_i is a power of two that is a shift and an OR, with
no running sum, pointer or search; the number of survivors of a row follows from k_i, so rows need no
pointers.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hw_models.sparsity import bits_for
from lib.kernels.formats.checks import (
    FormatError,
    Indices,
    Mask,
    Matrix,
    Values,
    check_value_bits,
    checked_indices,
    checked_matrix,
    checked_shape,
    checked_values,
    indices,
    set_fields,
)


@dataclass(frozen=True, eq=False)
class Darb:
    """block_size[P]: k_i of every row, a power of two, or 0 for a row that holds nothing; offset and values,
    one for each of the ceil(Q / k_i) blocks of all rows in order. int32, float32. Raises FormatError."""

    shape: tuple[int, int]
    block_size: Indices
    offset: Indices
    values: Values

    def __post_init__(self) -> None:
        rows, columns = checked_shape(self.shape)
        block_size = _checked_sizes(self.block_size, rows)
        survivors = int(_blocks_per_row(block_size, columns).sum())
        offset = checked_indices("offset", self.offset, int(block_size.max()) or 1, survivors)
        values = checked_values("values", self.values, survivors)
        set_fields(self, block_size=block_size, offset=offset, values=values)
        row, column = self._places()
        if (offset >= block_size[row]).any():
            raise FormatError("offset must be below the block size of its row")
        if (column >= columns).any():
            raise FormatError(f"offset keeps padding beyond the last of {columns} columns")

    @classmethod
    def encode(cls, weight: Matrix, mask: Mask | None = None, *, block_size: NDArray[np.integer]) -> "Darb":
        """The weights (P, Q) that `mask` keeps, or all that are not zero, with the k_i of every row.

        A block without survivor stores a zero in its first place. Raises FormatError where a block has
        two."""
        weight, mask = checked_matrix(weight, mask)
        rows, columns = weight.shape
        if not isinstance(block_size, np.ndarray) or not np.issubdtype(block_size.dtype, np.integer):
            raise FormatError("block_size must be a numpy array of whole numbers, one for every row")
        sizes = _checked_sizes(indices(block_size), rows)
        row, column = mask.nonzero()
        size = sizes[row]
        if (size == 0).any():
            raise FormatError(f"row {row[size == 0][0]} keeps weights but has block size 0")
        starts = np.concatenate([[0], np.cumsum(_blocks_per_row(sizes, columns))])
        place = starts[row] + column // size
        if (np.diff(place) == 0).any():
            crowded = row[1:][np.diff(place) == 0][0]
            raise FormatError(f"row {crowded} keeps more than one weight in a block of {sizes[crowded]}")
        offset, values = np.zeros(starts[-1], dtype=np.int32), np.zeros(starts[-1], dtype=np.float32)
        offset[place] = column % size
        values[place] = weight[mask]
        return cls((rows, columns), sizes, offset, values)

    def decode(self) -> Matrix:
        """The matrix (P, Q), exactly."""
        matrix = np.zeros(self.shape, dtype=np.float32)
        matrix[self._places()] = self.values
        return matrix

    @property
    def index_entries(self) -> int:
        """An offset for every survivor and a class for every row."""
        return len(self.offset) + len(self.block_size)

    @cached_property
    def offset_bits(self) -> int:
        """Bits of all offsets: log2 k_i for each survivor of row i."""
        widths = np.array([bits_for(int(size)) for size in self.block_size], dtype=np.int64)
        return int((widths * _blocks_per_row(self.block_size, self.shape[1])).sum())

    @property
    def bits_per_survivor(self) -> float:
        """Mean bits of an offset, sum_i (1/k_i) log2 k_i / sum_i (1/k_i); without the rows' classes."""
        return self.offset_bits / len(self.offset) if len(self.offset) else 0.0

    def class_bits(self, grouped: bool = False) -> int:
        """Bits that tell the rows' block sizes: P * ceil(log2 classes) for rows in place; `grouped` by
        class, a permutation of P * ceil(log2 P) and a count of rows per class."""
        rows, classes = self.shape[0], len(np.unique(self.block_size))
        return rows * bits_for(rows) + classes * bits_for(rows + 1) if grouped else rows * bits_for(classes)

    @property
    def index_bits(self) -> int:
        """Bits of the offsets and of the classes of rows in place."""
        return self.offset_bits + self.class_bits()

    def value_bits(self, bits: int) -> int:
        """Bits of all values at `bits` each."""
        return len(self.values) * check_value_bits(bits)

    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of every survivor."""
        counts = _blocks_per_row(self.block_size, self.shape[1])
        row = np.repeat(np.arange(self.shape[0]), counts)
        block = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return row, block * self.block_size[row] + self.offset


def _checked_sizes(block_size: Indices, rows: int) -> Indices:
    sizes = checked_indices("block_size", block_size, 2**30 + 1, rows)
    if (sizes & (sizes - 1)).any():
        raise FormatError("block_size must hold powers of two, or 0 for a row without weights")
    return sizes


def _blocks_per_row(sizes: Indices, columns: int) -> NDArray[np.int64]:
    """Survivors of every row: ceil(Q / k_i), none where k_i is 0."""
    return np.where(sizes > 0, -(-columns // np.maximum(sizes, 1).astype(np.int64)), 0)
