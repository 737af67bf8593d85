"""The networks of the hardware comparisons as workloads: timm's definitions, traced without weights."""

import torch

from hw_models import Workload, trace
from lib.errors import WrongUse
from lib.lab.torchvision_ops import prepare_torchvision

TIMM_NAMES = {
    "vgg16": "vgg16",
    "resnet18": "resnet18",
    "mobilenet_v2": "mobilenetv2_100",
    "resnet50": "resnet50",
    "deit_tiny": "deit_tiny_patch16_224",
    "deit_small": "deit_small_patch16_224",
    "deit_base": "deit_base_patch16_224",
}
"""Name in the reference files -> name in timm."""


def network(name: str, batch: int = 1) -> Workload:
    """`name` on `batch` images of 224 x 224 pixels, at 32 bits. Raises WrongUse for an unknown name."""
    if name not in TIMM_NAMES:
        raise WrongUse(f"unknown network {name!r}; choose from {', '.join(TIMM_NAMES)}")
    prepare_torchvision()
    import timm

    with torch.device("meta"):  # counting needs no weights
        model = timm.create_model(TIMM_NAMES[name])
    return trace(model, torch.empty(batch, 3, 224, 224))


def networks(*names: str) -> dict[str, Workload]:
    """Workloads by name, of all networks if none is named."""
    return {name: network(name) for name in names or TIMM_NAMES}
