"""One training for many pruning rates and resolutions, with shared weights (OFARPruning, stage 2).

In every step the full network learns from the labels at the largest resolution; its softened answer q,
without gradient, teaches the narrowest structure and a few drawn at random, each at a resolution drawn at
random:

    L = CE(f_full(x_rmax), y) + sum over j of KL( q || f_pj(x_rj) )

The abstract says that rates and resolutions are sampled; the loop is MutualNet's. With one resolution it is
US-Net's; with leading slices instead of learned channels, either of these two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.cnn.bisection import rounded
from lib.cnn.recalibration import recalibrate
from lib.cnn.sites import Kept, Site
from lib.cnn.subnetwork import Statistics, SubNetworks
from lib.errors import ReproError, WrongUse
from lib.lab.fit import Loss

Structures = Mapping[tuple[float, int], Kept]
"""Channels kept by pruning rate p and image side r; the network with all of them is always there besides."""


def resized(images: Tensor, side: int) -> Tensor:
    """`images (batch, channels, height, width)` at `side` pixels, averaged where they shrink."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)), mean over the batch; no gradient reaches the teacher."""
    return F.kl_div(
        F.log_softmax(student, -1),
        F.log_softmax(teacher.detach(), -1),
        reduction="batchmean",
        log_target=True,
    )


@dataclass(frozen=True)
class Sampler:
    """What is trained together: `structures`, and how many are `drawn` in a step besides the narrowest."""

    structures: Structures
    drawn: int = 2

    def __post_init__(self) -> None:
        if not self.structures or self.drawn < 0:
            raise WrongUse(
                f"joint training needs at least one structure and a number of them to draw, not "
                f"{len(self.structures)} and {self.drawn}"
            )

    @property
    def largest(self) -> int:
        """The largest side, at which the full network learns."""
        return max(side for _, side in self.structures)

    def draw(self, generator: torch.Generator) -> list[tuple[float, int]]:
        """The narrowest structure at some resolution, then `drawn` structures."""
        narrowest = max(rate for rate, _ in self.structures)
        narrow = [key for key in self.structures if key[0] == narrowest]
        everything = list(self.structures)

        def one_of(keys: Sequence[tuple[float, int]]) -> tuple[float, int]:
            return keys[int(torch.randint(len(keys), (1,), generator=generator))]

        return [one_of(narrow), *(one_of(everything) for _ in range(self.drawn))]


def joint_loss(subs: SubNetworks, sampler: Sampler, generator: torch.Generator) -> Loss:
    """The loss L of a batch, for `lib.lab.fit.fit`."""

    def of_batch(images: Tensor, labels: Tensor, places: Tensor, progress: float) -> Tensor:
        teacher = subs.model(resized(images, sampler.largest))
        loss = F.cross_entropy(teacher, labels)
        for key in sampler.draw(generator):
            loss = loss + divergence(teacher, subs(resized(images, key[1]), sampler.structures[key]))
        return loss

    return of_batch


def leading_structures(
    structures: Structures,
    sites: Sequence[Site],
    macs: Callable[[Mapping[str, int]], int],
    *,
    least: int,
) -> dict[tuple[float, int], Kept]:
    """For each structure the widest uniform one that costs no more: leading channels, one ratio.

    These are what US-Net and MutualNet train. Raises ReproError where even the narrowest costs more.
    """
    found: dict[tuple[float, int], Kept] = {}
    for key, kept in structures.items():
        if not kept:
            found[key] = {}
            continue
        budget = macs({name: len(index) for name, index in kept.items()})
        low = {site.name: rounded(0, site.channels, least) for site in sites}
        if macs(low) > budget:
            raise ReproError(
                f"no uniform width costs as little as the structure at rate {key[0]:g} ({budget / 1e6:.3f} "
                "MMACs): lower least"
            )
        for step in range(1001):
            wider = {site.name: max(least, round(step / 1000 * site.channels)) for site in sites}
            if macs(wider) <= budget:
                low = wider
        found[key] = {name: torch.arange(width) for name, width in low.items()}
    return found


def calibrated(subs: SubNetworks, kept: Kept, side: int, batches: Sequence[Tensor]) -> Statistics:
    """Running statistics of one structure at one resolution, estimated from `batches` of images."""
    statistics = subs.fresh_statistics(kept)
    small = [resized(images, side) for images in batches]
    recalibrate(subs.model, small, forward=lambda x: subs(x, kept, statistics), statistics=statistics)
    return statistics
