"""Small classification tasks for circuits of a few qubits: synthetic ones, and embedded images as 4x4 pixels.

`synthetic-16` is the task of the authors' public notebook (https://github.com/mit-han-lab/torchquantum,
examples/ICCAD22_tutorial/sec3_gate.ipynb): two separated blobs. `xor-16` draws its features from the same two
levels, but no linear rule can tell its classes. `mnist-3-5-8-9` and the like are handwritten digits,
`fashion-pullover-coat` and the like photographs of clothes that resemble each other.

Half of the samples train, a fifth validates (targets and checkpoints are chosen on it), three tenths test.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.lab import datasets

TRAIN, VALIDATION = 0.5, 0.2
"""Shares of the samples; the rest tests."""
SYNTHETIC_SAMPLES = 4000
SIDE = 4
"""Images become this many pixels high and wide."""
LOW, HIGH, SPREAD = 0.2, 0.8, 1 / 16
"""Levels of synthetic features and the standard deviation around them, in turns of 2 pi."""
IMAGES = {"mnist": "mnist_5k", "fashion": "fashion_mnist"}
EXAMPLES = ("synthetic-16", "xor-16", "mnist-3-6", "mnist-3-5", "mnist-3-5-8-9", "fashion-pullover-coat")


@dataclass(frozen=True)
class Samples:
    """Features (samples, features), double precision, and class indices (samples,)."""

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.inputs.ndim != 2 or self.labels.shape != self.inputs.shape[:1] or not len(self.labels):
            raise WrongUse(
                f"samples are features (samples, features) with one label each, "
                f"not {tuple(self.inputs.shape)} with {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, order: Tensor) -> "Samples":
        """The samples numbered by `order`, in that order."""
        return Samples(self.inputs[order], self.labels[order])


@dataclass(frozen=True)
class Splits:
    """A task: samples to train on, to choose by, and to report on; they share no sample."""

    name: str
    classes: tuple[str, ...]
    train: Samples
    validation: Samples
    test: Samples

    @property
    def features(self) -> int:
        return self.train.inputs.shape[1]


def load(name: str, seed: int, *, samples: int | None = None) -> Splits:
    """The task `name`, its samples divided by `seed`; `samples` limits their number, all parts together.

    Names are `synthetic-F` and `xor-F` with an even number F of features, `mnist-D-D...` with two or more
    digits, `fashion-ARTICLE-ARTICLE...`. Image features lie between 0 and pi, synthetic ones between 0 and 2
    pi.

    Raises WrongUse for another name or too few samples; ReproError if the embedded images are damaged.
    """
    if samples is not None and samples < 10:
        raise WrongUse(f"{name} needs at least 10 samples, not {samples}")
    family, *rest = name.split("-")
    generator = torch.Generator().manual_seed(seed)
    if family in ("synthetic", "xor") and len(rest) == 1 and rest[0].isdecimal():
        make = _blobs if family == "synthetic" else _exclusive_or
        every = make(int(rest[0]), samples or SYNTHETIC_SAMPLES, generator)
        classes: tuple[str, ...] = ("0", "1")
    elif family in IMAGES and len(rest) > 1:
        every, classes = _images(IMAGES[family], rest)
    else:
        raise WrongUse(f"unknown task {name!r}; tasks are named like {', '.join(EXAMPLES)}")
    order = torch.randperm(len(every), generator=generator)[:samples]
    ends = (round(TRAIN * len(order)), round((TRAIN + VALIDATION) * len(order)))
    parts = order.tensor_split(ends)
    return Splits(name, classes, *(every.part(part) for part in parts))


def _blobs(features: int, samples: int, generator: torch.Generator) -> Samples:
    """Half of the features high, the others low, or the reverse; their weighted sum decides the class."""
    swapped = torch.arange(samples) % 2 == 1
    return _weighted(_levels(features, ~swapped, swapped, generator))


def _weighted(inputs: Tensor) -> Samples:
    half = inputs.shape[1] // 2
    score = (inputs[:, :half].sum(1) + 3 * inputs[:, half:].sum(1)) / inputs.shape[1]
    return Samples(inputs, (score >= 2 * math.pi).long())


def _exclusive_or(features: int, samples: int, generator: torch.Generator) -> Samples:
    """Each half of the features is high or low by itself; class 1 if the halves differ."""
    index = torch.arange(samples)
    first, last = index % 2 == 1, index // 2 % 2 == 1
    return Samples(_levels(features, first, last, generator), (first ^ last).long())


def _levels(features: int, first: Tensor, last: Tensor, generator: torch.Generator) -> Tensor:
    """Features around the high level where their half is said to be high, else around the low one."""
    if features < 2 or features % 2:
        raise WrongUse(f"a synthetic task has an even number of features, not {features}")
    high = torch.stack([first, last], 1).repeat_interleave(features // 2, 1)
    noise = torch.randn(high.shape, generator=generator, dtype=torch.float64)
    turns = torch.where(high, HIGH, LOW).double() + SPREAD * noise
    return (2 * math.pi * turns).clamp(0, 2 * math.pi)


def _images(name: str, wanted: list[str]) -> tuple[Samples, tuple[str, ...]]:
    known = {label.lower(): label for label in datasets.load(name, "test").classes}
    classes = tuple(known.get(label.lower(), label) for label in wanted)
    inputs, labels = [], []
    for split in ("train", "test"):
        images = datasets.load(name, split, image_size=SIDE, classes=classes)
        pixels, index = next(images.batches(len(images)))
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (images.mean, images.std))
        inputs.append((pixels * deviation + mean).clamp(0, 1).flatten(1).double() * math.pi)
        labels.append(index)
    return Samples(torch.cat(inputs), torch.cat(labels)), classes
