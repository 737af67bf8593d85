"""Block-max weight masking (BMWM) and density-adaptive regular blocks (DARB; AAAI 2020, arXiv:1911.08020).

BMWM cuts a row of n weights into blocks of k and keeps the largest magnitude of each: exactly ceil(n/k)
survivors, whose positions need log2(k) bits each and no pointers. DARB gives each row i its own k_i, a power
of two that is larger the sparser the row came out of irregular pruning: with d_i its
density at a reference rate,
    k_i = 2^round(log2(1 / d_i)), clipped to [k_min, k_max].
The overall rate of m rows is m / sum_i(1/k_i). Rounding alone moves it by up to a factor of two from up to
down, so the point between two powers at which a row goes to the larger one is tuned to the rate asked for.
"""

from dataclasses import dataclass
from math import log2
from typing import Literal

import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.rnn.baselines import Unstructured
from lib.rnn.partition import blocks_of, matrix_of
from lib.rnn.structure import check_counts, checked, kept_count


def block_max_mask(weight: Tensor, block: int | Tensor) -> Tensor:
    """The largest magnitude of every block of `block` weights along the rows of a (P, Q) matrix: bool (P, Q).

    `block` is one k for all rows, or whole numbers (P,), where 0 keeps nothing of its row. The last block of
    a row may be shorter; the first of equals wins, so a block of zeros keeps its first weight."""
    magnitudes = checked(weight, 1).abs()
    rows = len(magnitudes)
    sizes = torch.full((rows,), block) if isinstance(block, int) else block.to("cpu")
    if sizes.shape != (rows,) or sizes.is_floating_point() or int(sizes.min()) < 0:
        raise WrongUse(f"block must be whole numbers of at least 0, one for each of {rows} rows")
    if isinstance(block, int):
        check_counts(block=block)
    mask = torch.zeros_like(magnitudes, dtype=torch.bool)
    for size in sizes.unique().tolist():
        if size:
            chosen = (sizes == size).nonzero().squeeze(1).to(magnitudes.device)
            mask[chosen] = _block_maxima(magnitudes[chosen], size)
    return mask


def _block_maxima(magnitudes: Tensor, block: int) -> Tensor:
    # padding of -1 is below every magnitude, so it is never kept
    blocks = blocks_of(magnitudes, 1, min(block, magnitudes.shape[1]), -1.0)
    first = blocks.argmax(dim=3, keepdim=True)
    return matrix_of(torch.zeros_like(blocks, dtype=torch.bool).scatter_(3, first, True), *magnitudes.shape)


@dataclass(frozen=True)
class BlockMax:
    """Uniform BMWM: one k, the whole number nearest to the rate, for all rows."""

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`."""
        checked(weight, rate)
        return block_max_mask(weight, round(rate))


@dataclass(frozen=True)
class DensityAdaptive:
    """DARB with k_i among the powers of two from `k_min` to `k_max`.

    `reference_rate` is the rate of the irregular pruning that densities are measured at; the paper's is not
    known, None takes the rate asked for. Rows that it empties get `k_max` or, with `empty_rows` "drop",
    keep nothing. With `exact_rate` the rounding point is tuned until the measured rate is the target to
    within one row's change of class; without, log2(1/d_i) (moved by the logarithm of rate/reference_rate) is
    rounded to the nearest.

    Classes follow the weights at hand. Training that is to keep them takes `block_sizes` of the dense network
    once and projects with `block_max_mask`, which is exact: blocks are disjoint and keep their maxima."""

    k_min: int = 1
    k_max: int = 64
    reference_rate: float | None = None
    empty_rows: Literal["widest", "drop"] = "widest"
    exact_rate: bool = True

    def __post_init__(self) -> None:
        check_counts(k_min=self.k_min, k_max=self.k_max)
        for name, size in (("k_min", self.k_min), ("k_max", self.k_max)):
            if size & (size - 1):
                raise WrongUse(f"{name} must be a power of two, got {size}")
        if self.k_min > self.k_max:
            raise WrongUse(f"k_min {self.k_min} is above k_max {self.k_max}")
        if self.reference_rate is not None and not self.reference_rate >= 1:
            raise WrongUse(f"reference_rate must be at least 1, got {self.reference_rate}")
        if self.empty_rows not in ("widest", "drop"):
            raise WrongUse(f'empty_rows must be "widest" or "drop", got {self.empty_rows!r}')

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`.

        Raises WrongUse also for a rate above `k_max`, which no choice of blocks can reach."""
        return block_max_mask(weight, self.block_sizes(weight, rate))

    def block_sizes(self, weight: Tensor, rate: float) -> Tensor:
        """k_i of every row, int64 (P,); 0 for a row that is dropped."""
        matrix = checked(weight, rate)
        if rate > self.k_max:
            raise WrongUse(f"a rate of {rate:g} is beyond blocks of at most k_max = {self.k_max}")
        rows, columns = matrix.shape
        if rate == 1:
            return torch.ones(rows, dtype=torch.int64)
        if not matrix.any():
            matrix = torch.ones_like(matrix)  # zeros rank nothing: they are pruned like equal weights
        reference = rate if self.reference_rate is None else self.reference_rate
        # zeros do not count: a row that is pruned already is as dense as the weights it has left
        kept_irregularly = Unstructured().mask(matrix, reference) & (matrix != 0)
        density = kept_irregularly.double().mean(dim=1).cpu()
        wished = -density.log2() + log2(rate / reference)  # infinite for an empty row
        kept = density > 0 if self.empty_rows == "drop" else torch.ones(rows, dtype=torch.bool)
        if self.exact_rate:
            target = kept_count(matrix.numel(), rate)
            norms = matrix.norm(dim=1).cpu()
            exponents = self._tuned(wished[kept], norms[kept], columns, target)
        else:
            exponents = wished[kept].clamp(log2(self.k_min), log2(self.k_max)).round().long()
        sizes = torch.zeros(rows, dtype=torch.int64)
        sizes[kept] = 2**exponents
        return sizes

    def _tuned(self, wished: Tensor, norms: Tensor, columns: int, target: int) -> Tensor:
        """Exponents such that the survivors of all rows are as near to `target` as one row's step allows.

        All rows start at k_min. Lowering the rounding point makes one row after the other take its next
        step, in the order of the points at which they do; of rows that step together the one of smaller norm
        goes first."""
        low, high = round(log2(self.k_min)), round(log2(self.k_max))
        levels = torch.arange(low, high)
        survivors = torch.tensor([-(-columns // 2**level) for level in range(low, high + 1)])
        steps = levels - wished[:, None]  # (rows, levels): what must be added to a wish for this step
        smaller_first = norms.argsort(stable=True)
        places = torch.arange(steps.numel()).view(steps.shape)[smaller_first].flatten()
        order = places[steps[smaller_first].flatten().argsort(stable=True)]
        freed = (survivors[:-1] - survivors[1:]).expand_as(steps).flatten()[order]
        left = torch.cat([torch.zeros(1, dtype=torch.int64), freed.cumsum(0)])
        taken = int((len(wished) * int(survivors[0]) - left - target).abs().argmin())
        moved = torch.zeros(steps.numel(), dtype=torch.int64)
        moved[order[:taken]] = 1
        return low + moved.view(steps.shape).sum(dim=1)
