"""Lottery tickets in the weights: iterative magnitude pruning with rewinding (Frankle et al., 2019, 2020).

The baseline that data-level tickets are named after. Train; remove the smallest weights; put the others back
to what they were early in training; train again. If the sparse network so found trains better than one with
the same mask and fresh weights, it is a winning ticket.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lib.errors import WrongUse

Masks = Mapping[str, Tensor]
"""Name of a pruned layer -> 1 for every weight that is left, 0 for the others, in the weight's shape."""


def prunable(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of the blocks, by name; embedding and head are few weights with much to do."""
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "blocks." in name
    }
    if not layers:
        raise WrongUse(f"{type(model).__name__} has no linear layers in blocks: nothing to prune")
    return layers


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the prunable weights as they act in `model`: masked ones are 0."""
    found = {}
    for name, layer in prunable(model).items():
        parts = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        # layer.weight is as old as the last forward pass where a mask is on
        weight = parts["weight_orig"] * parts["weight_mask"] if "weight_orig" in parts else parts["weight"]
        found[name] = weight.detach().clone()
    return found


def magnitude_masks(weights: Mapping[str, Tensor], left: float, before: Masks | None = None) -> Masks:
    """Masks that leave the share `left` of all `weights`, the largest ones over all layers together.

    A weight that `before` has removed stays removed. Raises WrongUse for a share outside (0, 1], or one that
    is larger than what `before` has left.
    """
    if not 0 < left <= 1:
        raise WrongUse(f"the share of weights left must lie in (0, 1], not {left}")
    size = torch.cat([weight.abs().flatten() for weight in weights.values()])
    count = max(1, round(left * len(size)))
    if before is not None:
        alive = torch.cat([before[name].flatten() for name in weights]) > 0
        if int(alive.sum()) < count:
            raise WrongUse(f"{left} of the weights cannot be left: only {alive.double().mean():.3f} are")
        size = size.masked_fill(~alive, -1.0)
    flat = torch.zeros_like(size).index_fill(0, size.topk(count).indices, 1.0)
    parts = flat.split([weight.numel() for weight in weights.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def random_masks(masks: Masks, generator: torch.Generator) -> Masks:
    """The control: as many weights left in every layer as `masks` leave, at random places."""
    drawn = {}
    for name, mask in masks.items():
        order = torch.randperm(mask.numel(), generator=generator).to(mask.device)
        drawn[name] = mask.flatten()[order].view_as(mask)
    return drawn


def share_left(masks: Masks) -> float:
    """Share of the prunable weights that `masks` leave."""
    return sum(float(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


def with_masks(model: nn.Module, masks: Masks) -> nn.Module:
    """`model` itself, its weights multiplied by `masks` from now on, in training too."""
    for name, layer in prunable(model).items():
        prune.custom_from_mask(layer, "weight", masks[name])
    return model


@dataclass(frozen=True)
class Round:
    """A round: the share of weights `left`, the masks, and the sparse network trained with them."""

    left: float
    masks: Masks
    model: nn.Module


def iterate(
    trained: nn.Module,
    rewound: Callable[[], nn.Module],
    train: Callable[[nn.Module], None],
    left: Sequence[float],
) -> Iterator[Round]:
    """Rounds of pruning by magnitude, from the dense network `trained` on.

    Args:
        rewound: makes a network with the initial or early weights, without masks.
        train: trains a network, in place, from there to the end of its schedule.
        left: share of the weights left after each round, falling.
    """
    masks: Masks | None = None
    model = trained
    for share in left:
        masks = magnitude_masks(weights_of(model), share, masks)
        model = with_masks(rewound(), masks)
        train(model)
        yield Round(share, masks, model)
