"""The convolutional networks of these papers: VGG, ResNet, MobileNetV2, in small, CIFAR and ImageNet shapes.

Convolutions carry no bias, each is followed by batch normalisation, and the last feature map is averaged over
its positions, so that a network takes images of any side. Sizes of the published networks are in
tests/cnn/test_networks.py.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import WrongUse


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the side (but for its stride), and its batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Network(nn.Module):
    """`stem`, `blocks` one after the other, `last`, mean over positions, `classifier`.

    Images `(batch, channels, side, side)` become logits `(batch, classes)`.
    """

    def __init__(
        self, stem: nn.Module, blocks: Sequence[nn.Module], last: nn.Module, head: nn.Linear
    ) -> None:
        super().__init__()
        self.stem, self.blocks = stem, nn.Sequential(*blocks)
        self.last, self.classifier = last, head
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        features = self.last(self.blocks(self.stem(images)))
        return self.classifier(features.mean((2, 3)))


class PlainBlock(nn.Module):
    """VGG's unit: convolution, normalisation, ReLU, and max-pooling where a stage ends."""

    def __init__(self, inputs: int, outputs: int, pool: bool) -> None:
        super().__init__()
        self.conv = conv_norm(inputs, outputs, 3)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.relu(self.conv(x)))


class PaddedShortcut(nn.Module):
    """CIFAR ResNet's shortcut without parameters: every second position, zeros in missing channels."""

    def __init__(self, stride: int, missing: int) -> None:
        super().__init__()
        self.stride, self.missing = stride, missing

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))


class ResidualBlock(nn.Module):
    """Basic (two 3x3) or bottleneck block (1x1, 3x3 with the stride, 1x1 to four times the width)."""

    def __init__(
        self, inputs: int, width: int, stride: int, *, bottleneck: bool = False, padded: bool = False
    ) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            layers = [
                conv_norm(inputs, width, 1),
                conv_norm(width, width, 3, stride),
                conv_norm(width, outputs, 1),
            ]
        else:
            layers = [conv_norm(inputs, width, 3, stride), conv_norm(width, outputs, 3)]
        self.layers = nn.ModuleList(layers)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = (
                PaddedShortcut(stride, outputs - inputs) if padded else conv_norm(inputs, outputs, 1, stride)
            )

    def forward(self, x: Tensor) -> Tensor:
        result = x
        for number, layer in enumerate(self.layers):
            result = layer(F.relu(result) if number else result)
        return F.relu(result + self.shortcut(x))


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1x1 expansion (none at factor 1), depthwise 3x3, linear 1x1 projection."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = conv_norm(inputs, hidden, 1) if expansion != 1 else nn.Identity()
        self.expands = expansion != 1
        self.depthwise = conv_norm(hidden, hidden, 3, stride, groups=hidden)
        self.project = conv_norm(hidden, outputs, 1)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu6(self.expand(x)) if self.expands else x
        result = self.project(F.relu6(self.depthwise(hidden)))
        return x + result if self.adds else result


def vgg(classes: int, channels: int, widths: Sequence[Sequence[int]]) -> Network:
    """VGG with one linear layer: `widths` lists those of convolutions by stage; stages end in pooling."""
    blocks, inputs = [], channels
    for stage in widths:
        for number, width in enumerate(stage):
            blocks.append(PlainBlock(inputs, width, pool=number + 1 == len(stage)))
            inputs = width
    return Network(nn.Identity(), blocks, nn.Identity(), nn.Linear(inputs, classes))


