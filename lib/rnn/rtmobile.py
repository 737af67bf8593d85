"""Block-based structured pruning (BSP) of RTMobile (DAC 2020, arXiv:2002.11474; US 12,626,131 B2, claim 1).

The matrix W (P, Q) is cut into Num_r horizontal strips, each strip into Num_c blocks.
  Step 1, "row-based column block pruning": every block keeps at most kappa_c of its columns (set S1).
  Step 2, "column-based row pruning": of what is left, the kappa_r rows of largest norm stay whole (set S2).
Each step is trained as a problem of its own, so each projection is exact; `BlockStructured` with a row rate
of 1 is the first step, `lib.rnn.baselines.Rows` on its result is the second. The rate of both is r_c * r_r.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.rnn.partition import even_parts
from lib.rnn.structure import check_counts, checked, kept_count, largest


@dataclass(frozen=True)
class BlockStructured:
    """BSP in `strips` (Num_r) times `blocks_per_strip` (Num_c) blocks that are as even as whole rows allow.

    Rows are pruned at `row_rate` (r_r) or at the whole rate, if that is less; columns at the rest of it. With
    `exact_rate` kappa_c is the target's fraction rounded up in some blocks and down in others (up where the
    next column is largest) and the number of rows, if rows are pruned, makes up for what is left; without,
    kappa_c and kappa_r are rounded for all blocks alike, as printed."""

    strips: int
    blocks_per_strip: int
    row_rate: float = 1.0
    exact_rate: bool = True

    def __post_init__(self) -> None:
        check_counts(strips=self.strips, blocks_per_strip=self.blocks_per_strip)
        if not self.row_rate >= 1:
            raise WrongUse(f"row_rate must be at least 1, got {self.row_rate}")

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`.

        Raises WrongUse also when the matrix has fewer rows than strips or fewer columns than blocks."""
        matrix = checked(weight, rate)
        row_rate = min(self.row_rate, rate)
        columns = self._columns(matrix, rate / row_rate)
        if row_rate == 1:
            return columns
        energy = (matrix * columns).square().sum(dim=1)
        if not self.exact_rate:
            return columns & largest(energy, kept_count(len(energy), row_rate))[:, None]
        order = energy.argsort(descending=True, stable=True)
        reached = columns.sum(dim=1)[order].cumsum(0)
        rows = int((reached - kept_count(matrix.numel(), rate)).abs().argmin()) + 1
        return columns & largest(energy, rows)[:, None]

    def _columns(self, matrix: Tensor, column_rate: float) -> Tensor:
        """Step 1: the columns that stay in every block, as a mask (P, Q)."""
        rows = even_parts(matrix.shape[0], self.strips)
        columns = even_parts(matrix.shape[1], self.blocks_per_strip)
        energy = torch.stack([matrix[strip].square().sum(dim=0) for strip in rows])  # (strips, Q)
        kept = torch.zeros_like(energy, dtype=torch.bool)
        for block in columns:
            width = block.stop - block.start
            each = int(width / column_rate) if self.exact_rate else kept_count(width, column_rate)
            kept[:, block] = largest(energy[:, block], each)
        if self.exact_rate:
            kept |= self._extra(energy, kept, columns, column_rate)
        heights = torch.tensor([strip.stop - strip.start for strip in rows], device=matrix.device)
        return kept.repeat_interleave(heights, dim=0)

    def _extra(self, energy: Tensor, kept: Tensor, columns: list[slice], column_rate: float) -> Tensor:
        """One more column in as many blocks as the rate still allows, where the next column is largest."""
        left = energy.masked_fill(kept, -1.0)
        following = torch.stack([left[:, block].max(dim=1).values for block in columns], dim=1)
        wanted = kept_count(energy.numel(), column_rate) - int(kept.sum())
        chosen = largest(following.flatten(), wanted).view(following.shape)
        chosen &= following >= 0  # a block that keeps all its columns has no further one
        extra = torch.zeros_like(kept)
        for index, block in enumerate(columns):
            extra[:, block] = largest(left[:, block], 1) & chosen[:, index, None]
        return extra
