"""Pruning masks by one threshold for the whole network, and how alike two of them are (OFARPruning, stage 1).

m(p) = 1[|gamma| > theta_p] in {0,1}^C: the floor(p C) smallest scales of all C channels go, wherever they
are. OFARPruning compares masks by their cosine, sim(a, b) = <a, b> / (|a| |b|); Early-Bird tickets, which it
builds on, by the share d of entries that differ (normalised Hamming distance). With n_a and n_b ones,

    sim = (n_a + n_b - d C) / (2 sqrt(n_a n_b)),   which for n_a = n_b = (1-p) C is 1 - d / (2 (1-p)).
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lib.cnn.importance import scales_of
from lib.cnn.sites import Site
from lib.errors import ReproError, WrongUse

Masks = dict[str, Tensor]
"""Bools `(channels,)` by site, true for kept."""


def site_scores(model: nn.Module, sites: Sequence[Site]) -> dict[str, Tensor]:
    """|gamma| of each channel, averaged over the norms that share it, by site: copies, `(channels,)`.

    Raises ReproError if one is not finite.
    """
    found = {}
    for site in sites:
        scores = torch.stack([scale.detach().abs() for scale in scales_of(model, [site])]).mean(0)
        if not bool(torch.isfinite(scores).all()):
            raise ReproError(
                f"scales at {site.name} are not finite: the training diverged; lower its learning rate"
            )
        found[site.name] = scores
    return found


def global_masks(scores: Mapping[str, Tensor], rate: float, *, least: int = 0) -> Masks:
    """Masks that drop the floor(`rate` * C) smallest of all C scores; ties fall in the order of the sites.

    `least`: every site keeps its that many best channels (all if it has fewer), so more than asked for may
    stay. Rate 0 keeps everything. Raises WrongUse for a rate outside [0, 1).
    """
    if not 0 <= rate < 1:
        raise WrongUse(f"a pruning rate lies in [0, 1), not {rate:g}")
    everything = torch.cat(list(scores.values()))
    mask = torch.ones(len(everything), dtype=torch.bool, device=everything.device)
    mask[everything.argsort(stable=True)[: math.floor(rate * len(everything))]] = False
    parts = mask.split([len(values) for values in scores.values()])
    masks = {name: part.clone() for name, part in zip(scores, parts, strict=True)}
    for name, values in scores.items():
        masks[name][values.argsort(descending=True, stable=True)[:least]] = True
    return masks


def early_bird_count(channels: int, rate: float) -> int:
    """Channels that Early-Bird's code keeps, ties aside: its inequality also drops the threshold."""
    return channels - math.floor(rate * channels) - 1


def kept_channels(masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Indices of the channels that masks keep, by site."""
    return {name: mask.nonzero().squeeze(1) for name, mask in masks.items()}


def flat(masks: Mapping[str, Tensor]) -> Tensor:
    """All masks as one vector `(C,)`."""
    return torch.cat(list(masks.values()))


def cosine(a: Tensor, b: Tensor) -> float:
    """sim of two masks `(C,)`. Raises WrongUse for an empty mask or different lengths."""
    _check(a, b)
    return float((a & b).sum()) / math.sqrt(float(a.sum()) * float(b.sum()))


def hamming(a: Tensor, b: Tensor) -> float:
    """d of two masks `(C,)`: the share of entries that differ. Raises WrongUse as `cosine` does."""
    _check(a, b)
    return float((a != b).double().mean())


def cosine_from_hamming(distance: float, channels: int, ones_a: int, ones_b: int) -> float:
    """The cosine that belongs to a Hamming distance."""
    return (ones_a + ones_b - distance * channels) / (2 * math.sqrt(ones_a * ones_b))


def equivalent_threshold(distance: float, rate: float) -> float:
    """The cosine that two masks of pruning rate p have at a Hamming distance: 1 - d / (2 (1-p))."""
    return 1 - distance / (2 * (1 - rate))


def nesting_violations(narrow: Mapping[str, Tensor], wide: Mapping[str, Tensor]) -> int:
    """Channels that the narrower mask keeps and the wider one does not: 0 if nested."""
    return int((flat(narrow) & ~flat(wide)).sum())


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise WrongUse(f"masks of {len(a)} and {len(b)} channels cannot be compared")
    if not bool(a.any()) or not bool(b.any()):
        raise WrongUse("a mask without any channel has no direction: lower the pruning rate")
