"""Channels taken out for good: by torch-pruning, and for comparison masked in place."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lib.cnn.sites import Kept, Site, dependency_graph, removal_group
from lib.errors import ReproError


def remove_channels(model: nn.Module, sites: Sequence[Site], kept: Kept, example: Tensor) -> nn.Module:
    """A copy of `model` that has only the channels `kept`; smaller tensors, no masks.

    `example (1, ...)` is an image to trace the network with. Raises ReproError if a site would lose
    everything.
    """
    smaller = copy.deepcopy(model)
    graph = dependency_graph(smaller, example)
    for site in sites:
        if site.name not in kept or len(kept[site.name]) == site.channels:
            continue
        if not len(kept[site.name]):
            raise ReproError(f"no channel of {site.name} would stay: keep at least one")
        staying = set(kept[site.name].tolist())
        gone = [channel for channel in range(site.channels) if channel not in staying]
        removal_group(graph, smaller, site, gone).prune()
    return smaller


def mask_channels(model: nn.Module, sites: Sequence[Site], kept: Kept) -> nn.Module:
    """A copy of `model`, as large as before, in which the other channels are zero.

    Scale and shift of their batch normalisations are set to zero; ReLU and ReLU6 leave zero at zero, so
    nothing downstream can tell such a channel from one that was removed.
    """
    masked = copy.deepcopy(model)
    for site in sites:
        if site.name not in kept:
            continue
        gone = torch.ones(site.channels, dtype=torch.bool, device=kept[site.name].device)
        gone[kept[site.name]] = False
        for name in site.norms:
            norm = masked.get_submodule(name)
            assert isinstance(norm, nn.BatchNorm2d)
            with torch.no_grad():
                norm.weight[gone] = 0
                norm.bias[gone] = 0
    return masked
