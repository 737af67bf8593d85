"""Block-structured compact storage (BSPC) of RTMobile (US 12,626,131 B2, claim 4): weights, five arrays.

The claim names the arrays: register load, stride, column index, filter offset and reorder. How they are
filled is one reading, made so that the matrix can be got back: the number of inputs a group loads follows
from its strides, but where a group of rows ends follows from nothing else, so register load holds the rows
that each load serves.
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
class Bspc:
    """The P' rows that keep anything, in G groups; int32 index arrays, float32 weights. Raises FormatError.

    reorder[P']: the matrix row at each place; filter_offset[P' + 1]: where a place's weights start;
    register_load[G]: the places, at least one, that use the inputs a group has loaded; stride[G + 1]: where
    a group's list starts in column_index; weights[nnz]: place by place."""

    shape: tuple[int, int]
    reorder: Indices
    filter_offset: Indices
    register_load: Indices
    stride: Indices
    column_index: Indices
    weights: Values

    def __post_init__(self) -> None:
        rows, columns = checked_shape(self.shape)
        weights = checked_values("weights", self.weights)
        reorder = checked_indices("reorder", self.reorder, rows)
        if len(np.unique(reorder)) != len(reorder):
            raise FormatError("reorder must not name a row of the matrix twice")
        filter_offset = checked_offsets("filter_offset", self.filter_offset, len(weights), len(reorder))
        register_load = checked_indices("register_load", self.register_load, rows + 1)
        if (register_load < 1).any() or register_load.sum(dtype=np.int64) != len(reorder):
            raise FormatError(
                f"register_load must be at least 1 and add up to the {len(reorder)} stored rows"
            )
        column_index = checked_indices("column_index", self.column_index, columns)
        stride = checked_offsets("stride", self.stride, len(column_index), len(register_load))
        check_rising("column_index", column_index, stride)
        if not np.array_equal(np.diff(filter_offset), np.repeat(np.diff(stride), register_load)):
            raise FormatError("filter_offset must give every row as many weights as its group has columns")
        set_fields(self, weights=weights, reorder=reorder, filter_offset=filter_offset)
        set_fields(self, register_load=register_load, stride=stride, column_index=column_index)

    @classmethod
    def encode(cls, weight: Matrix, mask: Mask | None = None) -> "Bspc":
        """The weights (P, Q) that `mask` keeps, or all that are not zero. Raises FormatError."""
        weight, mask = checked_matrix(weight, mask)
        groups = [group for group in group_rows(mask) if len(group.columns)]
        heights = [len(group.rows) for group in groups]
        widths = [len(group.columns) for group in groups]
        kernels = [weight[np.ix_(group.rows, group.columns)].ravel() for group in groups]
        return cls(
            shape=(weight.shape[0], weight.shape[1]),
            reorder=indices(np.concatenate([[], *(group.rows for group in groups)])),
            filter_offset=offsets(np.repeat(widths, heights)),
            register_load=indices(heights),
            stride=offsets(widths),
            column_index=indices(np.concatenate([[], *(group.columns for group in groups)])),
            weights=np.concatenate([np.zeros(0, dtype=np.float32), *kernels]),
        )

    def decode(self) -> Matrix:
        """The matrix (P, Q), exactly."""
        matrix = np.zeros(self.shape, dtype=np.float32)
        place = 0
        for group, height in enumerate(self.register_load):
            rows = self.reorder[place : place + height]
            columns = self.column_index[self.stride[group] : self.stride[group + 1]]
            kernel = self.weights[self.filter_offset[place] : self.filter_offset[place + height]]
            matrix[np.ix_(rows, columns)] = kernel.reshape(len(rows), len(columns))
            place += height
        return matrix

    @property
    def groups(self) -> int:
        """G, the different lists of kept columns."""
        return len(self.register_load)

    @property
    def index_entries(self) -> int:
        """Entries of all five arrays."""
        return 2 * len(self.reorder) + 1 + 2 * self.groups + 1 + len(self.column_index)

    @cached_property
    def index_bits(self) -> int:
        """Reorder log2 P, filter offsets log2(nnz + 1), register loads log2(P + 1), strides log2(sum m_g +
        1), columns log2 Q, each rounded up."""
        (rows, columns), stored, lists = self.shape, len(self.reorder), len(self.column_index)
        return (
            stored * bits_for(rows)
            + (stored + 1) * bits_for(len(self.weights) + 1)
            + self.groups * bits_for(rows + 1)
            + (self.groups + 1) * bits_for(lists + 1)
            + lists * bits_for(columns)
        )

    def value_bits(self, bits: int) -> int:
        """Bits of all values at `bits` each."""
        return len(self.weights) * check_value_bits(bits)
