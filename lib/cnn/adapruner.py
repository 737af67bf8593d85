"""AdaPruner (Liu et al. 2021): widths from block importance and a budget, channels by a chosen criterion.

One sparse training serves every budget: `widths` bisects for one, `choose_criterion` tries every criterion on
held-out training images after re-estimating batch statistics, and `prune` removes what is not kept. Symbols:
tau, I_b, k_b, c_b as in bisection.py; m is the criterion, m* the chosen one.

Identity: a budget of the dense cost keeps every channel, and `prune` then returns the parent's function
exactly.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lib.cnn.bisection import Widths, bisect
from lib.cnn.counting import Counter, counter
from lib.cnn.importance import block_importance
from lib.cnn.inheritance import CRITERIA, inherit
from lib.cnn.recalibration import recalibrate
from lib.cnn.removal import remove_channels
from lib.cnn.scoring import right_answers
from lib.cnn.sites import Kept, Site, find_sites, pruning_blocks
from lib.cnn.subnetwork import SubNetworks
from lib.lab.image_splits import ImageSplit


@dataclass(frozen=True)
class Prunable:
    """A trained parent and what may be pruned of it; `image (1, ...)` is the image that is counted."""

    model: nn.Module
    image: Tensor
    sites: tuple[Site, ...]
    blocks: dict[str, tuple[Site, ...]]
    count: Counter

    @property
    def inner(self) -> tuple[Site, ...]:
        """The sites that pruning may touch."""
        return tuple(site for sites in self.blocks.values() for site in sites)


def prunable(model: nn.Module, image: Tensor) -> Prunable:
    """`model` with its sites, blocks and counts. Raises ReproError for a network that cannot be pruned."""
    sites = find_sites(model, image)
    return Prunable(model, image, sites, pruning_blocks(model, sites), counter(model, sites, image))


def widths(
    parent: Prunable, share: float, *, multiple: int = 8, least: float = 0.1, uniform: bool = False
) -> Widths:
    """Widths that cost at most `share` of the parent's MACs: by importance, or `uniform` at one keep ratio.

    Raises ReproError if the budget is impossible.
    """
    importance = dict.fromkeys(parent.blocks, 1.0)
    if not uniform:
        importance = block_importance(parent.model, parent.blocks)
    budget = share * parent.count.macs({})
    return bisect(parent.blocks, importance, parent.count.macs, budget, multiple=multiple, least=least)


@dataclass(frozen=True)
class Candidate:
    """One criterion's choice of channels and its accuracies, fractions, on held-out training images.

    `accuracy`: with batch statistics re-estimated; `before`: with those of the parent.
    """

    criterion: str
    kept: dict[str, Tensor]
    accuracy: float
    before: float


def candidates(
    parent: Prunable,
    kept: Mapping[str, int],
    batches: Sequence[Tensor],
    held_out: ImageSplit,
    generator: torch.Generator,
    *,
    criteria: Sequence[str] = tuple(CRITERIA),
) -> tuple[Candidate, ...]:
    """Every criterion tried at the widths `kept`; `batches` of images re-estimate the statistics."""
    subs = SubNetworks(parent.model, parent.sites)
    found = []
    for criterion in criteria:
        channels = inherit(parent.model, parent.inner, kept, criterion, generator)
        statistics = subs.fresh_statistics(channels)
        before = _accuracy(partial(subs, kept=channels), parent.model, held_out)
        recalibrate(
            parent.model,
            batches,
            forward=partial(subs, kept=channels, statistics=statistics),
            statistics=statistics,
        )
        after = _accuracy(partial(subs, kept=channels, statistics=statistics), parent.model, held_out)
        found.append(Candidate(criterion, channels, after, before))
    return tuple(found)


def choose_criterion(found: Sequence[Candidate]) -> Candidate:
    """m* = argmax over criteria of the held-out accuracy; among equals the first."""
    return max(found, key=lambda candidate: candidate.accuracy)


def prune(parent: Prunable, kept: Kept, batches: Sequence[Tensor]) -> nn.Module:
    """The smaller network with inherited weights; statistics re-estimated from `batches` if there are any."""
    smaller = remove_channels(parent.model, parent.inner, kept, parent.image)
    if batches:
        recalibrate(smaller, batches)
    return smaller.eval()


def _accuracy(forward: Callable[[Tensor], Tensor], model: nn.Module, split: ImageSplit) -> float:
    """Share of `split` that `forward` classifies rightly. Raises ReproError if logits are not finite."""
    return right_answers(forward, model, split, what="the network's logits") / len(split)
