"""The observations that DARB starts from (AAAI 2020, arXiv:1911.08020), looked for in a trained network.

Rows of an irregularly pruned matrix differ in density; denser rows are more sensitive to pruning; segments
that irregular pruning empties hold weights almost as large as some that it keeps elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import pstdev
from typing import Literal

import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.rnn.baselines import Unstructured

Half = Literal["dense", "sparse"]


@dataclass(frozen=True)
class RowDensities:
    """Densities of the rows of a pruned matrix, most dense first, and how many rows are empty."""

    densities: tuple[float, ...]
    empty: int

    @property
    def deviation(self) -> float:
        """Standard deviation of the densities, from 0 to 0.5."""
        return pstdev(self.densities)

    @property
    def spread(self) -> float:
        """Density of the densest row over that of the sparsest that is not empty; 1 if all are.

        Chance alone spreads short rows by ten times and more: compare with `shuffled` weights."""
        filled = [density for density in self.densities if density > 0]
        return filled[0] / filled[-1] if filled else 1.0


def row_densities(mask: Tensor) -> RowDensities:
    """Share of kept weights in each row of a bool mask (P, Q)."""
    density = mask.double().mean(dim=1).sort(descending=True).values
    return RowDensities(tuple(density.tolist()), int((density == 0).sum()))


def shuffled(weight: Tensor, generator: torch.Generator) -> Tensor:
    """The same weights (P, Q) in random places: rows then differ by chance alone."""
    return weight.flatten()[torch.randperm(weight.numel(), generator=generator)].view(weight.shape)


def near_misses(weight: Tensor, rate: float, within: float = 0.8) -> float:
    """Share of emptied segments, 1 x `rate`, whose largest weight is at least `within` of the least one kept.

    Segments are those of the unstructured mask at `rate`, a whole number that cuts the rows; a rest of a row
    too short for a segment is left out. 0 if no segment is empty."""
    segment = round(rate)
    if segment < 1 or not 0 < within <= 1:
        raise WrongUse(f"rate must be at least 1 and `within` above 0 and at most 1, got {rate} and {within}")
    mask = Unstructured().mask(weight, rate)
    magnitude = weight.detach().abs()
    least = magnitude[mask].min()
    whole = weight.shape[1] // segment * segment
    shape = (len(weight), -1, segment)
    if whole == 0:
        return 0.0
    empty = ~mask[:, :whole].reshape(shape).any(dim=2)
    best = magnitude[:, :whole].reshape(shape).amax(dim=2)[empty]
    return float((best >= within * least).double().mean()) if len(best) else 0.0


def prune_half(weight: Tensor, mask: Tensor, half: Half, count: int) -> Tensor:
    """`mask` (P, Q) without the `count` smallest kept weights of its denser or sparser half of rows.

    Rows in the middle of an odd number belong to the sparser half. Raises WrongUse if the half keeps
    fewer."""
    if half not in ("dense", "sparse"):
        raise WrongUse(f"half must be dense or sparse, got {half!r}")
    order = mask.double().mean(dim=1).argsort(descending=True, stable=True)
    middle = len(order) // 2
    rows = order[:middle] if half == "dense" else order[middle:]
    chosen = torch.zeros_like(mask)
    chosen[rows] = mask[rows]
    if not 0 <= count <= int(chosen.sum()):
        raise WrongUse(f"the {half} half keeps {int(chosen.sum())} weights; {count} cannot be taken")
    magnitude = weight.detach().abs().masked_fill(~chosen, float("inf")).flatten()
    smaller = mask.flatten().clone()
    smaller[magnitude.argsort(stable=True)[:count]] = False
    return smaller.view(mask.shape)


def sensitivity_masks(
    weights: Mapping[str, Tensor], rate: float, share: float = 0.5
) -> dict[Half, dict[str, Tensor]]:
    """For each half, masks at `rate` less as many weights as `share` of what the sparse half keeps.

    Both halves lose equally many of each matrix, the smallest of theirs."""
    result: dict[Half, dict[str, Tensor]] = {"dense": {}, "sparse": {}}
    for name, weight in weights.items():
        mask = Unstructured().mask(weight, rate)
        order = mask.double().mean(dim=1).argsort(descending=True, stable=True)
        dense, sparse = (
            int(mask[part].sum()) for part in (order[: len(order) // 2], order[len(order) // 2 :])
        )
        count = min(int(share * sparse), dense)
        for half in result:
            result[half][name] = prune_half(weight, mask, half, count)
    return result
