"""Block-based column-row pruning (BCR) of GRIM (TPAMI 2022, arXiv:2108.11033).

The matrix W (P, Q) is cut into blocks of p x q. Block b keeps a set of columns C_b and a set of rows R_b,
chosen apart from every other block; its nonzeros are exactly R_b x C_b. p = q = 1 is unstructured pruning,
one block over the whole matrix is the pruning of whole rows (filters) and columns.

The best set of a block is a combinatorial problem, so the projection is greedy: column segments (a column
inside one block, p weights) of the whole layer are ranked by their l2 norm against one threshold, then row
segments (q weights) of what is left. If both steps keep the fraction 1/sqrt(rate), as the product of both
suggests, too much stays: a block that keeps many columns also wins more rows. `exact_rate` therefore
searches the fraction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from lib.rnn.partition import blocks_of, matrix_of, real
from lib.rnn.structure import check_counts, checked, kept_count, largest


@dataclass(frozen=True)
class BlockColumnRow:
    """BCR with blocks of p = `block_rows` by q = `block_columns`; ragged edges make smaller blocks.

    With `exact_rate` the kept weights reach the target to within one row segment and do not exceed it, so a
    matrix that meets the target already is left as it is; without, both steps keep 1/sqrt(rate) of all
    segments, whatever rate that comes to."""

    block_rows: int
    block_columns: int
    exact_rate: bool = True

    def __post_init__(self) -> None:
        check_counts(block_rows=self.block_rows, block_columns=self.block_columns)

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`."""
        matrix = checked(weight, rate)
        if rate == 1:
            return torch.ones_like(matrix, dtype=torch.bool)
        if not matrix.any():
            matrix = torch.ones_like(matrix)  # zeros rank nothing: they are pruned like equal weights
        greedy = _Greedy(matrix, self.block_rows, self.block_columns)
        if not self.exact_rate:
            return greedy.pattern(*greedy.cut(1 / sqrt(rate)))
        target = kept_count(matrix.numel(), rate)
        fraction = _smallest_fraction(
            lambda share: greedy.nonzeros(*greedy.cut(share)) >= target, 1 / sqrt(rate)
        )
        return greedy.pattern(*greedy.cut_to(fraction, target))


class _Greedy:
    """Squared weights in blocks and the ranking of every column segment, shared by all cuts of one matrix."""

    def __init__(self, matrix: Tensor, block_rows: int, block_columns: int) -> None:
        self.shape = rows, columns = matrix.shape[0], matrix.shape[1]
        high, wide = min(block_rows, rows), min(block_columns, columns)
        self.squares = blocks_of(matrix.square(), high, wide).contiguous()
        inside = real(rows, columns, high, wide).to(matrix.device)
        self.real_rows, self.real_columns = inside.any(dim=3), inside.any(dim=2)
        # a negative energy ranks padding behind every real segment, so that it is never kept
        self.column_energy = self.squares.sum(dim=2).where(self.real_columns, -1.0)
        order = self.column_energy.flatten().argsort(descending=True, stable=True)
        self.column_rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)).to(order))

    def cut(self, fraction: float) -> tuple[Tensor, Tensor]:
        """Kept rows (down, across, p) and columns (down, across, q) if both steps keep `fraction`.

        Segments of zeros do not count as kept: otherwise they would take the place of weights."""
        columns = self._columns(fraction)
        energy = self._row_energy(columns)
        rows = _top(energy, max(1, round(fraction * int(self.real_rows.sum()))))
        return rows & (energy > 0), columns

    def cut_to(self, fraction: float, target: int) -> tuple[Tensor, Tensor]:
        """Kept rows and columns if columns keep `fraction` and rows stay up to `target` weights."""
        columns = self._columns(fraction)
        energy = self._row_energy(columns)
        order = energy.flatten().argsort(descending=True, stable=True)[: int(self.real_rows.sum())]
        widths = columns.sum(dim=2, keepdim=True).expand_as(energy).flatten()[order]
        return _top(energy, max(1, int((widths.cumsum(0) <= target).sum()))), columns

    def nonzeros(self, rows: Tensor, columns: Tensor) -> int:
        return int((rows.sum(dim=2) * columns.sum(dim=2)).sum())

    def pattern(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The mask (P, Q) of kept rows and columns of every block."""
        return matrix_of(rows[..., :, None] & columns[..., None, :], *self.shape)

    def _columns(self, fraction: float) -> Tensor:
        count = max(1, round(fraction * int(self.real_columns.sum())))
        return (self.column_rank < count).view(self.column_energy.shape) & (self.column_energy > 0)

    def _row_energy(self, columns: Tensor) -> Tensor:
        energy = (self.squares @ columns[..., None].to(self.squares.dtype)).squeeze(-1)
        return energy.where(self.real_rows, -1.0)


def _top(energy: Tensor, count: int) -> Tensor:
    """Marks the `count` segments of most energy in the whole layer."""
    return largest(energy.flatten(), count).view(energy.shape)


def _smallest_fraction(enough: Callable[[float], bool], likely: float) -> float:
    """The smallest keep fraction that is enough, to 1/256 of itself; 1 always is, `likely` usually."""
    low, high = 0.0, likely if enough(likely) else 1.0
    while high - low > high / 256:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
