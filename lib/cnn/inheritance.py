"""Which channels a narrower network inherits: a pool of criteria (AdaPruner, step 3).

A criterion scores the channels of a site; the best are kept, and with them their rows, columns, scales,
shifts and statistics. Layers that share channels share the choice. The pool is ours: the abstract says that
the criterion is chosen, not from what.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lib.cnn.importance import scales_of
from lib.cnn.sites import Site
from lib.errors import WrongUse

Criterion = Callable[[nn.Module, Site, torch.Generator], Tensor]
"""Scores `(channels,)` of a site, highest first to be kept."""


def _filters(model: nn.Module, site: Site) -> Tensor:
    """Weights that make each channel `(channels, weights)`, of all convolutions that make it."""
    rows = [model.get_submodule(name).weight for name in site.producers]
    return torch.cat([row.detach().flatten(1) for row in rows if isinstance(row, Tensor)], 1)


def l1(model: nn.Module, site: Site, generator: torch.Generator) -> Tensor:
    """Sum of absolute weights of a channel's filter."""
    return _filters(model, site).abs().sum(1)


def l2(model: nn.Module, site: Site, generator: torch.Generator) -> Tensor:
    """Euclidean norm of a channel's filter."""
    return _filters(model, site).norm(dim=1)


def scale(model: nn.Module, site: Site, generator: torch.Generator) -> Tensor:
    """|gamma|, summed over the batch normalisations of a channel."""
    return torch.stack([value.detach().abs() for value in scales_of(model, [site])]).sum(0)


def geometric_median(model: nn.Module, site: Site, generator: torch.Generator) -> Tensor:
    """Sum of distances to the other filters: small near the geometric median, where others can stand in."""
    filters = _filters(model, site)
    return torch.cdist(filters, filters).sum(1)


def first(model: nn.Module, site: Site, generator: torch.Generator) -> Tensor:
    """The first channels, as slimmable networks keep them."""
    return -torch.arange(site.channels, device=_filters(model, site).device, dtype=torch.float)


def random(model: nn.Module, site: Site, generator: torch.Generator) -> Tensor:
    """Channels drawn by chance: the control."""
    return torch.rand(site.channels, generator=generator).to(_filters(model, site).device)


CRITERIA: dict[str, Criterion] = {
    "l1": l1,
    "l2": l2,
    "scale": scale,
    "geometric_median": geometric_median,
    "first": first,
    "random": random,
}


def inherit(
    model: nn.Module,
    sites: Sequence[Site],
    kept: Mapping[str, int],
    criterion: str,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Indices of the `kept` best channels of each site named there, rising, by a criterion's name.

    Raises WrongUse for an unknown criterion, or more channels than a site has.
    """
    if criterion not in CRITERIA:
        raise WrongUse(f"unknown criterion {criterion!r}; known: {', '.join(CRITERIA)}")
    found = {}
    for site in sites:
        if site.name not in kept:
            continue
        if not 1 <= kept[site.name] <= site.channels:
            raise WrongUse(
                f"{site.name} has {site.channels} channels: keep 1 to {site.channels}, not {kept[site.name]}"
            )
        scores = CRITERIA[criterion](model, site, generator)
        best = scores.argsort(descending=True, stable=True)[: kept[site.name]]
        found[site.name] = best.sort().values
    return found
