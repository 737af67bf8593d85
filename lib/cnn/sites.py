"""Where a network can lose channels: which layers share one set of them.

A *site* is one set of channels: the convolutions that make them, the batch normalisations and depthwise
convolutions on the way, and the layers that read them. Layers joined by an addition share a site. The joining
is read off the traced network by torch-pruning, so that any network of convolutions, batch normalisations and
linear layers will do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lib.errors import ReproError

Kept = Mapping[str, Tensor]
"""Indices of the channels that stay, rising, by the name of their site; sites not named stay whole."""


@dataclass(frozen=True)
class Site:
    """One set of channels; layers are named as in `named_modules`.

    `name`: its first producer. `norms`: batch normalisations over it, in order. `consumers` are convolutions
    and linear layers; a linear layer may read each channel at several positions.
    """

    name: str
    channels: int
    producers: tuple[str, ...]
    depthwise: tuple[str, ...]
    norms: tuple[str, ...]
    consumers: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer that touches the channels."""
        return self.producers + self.depthwise + self.norms + self.consumers


def find_sites(model: nn.Module, example: Tensor) -> tuple[Site, ...]:
    """The sites of `model` in the order of its convolutions; `example (1, ...)` is an image to trace it with.

    Channels that a shortcut fills up with zeros (CIFAR ResNets without parameters there) belong to no site:
    they are joined to a wider set and stay whole.

    Raises:
        ReproError: a layer of a kind that this code cannot prune, or no batch normalisation.
    """
    check_layers(model)
    graph = dependency_graph(model, example)
    names = {module: name for name, module in model.named_modules()}
    sites: list[Site] = []
    seen: set[str] = set()
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or _is_depthwise(module) or name in seen:
            continue
        site = _site(_group(graph, module, [0]), names, module.out_channels)
        seen.update(site.producers)
        if not site.norms:
            raise ReproError(
                f"no batch normalisation follows {name}: block importance and masks are read off its scales; "
                "prune a network with batch normalisation after every convolution"
            )
        if all(model.get_submodule(producer).out_channels == site.channels for producer in site.producers):
            sites.append(site)
    return tuple(sites)


def check_layers(model: nn.Module) -> None:
    """Raises ReproError if `model` holds a layer whose channels cannot be removed here, or no norm."""
    for name, module in model.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        if isinstance(module, nn.BatchNorm2d | nn.Linear):
            continue
        if isinstance(module, nn.Conv2d) and (module.groups == 1 or _is_depthwise(module)):
            continue
        kind = type(module).__name__
        if isinstance(module, nn.Conv2d):
            kind = f"Conv2d with {module.groups} groups"
        raise ReproError(
            f"layer {name or 'of the network'} is a {kind}: only Conv2d (plain or depthwise), BatchNorm2d "
            "and Linear can lose channels here; replace it, or prune another network"
        )
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        raise ReproError(
            f"{type(model).__name__} has no batch normalisation: block importance and masks are read off its "
            "scales; prune a network with BatchNorm2d after its convolutions"
        )


def dependency_graph(model: nn.Module, example: Tensor) -> Any:
    """torch-pruning's graph of `model`."""
    import torch_pruning

    training = model.training
    with torch.enable_grad():
        graph = torch_pruning.DependencyGraph().build_dependency(model.eval(), example_inputs=example)
    model.train(training)
    return graph


def inner_sites(sites: Sequence[Site], blocks: Sequence[str]) -> dict[str, tuple[Site, ...]]:
    """The sites that lie inside one of `blocks` (names of modules), by block; others are left out.

    Inside a block means that no layer elsewhere makes, normalises or reads the channels: the inner widths of
    residual blocks, and the hidden width of an inverted residual. Removing them needs no change to shortcuts.
    """
    found = {
        block: tuple(site for site in sites if all(layer.startswith(f"{block}.") for layer in site.layers))
        for block in blocks
    }
    return {block: inside for block, inside in found.items() if inside}


def pruning_blocks(model: nn.Module, sites: Sequence[Site]) -> dict[str, tuple[Site, ...]]:
    """The blocks of a network of lib.cnn.networks and what may be pruned in each.

    Residual and inverted residual blocks lose inner channels only; in a plain chain (VGG) each convolution is
    a block. Raises ReproError if there is nothing to prune.
    """
    names = [f"blocks.{name}" for name, _ in model.get_submodule("blocks").named_children()]
    blocks = inner_sites(sites, names)
    if not blocks:
        blocks = {
            name: inside
            for name in names
            if (inside := tuple(site for site in sites if site.name.startswith(f"{name}.")))
        }
    if not blocks:
        raise ReproError(f"no block of {type(model).__name__} has channels that could be removed")
    return blocks


def whole(sites: Sequence[Site]) -> dict[str, Tensor]:
    """Every channel of every site: the identity setting."""
    return {site.name: torch.arange(site.channels) for site in sites}


def widths(sites: Sequence[Site], kept: Kept) -> dict[str, int]:
    """How many channels of each site stay."""
    return {site.name: len(kept[site.name]) if site.name in kept else site.channels for site in sites}


def removal_group(graph: Any, model: nn.Module, site: Site, channels: Sequence[int]) -> Any:
    """torch-pruning's group of everything that goes with the removal of `channels` of `site`."""
    return _group(graph, model.get_submodule(site.name), channels)


def _group(graph: Any, conv: nn.Module, channels: Sequence[int]) -> Any:
    import torch_pruning

    return graph.get_pruning_group(conv, torch_pruning.prune_conv_out_channels, list(channels))


def _site(group: Any, names: Mapping[nn.Module, str], channels: int) -> Site:
    producers, depthwise, norms, consumers = (dict[str, None]() for _ in range(4))
    for dependency, _ in group:
        module = dependency.target.module
        if module not in names:
            continue  # an operation without weights
        name = names[module]
        if isinstance(module, nn.BatchNorm2d):
            norms[name] = None
        elif isinstance(module, nn.Conv2d) and _is_depthwise(module):
            depthwise[name] = None
        elif isinstance(module, nn.Conv2d | nn.Linear):
            makes = dependency.handler.__name__.endswith("out_channels")
            (producers if makes else consumers)[name] = None
    order = list(names.values()).index
    ordered = [tuple(sorted(found, key=order)) for found in (producers, depthwise, norms, consumers)]
    return Site(ordered[0][0], channels, *ordered)


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups > 1 and conv.groups == conv.in_channels == conv.out_channels
