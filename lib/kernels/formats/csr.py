"""Compressed sparse rows: a column for every nonzero, a pointer for every row."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hw_models.sparsity import bits_for
from lib.kernels.formats.checks import (
    Indices,
    Mask,
    Matrix,
    Values,
    check_rising,
    check_value_bits,
    checked_indices,
    checked_matrix,
    checked_offsets,
    checked_shape,
    checked_values,
    indices,
    offsets,
    set_fields,
)


@dataclass(frozen=True, eq=False)
class Csr:
    """Row i holds `values[row_pointer[i]:row_pointer[i + 1]]` at those columns of `column_index`.

    `column_index` and `row_pointer` are int32, `values` float32; columns rise within a row.
    Raises FormatError."""

    shape: tuple[int, int]
    row_pointer: Indices
    column_index: Indices
    values: Values

    def __post_init__(self) -> None:
        rows, columns = checked_shape(self.shape)
        values = checked_values("values", self.values)
        column_index = checked_indices("column_index", self.column_index, columns, len(values))
        row_pointer = checked_offsets("row_pointer", self.row_pointer, len(values), rows)
        check_rising("column_index", column_index, row_pointer)
        set_fields(self, values=values, column_index=column_index, row_pointer=row_pointer)

    @classmethod
    def encode(cls, weight: Matrix, mask: Mask | None = None) -> "Csr":
        """The weights (P, Q) that `mask` keeps, or all that are not zero. Raises FormatError."""
        weight, mask = checked_matrix(weight, mask)
        return cls(
            (weight.shape[0], weight.shape[1]),
            offsets(mask.sum(axis=1)),
            indices(mask.nonzero()[1]),
            weight[mask],
        )

    def decode(self) -> Matrix:
        """The matrix (P, Q), exactly."""
        matrix = np.zeros(self.shape, dtype=np.float32)
        matrix[np.repeat(np.arange(self.shape[0]), np.diff(self.row_pointer)), self.column_index] = (
            self.values
        )
        return matrix

    @property
    def index_entries(self) -> int:
        """nnz columns and P + 1 pointers."""
        return len(self.column_index) + len(self.row_pointer)

    @cached_property
    def index_bits(self) -> int:
        """nnz * ceil(log2 Q) + (P + 1) * ceil(log2(nnz + 1))."""
        nonzeros = len(self.values)
        return nonzeros * bits_for(self.shape[1]) + len(self.row_pointer) * bits_for(nonzeros + 1)

    def value_bits(self, bits: int) -> int:
        """Bits of all values at `bits` each."""
        return len(self.values) * check_value_bits(bits)
