"""The five arrays of CSB-RNN (ICS 2020, section 4.1): a dense kernel in every block.

A matrix is cut into blocks of N rows and M columns, visited row by row of blocks; a side that N or M does not
divide ends in blocks that are partly padding, which holds nothing. There are no offsets per block: access is
sequential. Counts of entries and bits are those of `hw_models.csb`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hw_models.csb import CsbMatrix, Storage
from lib.kernels.formats.checks import (
    FormatError,
    Indices,
    Mask,
    Matrix,
    Values,
    check_rising,
    check_value_bits,
    checked_indices,
    checked_matrix,
    checked_shape,
    checked_values,
    indices,
    offsets,
    set_fields,
)

LONGEST = 2**16
"""Longest side of a block: positions inside it take at most 16 bits."""


@dataclass(frozen=True, eq=False)
class Csb:
    """Blocks of (N, M) = `block`; int32 index arrays, float32 values. Raises FormatError.

    kernel_rows[blocks] and kernel_columns[blocks]: n_b and m_b, both 0 or neither; row_index[sum n_b] and
    column_index[sum m_b]: kept positions inside the block, rising; values[sum n_b m_b]: row by row of each
    block."""

    shape: tuple[int, int]
    block: tuple[int, int]
    kernel_rows: Indices
    kernel_columns: Indices
    row_index: Indices
    column_index: Indices
    values: Values

    def __post_init__(self) -> None:
        rows, columns = checked_shape(self.shape)
        high, wide = _checked_block(self.block)
        down, across = -(-rows // high), -(-columns // wide)
        kernel_rows = checked_indices("kernel_rows", self.kernel_rows, high + 1, down * across)
        kernel_columns = checked_indices("kernel_columns", self.kernel_columns, wide + 1, down * across)
        if ((kernel_rows == 0) != (kernel_columns == 0)).any():
            raise FormatError(
                "a block keeps rows and columns or neither: kernel_rows and kernel_columns differ"
            )
        row_index = checked_indices("row_index", self.row_index, high, int(kernel_rows.sum(dtype=np.int64)))
        entries = int(kernel_columns.sum(dtype=np.int64))
        column_index = checked_indices("column_index", self.column_index, wide, entries)
        check_rising("row_index", row_index, offsets(kernel_rows))
        check_rising("column_index", column_index, offsets(kernel_columns))
        nonzeros = int((kernel_rows.astype(np.int64) * kernel_columns).sum())
        values = checked_values("values", self.values, nonzeros)
        block_row, block_column = np.divmod(np.arange(down * across), across)
        if (np.repeat(block_row, kernel_rows) * high + row_index >= rows).any():
            raise FormatError(f"row_index keeps padding below the last of {rows} rows")
        if (np.repeat(block_column, kernel_columns) * wide + column_index >= columns).any():
            raise FormatError(f"column_index keeps padding beyond the last of {columns} columns")
        set_fields(self, kernel_rows=kernel_rows, kernel_columns=kernel_columns)
        set_fields(self, row_index=row_index, column_index=column_index, values=values)

    @classmethod
    def encode(cls, weight: Matrix, mask: Mask | None = None, *, block: tuple[int, int]) -> "Csb":
        """The weights (P, Q) that `mask` keeps, in blocks of (N, M) = `block`.

        Raises FormatError for a mask that is not rows by columns in every block. Without one, a block keeps
        the rows and columns that hold anything, zeros where they cross included."""
        weight, chosen = checked_matrix(weight, mask)
        high, wide = _checked_block(block)
        fitted = min(high, weight.shape[0]), min(wide, weight.shape[1])  # one block holds no more than all
        parts = _blocks(chosen, *fitted)
        rows, columns = np.logical_or.reduce(parts, axis=3), np.logical_or.reduce(parts, axis=2)
        kernels = rows[..., :, None] & columns[..., None, :]
        if mask is not None and not np.array_equal(kernels, parts):
            i, j = np.argwhere((kernels != parts).any(axis=(2, 3)))[0]
            raise FormatError(f"the mask is not rows by columns in block ({i}, {j}) of size {high} x {wide}")
        return cls(
            shape=(weight.shape[0], weight.shape[1]),
            block=(high, wide),
            kernel_rows=indices(rows.sum(axis=2).ravel()),
            kernel_columns=indices(columns.sum(axis=2).ravel()),
            row_index=indices(rows.nonzero()[2]),
            column_index=indices(columns.nonzero()[2]),
            values=_blocks(weight, *fitted)[kernels],
        )

    def decode(self) -> Matrix:
        """The matrix (P, Q), exactly."""
        # a block keeps no padding: of one beyond the matrix its part inside is all
        rows = self.pattern.kept_rows[..., : self.shape[0]]
        columns = self.pattern.kept_columns[..., : self.shape[1]]
        kernels = rows[..., :, None] & columns[..., None, :]
        down, across, high, wide = kernels.shape
        blocks = np.zeros(kernels.shape, dtype=np.float32)
        blocks[kernels] = self.values
        matrix = blocks.transpose(0, 2, 1, 3).reshape(down * high, across * wide)
        return np.ascontiguousarray(matrix[: self.shape[0], : self.shape[1]])

    @cached_property
    def pattern(self) -> CsbMatrix:
        """Kept rows and columns of every block, as the models of the accelerator take them."""
        (rows, columns), (high, wide) = self.shape, self.block
        grid = (-(-rows // high), -(-columns // wide))
        kept_rows = _marked(self.kernel_rows, self.row_index, high).reshape(*grid, high)
        kept_columns = _marked(self.kernel_columns, self.column_index, wide).reshape(*grid, wide)
        return CsbMatrix(rows, columns, kept_rows, kept_columns)

    def storage(self, bits: int = 16) -> Storage:
        """Entries and bits of each array with values of `bits` bits."""
        return self.pattern.storage(check_value_bits(bits))

    @property
    def index_entries(self) -> int:
        """Row and column indices. As in the paper's index overhead, n[] and m[] are not among them."""
        return len(self.row_index) + len(self.column_index)

    @cached_property
    def index_bits(self) -> int:
        """Both sizes of every block and all row and column indices: everything that is not a value."""
        storage = self.storage()
        return storage.size_bits + storage.index_bits

    def value_bits(self, bits: int) -> int:
        """Bits of all values at `bits` each."""
        return len(self.values) * check_value_bits(bits)


def _checked_block(block: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(block, tuple) or len(block) != 2 or not all(type(side) is int for side in block):
        raise FormatError(f"block must be two whole numbers (N, M), got {block!r}")
    if min(block) < 1 or max(block) > LONGEST:
        raise FormatError(f"block must lie between 1 and {LONGEST} on each side, got {block}")
    return block


def _blocks(matrix: NDArray, high: int, wide: int) -> NDArray:
    """The padded blocks (down, across, N, M) of a matrix."""
    rows, columns = matrix.shape
    padded = np.pad(matrix, ((0, -rows % high), (0, -columns % wide)))
    return padded.reshape(padded.shape[0] // high, high, -1, wide).transpose(0, 2, 1, 3)


def _marked(counts: Indices, positions: Indices, length: int) -> Mask:
    """For every block, which of `length` positions it keeps: bool (blocks, length)."""
    marks = np.zeros((len(counts), length), dtype=np.bool_)
    marks[np.repeat(np.arange(len(counts)), counts), positions] = True
    return marks
