"""What can be checked of OFARPruning without a data set: counts, masks, gradients."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from lib.cnn.counting import counter
from lib.cnn.masks import (
    cosine,
    cosine_from_hamming,
    early_bird_count,
    equivalent_threshold,
    flat,
    global_masks,
    hamming,
    kept_channels,
    nesting_violations,
    site_scores,
)
from lib.cnn.networks import build, example, mobilenet_v2
from lib.cnn.once_for_all import divergence
from lib.cnn.sites import find_sites, whole
from lib.cnn.subnetwork import SubNetworks
from lib.lab.backbones import parameters

MUTUALNET = {
    (1.0, 224): 300,
    (0.95, 224): 284,
    (0.9, 224): 269,
    (0.85, 224): 254,
    (1.0, 192): 221,
    (0.95, 192): 209,
    (0.9, 192): 198,
    (0.85, 192): 187,
    (0.8, 192): 164,
    (0.75, 192): 154,
    (0.7, 192): 128,
    (0.75, 160): 107,
    (0.7, 160): 89,
    (0.85, 128): 84,
    (0.7, 128): 57,
}
"""Width and resolution of MobileNetV2 in MutualNet's table, and the millions of operations printed there."""

WIDTHS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.5, 0.35)
SIDES = (224, 192, 160, 128)
CLAIMED = 72.6
"""Top-1 accuracy below 170 MFLOPs in OFARPruning's abstract, percent."""
NEIGHBOURS = {"mutualnet_164": 70.4, "us_net_165": 68.6, "us_net_173": 68.9, "unnamed": 70.5}
"""Top-1 accuracies of MobileNetV2 at about that cost: public tables, and the unnamed competitor."""


def mobilenet(width: float) -> nn.Module:
    """MobileNetV2 of a uniform width; the global generator is left as it was."""
    with torch.random.fork_rng():
        return mobilenet_v2(1000, 3, width=width)


def macs_of_widths() -> dict[tuple[float, int], int]:
    """Multiply-accumulates of MobileNetV2 by width and image side, from the shapes of its layers."""
    found = {}
    for width in WIDTHS:
        model = mobilenet(width)
        for side in SIDES:
            image = torch.zeros(1, 3, side, side)
            found[width, side] = counter(model, (), image).macs({})
    return found


def params_of_widths() -> dict[float, int]:
    """Parameters of MobileNetV2 by width."""
    return {width: parameters(mobilenet(width)) for width in WIDTHS}


def resolution_law_off(macs: dict[tuple[float, int], int]) -> float:
    """Largest relative miss of MACs(r) = convolutions * (r/224)^2 + classifier, over all widths and sides."""
    classifier = 1280 * 1000
    return max(
        abs(((macs[width, 224] - classifier) * (side / 224) ** 2 + classifier) / count - 1)
        for (width, side), count in macs.items()
    )


def resnet50_gmacs() -> dict[int, float]:
    """Billions of MACs of ResNet-50 by image side."""
    with torch.random.fork_rng():
        model = build("resnet50")
    images = {side: example("resnet50", side=side) for side in SIDES}
    return {side: counter(model, (), image).macs({}) / 1e9 for side, image in images.items()}


def gains() -> dict[str, float]:
    """Points by which the abstract's 72.6 % lies above its neighbours' accuracies."""
    return {name: CLAIMED - value for name, value in NEIGHBOURS.items()}


def similarity_checks(generator: torch.Generator, channels: int = 17_056) -> dict[str, float]:
    """The cosine-Hamming identity on random masks, thresholds, chance level, Early-Bird's count."""

    def drawn(rate: float) -> Tensor:
        mask = torch.zeros(channels, dtype=torch.bool)
        mask[torch.randperm(channels, generator=generator)[: round((1 - rate) * channels)]] = True
        return mask

    gap, chance = 0.0, {}
    for rate in (0.3, 0.5, 0.7):
        a, b, c = drawn(rate), drawn(rate), drawn(rate / 2)
        for one, other in ((a, b), (a, c)):
            expected = cosine_from_hamming(hamming(one, other), channels, int(one.sum()), int(other.sum()))
            gap = max(gap, abs(cosine(one, other) - expected))
        chance[f"chance_similarity_{100 * rate:.0f}"] = cosine(a, b)
    thresholds = {f"threshold_{100 * p:.0f}": equivalent_threshold(0.1, p) for p in (0.3, 0.5, 0.7)}
    return {
        "similarity_identity_gap": gap,
        **thresholds,
        **chance,
        "early_bird_count": early_bird_count(channels, 0.5),
    }


def mask_checks(model: nn.Module, image: Tensor, generator: torch.Generator) -> dict[str, float]:
    """Nesting of masks from one snapshot, the identity at rate 0, and the gradient through the teacher.

    `image (1, ...)` is traced; scales of `model` are drawn anew.
    """
    sites = find_sites(model, image)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0, 1, generator=generator)
    scores = site_scores(model, sites)
    masks = [global_masks(scores, rate) for rate in (0.0, 0.2, 0.35, 0.5, 0.65, 0.8)]
    images = torch.randn(4, *image.shape[1:], generator=generator)
    subs = SubNetworks(model.eval(), sites)
    with torch.inference_mode():
        logits = model(images)
        gap = max(
            float((subs(images, kept) - logits).abs().max())
            for kept in (kept_channels(masks[0]), whole(sites))
        )
    teacher = torch.randn(3, 10, generator=generator).requires_grad_()
    student = torch.randn(3, 10, generator=generator).requires_grad_()
    divergence(teacher, student).backward()
    assert student.grad is not None
    return {
        "nesting_violations": sum(nesting_violations(narrow, wide) for wide, narrow in pairwise(masks)),
        "rate_zero_gap": gap,
        "teacher_gradient": 0.0 if teacher.grad is None else float(teacher.grad.abs().max()),
        "student_gradient": float(student.grad.abs().max()),
        "channels_without_floor": min(int(mask.sum()) for mask in masks[-1].values()),
        "masked_channels": int((~flat(masks[-1])).sum()),
    }