def resnet(
    classes: int,
    channels: int,
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    stem_stride: int = 1,
    imagenet_stem: bool = False,
    bottleneck: bool = False,
    padded: bool = False,
) -> Network:
    """ResNet: stages of `depths` blocks; every stage but the first halves the side.

    `imagenet_stem`: 7x7 with stride 2 and max-pooling, else 3x3 with `stem_stride`. `padded`: shortcuts
    without parameters, as in the CIFAR networks of the original paper.
    """
    stem: list[nn.Module] = [conv_norm(channels, widths[0], 3, stem_stride), nn.ReLU()]
    if imagenet_stem:
        stem = [conv_norm(channels, widths[0], 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    blocks, inputs = [], widths[0]
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for number in range(depth):
            stride = 2 if stage and not number else 1
            blocks.append(ResidualBlock(inputs, width, stride, bottleneck=bottleneck, padded=padded))
            inputs = 4 * width if bottleneck else width
    return Network(nn.Sequential(*stem), blocks, nn.Identity(), nn.Linear(inputs, classes))


Stage = tuple[int, int, int, int]
"""Expansion factor, output width, number of blocks and stride of the first of them."""

MOBILENET_V2: tuple[Stage, ...] = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    classes: int,
    channels: int,
    *,
    stages: Sequence[Stage] = MOBILENET_V2,
    stem: int = 32,
    stem_stride: int = 2,
    last: int = 1280,
    width: float = 1.0,
) -> Network:
    """MobileNetV2; `width` scales stem and stages to multiples of 8, never the last convolution."""
    inputs = rounded_to_8(stem * width)
    start = nn.Sequential(conv_norm(channels, inputs, 3, stem_stride), nn.ReLU6())
    blocks = []
    for expansion, outputs, depth, stride in stages:
        for number in range(depth):
            blocks.append(
                InvertedResidual(inputs, rounded_to_8(outputs * width), 1 if number else stride, expansion)
            )
            inputs = rounded_to_8(outputs * width)
    end = nn.Sequential(conv_norm(inputs, last, 1), nn.ReLU6())
    return Network(start, blocks, end, nn.Linear(last, classes))


def rounded_to_8(width: float) -> int:
    """The nearest multiple of 8, at least 8, and not under nine tenths of `width` (MobileNet's rule)."""
    rounded = max(8, 8 * int((width + 4) // 8))
    return rounded + 8 if rounded < 0.9 * width else rounded


_CIFAR_V2 = (MOBILENET_V2[0], (6, 24, 2, 1), *MOBILENET_V2[2:])
_imagenet_resnet = partial(resnet, widths=(64, 128, 256, 512), imagenet_stem=True)
NETWORKS: dict[str, tuple[Callable[..., Network], int, int, int]] = {
    # the networks of the default experiments, seconds to train on a processor
    "vgg_small": (partial(vgg, widths=((16,), (32, 32), (64, 64))), 10, 1, 28),
    "resnet_small": (partial(resnet, depths=(1, 1, 1), widths=(16, 32, 64), stem_stride=2), 10, 1, 28),
    "mobilenet_small": (
        partial(mobilenet_v2, stages=((1, 16, 1, 1), (6, 24, 2, 2), (6, 40, 2, 2)), stem=16, last=128),
        10,
        1,
        28,
    ),
    # 32-pixel colour images
    "vgg16_cifar": (
        partial(vgg, widths=((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)),
        10,
        3,
        32,
    ),
    "resnet20": (partial(resnet, depths=(3,) * 3, widths=(16, 32, 64), padded=True), 10, 3, 32),
    "resnet56": (partial(resnet, depths=(9,) * 3, widths=(16, 32, 64), padded=True), 10, 3, 32),
    "mobilenet_v2_cifar": (partial(mobilenet_v2, stages=_CIFAR_V2, stem_stride=1), 10, 3, 32),
    # ImageNet
    "resnet18": (partial(_imagenet_resnet, depths=(2,) * 4), 1000, 3, 224),
    "resnet50": (partial(_imagenet_resnet, depths=(3, 4, 6, 3), bottleneck=True), 1000, 3, 224),
    "mobilenet_v2": (mobilenet_v2, 1000, 3, 224),
}
"""Name: builder `(classes, channels)`, then the usual classes, image channels and image side."""


def build(name: str, *, classes: int | None = None, channels: int | None = None) -> Network:
    """The network `name` with fresh weights, for `classes` classes of images with `channels` channels.

    Raises WrongUse for an unknown name.
    """
    builder, usual_classes, usual_channels, _ = _entry(name)
    return builder(classes or usual_classes, channels or usual_channels)


def example(name: str, *, channels: int | None = None, side: int | None = None) -> Tensor:
    """A blank image `(1, channels, side, side)` of the kind that `name` takes.

    Raises WrongUse as `build` does.
    """
    _, _, usual_channels, usual_side = _entry(name)
    return torch.zeros(1, channels or usual_channels, side or usual_side, side or usual_side)


def _entry(name: str) -> tuple[Callable[..., Network], int, int, int]:
    if name not in NETWORKS:
        near = get_close_matches(name, NETWORKS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(NETWORKS)}"
        raise WrongUse(f"unknown network {name!r}; {hint}")
    return NETWORKS[name]
