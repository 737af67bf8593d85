"""Compressed structured blocks (CSB) of CSB-RNN (ICS 2020, arXiv:2005.05758): structure and search.

Blocks of N rows and M columns keep a row set R_b and a column set C_b each, as in BCR; here row segments
compete within their block-column and column segments within their block-row (section 4.2). The projection
and the counts of the format are those of `hw_models.csb`, which the models of the accelerator use too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from hw_models.csb import CsbMatrix, project, project_literally
from lib.errors import WrongUse
from lib.rnn.partition import blocks_of
from lib.rnn.structure import check_counts, checked


@dataclass(frozen=True)
class CompressedBlocks:
    """CSB with blocks of N x M = `block` (one number for squares); ragged edges are padded.

    With `exact_rate` the keep fraction of both steps is searched until the measured rate meets the target (to
    within one row and one column of the matrix), and a matrix that meets it already is left as it is;
    without, the fraction is 1/sqrt(rate) as printed. That undershoots: a block that keeps many rows also wins
    more columns."""

    block: int | tuple[int, int]
    exact_rate: bool = True

    def __post_init__(self) -> None:
        high, wide = (self.block, self.block) if isinstance(self.block, int) else self.block
        check_counts(block_rows=high, block_columns=wide)

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`."""
        return torch.from_numpy(self.pattern(weight, rate).mask().copy()).to(weight.device)

    def pattern(self, weight: Tensor, rate: float) -> CsbMatrix:
        """The same choice as kept rows and columns of every block, which counts kernels and storage."""
        matrix = checked(weight, rate)
        if not self.exact_rate:
            return project_literally(matrix.cpu().numpy(), rate, self.block)
        if rate > 1 and matrix.any():
            present = self._present(matrix)
            grain = sqrt(rate) * (1 / matrix.shape[0] + 1 / matrix.shape[1])
            if present.rate * (1 + grain) >= rate:
                return present
        return project(matrix.cpu().numpy(), rate, self.block)

    def _present(self, matrix: Tensor) -> CsbMatrix:
        """The smallest pattern that holds all weights that are not zero."""
        high, wide = (self.block, self.block) if isinstance(self.block, int) else self.block
        blocks = blocks_of(matrix != 0, high, wide)
        rows, columns = blocks.any(dim=3).cpu().numpy(), blocks.any(dim=2).cpu().numpy()
        return CsbMatrix(matrix.shape[0], matrix.shape[1], rows, columns)


@dataclass(frozen=True)
class Round:
    """One round of the progressive search: the rate trained at, and whether the accuracy target was met."""

    rate: float
    met: bool


@dataclass(frozen=True)
class Search:
    """All rounds of a progressive search, and whether it ended by its own rule."""

    rounds: tuple[Round, ...]
    settled: bool

    @property
    def rate(self) -> float | None:
        """The highest rate that met the target, None if none did."""
        return max((tried.rate for tried in self.rounds if tried.met), default=None)


def progressive_search(
    meets: Callable[[float], bool],
    initial_rate: float = 4.0,
    initial_step: float = 1.0,
    most_rounds: int = 30,
) -> Search:
    """The lossless pruning rate by Algorithm 1 of CSB-RNN.

    `meets(rate)` trains on (100 epochs of ADMM in the paper) at `rate` and says whether the projected
    weights Z reach the accuracy target. The rate rises by the step while it does, the step is halved from
    the first failure on, and the search is settled when a round meets the target at a step of at most a
    quarter of the first.

    As printed the search need not end: it rises for as long as the target is met, and after a failure it
    never falls below the rate before that failure, as all later halves add up to one step. `most_rounds`
    ends it then, unsettled. Raises WrongUse for a step that leaves no rate above 1 or is not positive.
    """
    if not 0 < initial_step <= initial_rate - 1:
        raise WrongUse(
            f"initial_step must be above 0 and at most initial_rate - 1 = {initial_rate - 1:g}, "
            f"got {initial_step:g}"
        )
    check_counts(most_rounds=most_rounds)
    rate, step, failed = initial_rate, initial_step, False
    rounds: list[Round] = []
    while len(rounds) < most_rounds:
        rounds.append(Round(rate, met=meets(rate)))
        met = rounds[-1].met
        failed = failed or not met
        step = step / 2 if failed else step
        rate = rate + step if met else rate - step
        if met and step <= initial_step / 4:
            return Search(tuple(rounds), settled=True)
    return Search(tuple(rounds), settled=False)
