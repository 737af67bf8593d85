"""How long decoders of sparse rows take: fixed blocks (DARB, AAAI 2020), relative indices, columns (CSR).

A matrix-vector product needs, for every kept weight, the input that it meets. D decoders find D of them a
cycle:

- `fixed_block_cycles`: one weight in every block of k. The t-th has column t*k + offset, a shift and an OR,
  so any D weights of a row can be decoded at once.
- `relative_index_cycles`: an entry says how many zeros precede it, so a row is one running sum and belongs to
  one decoder; a gap too wide for the field costs an entry of its own with weight zero (Deep Compression,
  EIE).
- `csr_cycles`: an entry holds its column, so any D entries of a row can be decoded at once, but rows differ
  in length and the row pointers are read first.

Cycles are no measure of area or power: a wider decoder of running sums or pointers costs more logic than a
shift. The paper's own figure of decoding efficiency, from synthesis, is nothing that this can give.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

from hw_models.errors import HardwareModelError

RELATIVE_BITS = 4
"""Width of a relative index in the published compressors: gaps of up to 15 zeros."""


@dataclass(frozen=True)
class DecodeCycles:
    """Cycles of D decoders for one matrix, and what they decoded."""

    cycles: int
    weights: int
    """Kept weights."""
    entries: int
    """Decoded entries; more than the weights where padding zeros are stored."""
    decoders: int
    index_bits: int
    """Bits of all positions: indices, pointers and block-size classes, without the values."""

    def __post_init__(self) -> None:
        if not 0 <= self.weights <= self.entries <= self.cycles * self.decoders:
            raise HardwareModelError(
                f"{self.entries} entries for {self.weights} weights in {self.cycles} cycles "
                f"of {self.decoders} decoders are no possible result"
            )

    @property
    def utilisation(self) -> float:
        """Kept weights over decoder cycles; 0 for a matrix without any."""
        return self.weights / (self.cycles * self.decoders) if self.cycles else 0.0

    @property
    def index_bits_per_weight(self) -> float:
        """Bits of position for each kept weight; 0 for a matrix without any."""
        return self.index_bits / self.weights if self.weights else 0.0


def fixed_block_cycles(block_sizes: Sequence[int], columns: int, decoders: int) -> DecodeCycles:
    """Rows whose i-th keeps one weight in each block of `block_sizes[i]` columns; 0 is a row that keeps none.

    Rows follow each other, so the last cycle of a row may leave decoders idle. Offsets take ceil(log2 k)
    bits; the size of a row's blocks is one of as many classes as occur, stored with the row.
    """
    _at_least_one(columns=columns, decoders=decoders)
    sizes = np.asarray(block_sizes)
    if sizes.ndim != 1 or not np.issubdtype(sizes.dtype, np.integer) or (sizes < 0).any():
        raise HardwareModelError("block_sizes must be a list of whole numbers of at least 0, one a row")
    kept = [ceil(columns / size) if size else 0 for size in sizes.tolist()]
    classes = _bits(len(set(sizes.tolist())))
    offsets = sum(count * _bits(min(size, columns)) for count, size in zip(kept, sizes.tolist(), strict=True))
    return DecodeCycles(
        cycles=sum(ceil(count / decoders) for count in kept),
        weights=sum(kept),
        entries=sum(kept),
        decoders=decoders,
        index_bits=offsets + classes * len(kept),
    )


def relative_index_cycles(
    mask: NDArray[np.bool_], decoders: int, index_bits: int = RELATIVE_BITS
) -> DecodeCycles:
    """Rows of `mask` (rows, columns), true where a weight is, on `decoders` lanes that take a row each.

    The lanes start their next rows together, when the longest of theirs has ended. A field of b bits counts
    up to 2^b - 1 zeros; a padding entry stands for 2^b of them. Bits include a pointer to each row.
    """
    kept = _matrix(mask)
    _at_least_one(decoders=decoders, index_bits=index_bits)
    rows, columns = np.nonzero(kept)
    first = np.r_[True, rows[1:] != rows[:-1]] if rows.size else np.zeros(0, dtype=np.bool_)
    gaps = np.where(first, columns, np.diff(columns, prepend=0) - 1)
    entries = np.bincount(rows, weights=1 + gaps // 2**index_bits, minlength=len(kept)).astype(np.int64)
    lanes = np.pad(entries, (0, -len(entries) % decoders)).reshape(-1, decoders)
    total = int(entries.sum())
    return DecodeCycles(
        cycles=int(lanes.max(axis=1).sum()),
        weights=int(kept.sum()),
        entries=total,
        decoders=decoders,
        index_bits=total * index_bits + _pointer_bits(len(kept), total),
    )


def csr_cycles(mask: NDArray[np.bool_], decoders: int) -> DecodeCycles:
    """Rows of `mask` (rows, columns), one after the other; an empty row takes the cycle that finds it empty.

    A column takes ceil(log2 columns) bits; bits include a pointer to each row.
    """
    kept = _matrix(mask)
    _at_least_one(decoders=decoders)
    entries = kept.sum(axis=1)
    total = int(entries.sum())
    return DecodeCycles(
        cycles=int(np.maximum(1, -(-entries // decoders)).sum()),
        weights=total,
        entries=total,
        decoders=decoders,
        index_bits=total * _bits(kept.shape[1]) + _pointer_bits(len(kept), total),
    )


def _matrix(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    kept = np.asarray(mask)
    if kept.ndim != 2 or kept.size == 0 or kept.dtype != np.bool_:
        raise HardwareModelError(
            f"mask must be a filled matrix of bools, not {kept.dtype} of shape {kept.shape}"
        )
    return kept


def _at_least_one(**fields: int) -> None:
    for name, value in fields.items():
        if not isinstance(value, int) or value < 1:
            raise HardwareModelError(f"{name} must be a whole number of at least 1, got {value!r}")


def _bits(choices: int) -> int:
    """Bits that tell `choices` things apart."""
    return ceil(log2(choices)) if choices > 1 else 0


def _pointer_bits(rows: int, entries: int) -> int:
    return (rows + 1) * _bits(entries + 1)
