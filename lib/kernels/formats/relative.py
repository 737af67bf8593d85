"""Relative indices, as in Deep Compression (ICLR 2016) and EIE (ISCA 2016): each entry of a row says how many
zeros lie before it.

The gap has a field of b bits, so at most 2^b - 1 zeros fit; a longer run is broken by a stored zero (4 bits:
one padding zero after every 15). Columns come out of a running sum, one after the other.
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
class Relative:
    """Row i holds the entries `row_pointer[i]` to `row_pointer[i + 1]`: `gap` zeros, then one of `values`.

    `gap` (int32) is below 2^`field_bits`; no row reaches beyond its last column. Raises FormatError."""

    shape: tuple[int, int]
    row_pointer: Indices
    gap: Indices
    values: Values
    field_bits: int = 4

    def __post_init__(self) -> None:
        rows, columns = checked_shape(self.shape)
        values = checked_values("values", self.values)
        gap = checked_indices("gap", self.gap, _longest(self.field_bits) + 1, len(values))
        row_pointer = checked_offsets("row_pointer", self.row_pointer, len(values), rows)
        set_fields(self, values=values, gap=gap, row_pointer=row_pointer)
        if (self._columns() >= columns).any():
            raise FormatError(f"gap leads beyond the last of {columns} columns")

    @classmethod
    def encode(cls, weight: Matrix, mask: Mask | None = None, field_bits: int = 4) -> "Relative":
        """The weights (P, Q) that `mask` keeps, or all that are not zero, padded. Raises FormatError."""
        weight, mask = checked_matrix(weight, mask)
        span = _longest(field_bits) + 1
        row, column = mask.nonzero()
        before = np.concatenate([[-1], column[:-1]])
        before[np.diff(row, prepend=-1) != 0] = -1
        zeros = column - before - 1
        padding = zeros // span
        last = np.cumsum(padding + 1) - 1  # where the real entries lie among all
        gap = np.full(len(row) + int(padding.sum()), span - 1)
        gap[last] = zeros % span
        values = np.zeros(len(gap), dtype=np.float32)
        values[last] = weight[mask]
        lengths = np.bincount(row, weights=padding + 1, minlength=len(weight))
        return cls((weight.shape[0], weight.shape[1]), offsets(lengths), indices(gap), values, field_bits)

    def decode(self) -> Matrix:
        """The matrix (P, Q), exactly."""
        matrix = np.zeros(self.shape, dtype=np.float32)
        matrix[np.repeat(np.arange(self.shape[0]), np.diff(self.row_pointer)), self._columns()] = self.values
        return matrix

    @property
    def index_entries(self) -> int:
        """A gap for every entry, padding among them, and P + 1 pointers."""
        return len(self.gap) + len(self.row_pointer)

    @cached_property
    def index_bits(self) -> int:
        """entries * field_bits + (P + 1) * ceil(log2(entries + 1))."""
        return len(self.gap) * self.field_bits + len(self.row_pointer) * bits_for(len(self.gap) + 1)

    def value_bits(self, bits: int) -> int:
        """Bits of all values at `bits` each; a padding zero costs as much as a weight."""
        return len(self.values) * check_value_bits(bits)

    def _columns(self) -> np.ndarray:
        """Column of every entry: the running sum of its row."""
        steps = self.gap.astype(np.int64) + 1
        sums = np.concatenate([[0], np.cumsum(steps)])
        starts = np.repeat(sums[self.row_pointer[:-1]], np.diff(self.row_pointer))
        return sums[1:] - starts - 1


def _longest(field_bits: int) -> int:
    """The longest gap of a field. Raises FormatError for a field that is not 1 to 16 bits wide."""
    if isinstance(field_bits, bool) or not isinstance(field_bits, int) or not 1 <= field_bits <= 16:
        raise FormatError(f"field_bits must be a whole number from 1 to 16, got {field_bits!r}")
    return 2**field_bits - 1
