"""What can be checked of AdaPruner without a data set: counts, budgets, invariances, identities."""

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hw_models import trace
from lib.cnn.adapruner import Prunable, prunable, prune, widths
from lib.cnn.bisection import bisect, largest_tau, rounded, widths_at
from lib.cnn.counting import counter
from lib.cnn.importance import block_importance, scales_of
from lib.cnn.inheritance import CRITERIA, inherit
from lib.cnn.networks import build, example
from lib.cnn.removal import mask_channels
from lib.cnn.subnetwork import SubNetworks
from lib.lab.backbones import parameters

COUNTED = (
    "mobilenet_v2",
    "resnet50",
    "resnet18",
    "vgg16_cifar",
    "resnet56",
    "resnet20",
    "mobilenet_v2_cifar",
)
REDUCTION = 0.328
"""Share of MobileNetV2's multiply-accumulates that the abstract says were removed."""
OTHER_BASELINE = 313e6
"""MACs at which MetaPruning's table counts MobileNetV2."""


def sizes() -> dict[str, tuple[int, int]]:
    """Parameters and multiply-accumulates of the papers' networks, by name."""
    found = {}
    for name in COUNTED:
        with torch.random.fork_rng():
            model = build(name)
        found[name] = parameters(model), counter(model, (), example(name)).macs({})
    return found


def counted(name: str) -> Prunable:
    """The network with fresh weights, ready to count at any widths; norms differ by layer and channel.

    All norms alike, as fresh ones are, would hide a mistake in what is kept.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(name).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                level = float(torch.empty(1).uniform_(0.3, 1))
                nn.init.uniform_(module.weight, 0.5 * level, 1.5 * level)
                nn.init.normal_(module.bias, 0, 0.3)
    return prunable(model, example(name))


def uniform_mmacs(parent: Prunable, ratios: Sequence[float], multiple: int = 8) -> list[float]:
    """Millions of MACs with one keep ratio for all inner widths."""
    return [
        parent.count.macs({site.name: rounded(ratio, site.channels, multiple) for site in parent.inner}) / 1e6
        for ratio in ratios
    ]


def abstract_budget(parent: Prunable) -> dict[str, float]:
    """What the abstract's reduction leaves of MobileNetV2, and where bisection of a uniform ratio ends."""
    dense = parent.count.macs({})
    found = widths(parent, 1 - REDUCTION, uniform=True)
    return {
        "budget_mmacs": (1 - REDUCTION) * dense / 1e6,
        "budget_other_mmacs": (1 - REDUCTION) * OTHER_BASELINE / 1e6,
        "bisected_mmacs": found.macs / 1e6,
        "bisected_params": parent.count.params(found.kept),
        "bisected_reduction": 100 * (1 - found.macs / dense),
    }


def staircase(parent: Prunable, points: int = 2000) -> dict[str, float]:
    """The cost F(tau) along a fine sweep: its largest fall, and its ends against narrowest and full network.

    `overspent`: the largest excess of a bisected network over its budget (negative: room left), relative,
    over budgets between the ends. `halvings`: the most that were needed.
    """
    importance = block_importance(parent.model, parent.blocks)
    end = largest_tau(importance)
    costs = []
    for step in range(points + 1):
        kept = widths_at(end * step / points, parent.blocks, importance, multiple=8, least=0.1)[1]
        costs.append(parent.count.macs(kept))
    narrowest = {site.name: rounded(0.1, site.channels, 8) for site in parent.inner}
    budgets = torch.linspace(costs[0], costs[-1], 25).tolist()[1:]
    found = [bisect(parent.blocks, importance, parent.count.macs, budget) for budget in budgets]
    return {
        "largest_fall": max(a - b for a, b in pairwise(costs)),
        "ends_off": abs(costs[0] - parent.count.macs(narrowest)) + abs(costs[-1] - parent.count.macs({})),
        "overspent": max(each.macs / each.budget - 1 for each in found),
        "halvings": max(each.halvings for each in found),
    }


def invariances(parent: Prunable, generator: torch.Generator) -> dict[str, float]:
    """What permuting channels does to importances, and what scaling all scales does to widths."""
    model = copy.deepcopy(parent.model)
    with torch.no_grad():
        for scale in scales_of(model, parent.inner):
            scale.uniform_(0.05, 1)
    before = block_importance(model, parent.blocks)
    share = 0.6 * parent.count.macs({})
    narrow = bisect(parent.blocks, before, parent.count.macs, share).kept
    with torch.no_grad():
        for scale in scales_of(model, parent.inner):
            scale.copy_(scale[torch.randperm(len(scale), generator=generator)])
    permuted = block_importance(model, parent.blocks)
    with torch.no_grad():
        for scale in scales_of(model, parent.inner):
            scale.mul_(8)
    scaled = bisect(parent.blocks, block_importance(model, parent.blocks), parent.count.macs, share).kept
    return {
        "permutation_moves": max(abs(permuted[block] / before[block] - 1) for block in before),
        "widths_moved_by_scaling": sum(narrow[name] != scaled[name] for name in narrow),
    }


def identities(parent: Prunable, images: Tensor, share: float) -> dict[str, float]:
    """Largest differences of logits that should not be there.

    `keep_all_gap`: every channel inherited, by each criterion. `masked_gap`: channels removed by
    torch-pruning against zeroed in place, relative to the largest logit. `removed_macs_off`: counted on the
    smaller network, against the count that the bisection used.
    """
    generator = torch.Generator().manual_seed(0)
    sub = SubNetworks(parent.model, parent.sites)
    everything = {site.name: site.channels for site in parent.inner}
    narrow = widths(parent, share, multiple=4)
    kept = inherit(parent.model, parent.inner, narrow.kept, "scale", generator)
    with torch.inference_mode():
        logits = parent.model.eval()(images)
        same = max(
            float(
                (sub(images, inherit(parent.model, parent.inner, everything, name, generator)) - logits)
                .abs()
                .max()
            )
            for name in CRITERIA
        )
    smaller = prune(parent, kept, [])
    with torch.inference_mode():
        removed = smaller(images)
        masked = mask_channels(parent.model, parent.inner, kept)(images)
    return {
        "keep_all_gap": same,
        "masked_gap": float((removed - masked).abs().max() / masked.abs().max()),
        "removed_macs_off": abs(trace(smaller, parent.image).macs - narrow.macs),
    }


def covered(names: Sequence[str] = COUNTED, share: float = 0.5) -> Mapping[str, float]:
    """For each network: MACs once channels were removed for `share` of the cost, over the dense ones."""
    found = {}
    for name in names:
        parent = counted(name)
        kept = inherit(
            parent.model, parent.inner, widths(parent, share).kept, "l1", torch.Generator().manual_seed(0)
        )
        found[name] = trace(prune(parent, kept, []), parent.image).macs / parent.count.macs({})
    return found
