"""Blocked compact row-column storage (BCRC) of GRIM (TPAMI 2022, arXiv:2108.11033).

Rows are reordered so that rows with the same list of kept columns lie side by side; the list is then stored
once for all of them. The arrays below are one reading of it.
A list belongs to a whole row: where several blocks lie side by side and choose their rows apart, few rows
share one, unless each vertical panel of blocks is stored as a matrix of its own.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hw_models.sparsity import bits_for
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
    checked_offsets,
    checked_shape,
    checked_values,
    indices,
    offsets,
    set_fields,
)
from lib.kernels.formats.grouping import group_rows


@dataclass(frozen=True, eq=False)
class Bcrc:
    """All P rows in G groups; int32 index arrays, float32 weights. Raises FormatError.

    reorder[P]: the matrix row at each place; row_offset[P + 1]: where a place's weights start;
    occurrence[G + 1]: the places of each group; column_stride[G + 1]: where a group's list starts in
    compact_column; weights[nnz]: place by place."""

    shape: tuple[int, int]
    reorder: Indices
    row_offset: Indices
    occurrence: Indices
    column_stride: Indices
    compact_column: Indices
    weights: Values

    def __post_init__(self) -> None:
        rows, columns = checked_shape(self.shape)
        weights = checked_values("weights", self.weights)
        reorder = checked_indices("reorder", self.reorder, rows, rows)
        if len(np.unique(reorder)) != rows:
            raise FormatError("reorder must name every row of the matrix once")
        row_offset = checked_offsets("row_offset", self.row_offset, len(weights), rows)
        compact_column = checked_indices("compact_column", self.compact_column, columns)
        occurrence = checked_offsets("occurrence", self.occurrence, rows)
        lists, groups = len(compact_column), len(occurrence) - 1
        column_stride = checked_offsets("column_stride", self.column_stride, lists, groups)
        check_rising("compact_column", compact_column, column_stride)
        if not np.array_equal(np.diff(row_offset), np.repeat(np.diff(column_stride), np.diff(occurrence))):
            raise FormatError("row_offset must give every row as many weights as its group has columns")
        set_fields(self, weights=weights, reorder=reorder, row_offset=row_offset, occurrence=occurrence)
        set_fields(self, column_stride=column_stride, compact_column=compact_column)

    @classmethod
    def encode(cls, weight: Matrix, mask: Mask | None = None) -> "Bcrc":
        """The weights (P, Q) that `mask` keeps, or all that are not zero. Raises FormatError."""
        weight, mask = checked_matrix(weight, mask)
        groups = group_rows(mask)
        heights = [len(group.rows) for group in groups]
        widths = [len(group.columns) for group in groups]
        return cls(
            shape=(weight.shape[0], weight.shape[1]),
            reorder=np.concatenate([group.rows for group in groups]),
            row_offset=offsets(np.repeat(widths, heights)),
            occurrence=offsets(heights),
            column_stride=offsets(widths),
            compact_column=indices(np.concatenate([group.columns for group in groups])),
            weights=np.concatenate([weight[np.ix_(group.rows, group.columns)].ravel() for group in groups]),
        )

    def decode(self) -> Matrix:
        """The matrix (P, Q), exactly."""
        matrix = np.zeros(self.shape, dtype=np.float32)
        for group in range(self.groups):
            rows = self.reorder[self.occurrence[group] : self.occurrence[group + 1]]
            columns = self.compact_column[self.column_stride[group] : self.column_stride[group + 1]]
            start = self.row_offset[self.occurrence[group]]
            kernel = self.weights[start : start + len(rows) * len(columns)]
            matrix[np.ix_(rows, columns)] = kernel.reshape(len(rows), len(columns))
        return matrix

    @property
    def groups(self) -> int:
        """G, the different lists of kept columns."""
        return len(self.occurrence) - 1

    @property
    def index_entries(self) -> int:
        """Entries of all five index arrays."""
        return len(self.reorder) + len(self.row_offset) + 2 * (self.groups + 1) + len(self.compact_column)

    @cached_property
    def index_bits(self) -> int:
        """Reorder log2 P, row offsets log2(nnz + 1), occurrences log2(P + 1), strides log2(sum m_g + 1),
        columns log2 Q, each rounded up."""
        (rows, columns), lists = self.shape, len(self.compact_column)
        return (
            rows * bits_for(rows)
            + (rows + 1) * bits_for(len(self.weights) + 1)
            + (self.groups + 1) * (bits_for(rows + 1) + bits_for(lists + 1))
            + lists * bits_for(columns)
        )

    def value_bits(self, bits: int) -> int:
        """Bits of all values at `bits` each."""
        return len(self.weights) * check_value_bits(bits)
