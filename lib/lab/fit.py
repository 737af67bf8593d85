"""Training from scratch, shared by the experiments that need it: one loop, which a loss can look into."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.lab.datasets import ImageSplit
from lib.lab.descent import descend

Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Loss of a batch: augmented images, labels, their places in the split, progress of training in [0, 1)."""


@dataclass(frozen=True)
class Schedule:
    """AdamW, linear warm-up, then half a cosine down to one hundredth; flips and shifts as augmentation."""

    epochs: int
    batch_size: int = 64
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    shift_pixels: int = 2


@dataclass(frozen=True)
class FitStep:
    """One step: its number of `total` (from 1), its epoch (from 0; whether it `ends_epoch`), and its loss."""

    index: int
    total: int
    epoch: int
    ends_epoch: bool
    loss: float


def augment(images: Tensor, generator: torch.Generator, shift: int) -> Tensor:
    """`images (batch, channels, height, width)` flipped by chance and shifted by up to `shift` pixels."""
    flip = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(flip, images.flip(-1), images)
    height, width = images.shape[-2:]
    padded = F.pad(images, (shift,) * 4, mode="replicate")
    top, left = torch.randint(0, 2 * shift + 1, (2, len(images)), generator=generator)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    batch = torch.arange(len(images))[:, None, None, None]
    channels = torch.arange(images.shape[1])[None, :, None, None]
    return padded[batch, channels, rows, columns]


def rate(schedule: Schedule, step: int, steps_an_epoch: int) -> float:
    """Learning rate at `step`: linear warm-up, then half a cosine down to one hundredth."""
    warmup = schedule.warmup_epochs * steps_an_epoch
    total = schedule.epochs * steps_an_epoch
    if step < warmup:
        return schedule.learning_rate * (step + 1) / warmup
    phase = (step - warmup) / max(1.0, total - warmup)
    return schedule.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase)))


def optimizer_for(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """The optimizer of `fit`."""
    return torch.optim.AdamW(
        model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )


def fit(
    model: nn.Module,
    split: ImageSplit,
    schedule: Schedule,
    generator: torch.Generator,
    loss: Loss,
    *,
    chosen: Callable[[int], Tensor] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    first_epoch: int = 0,
) -> Iterator[FitStep]:
    """Train `model` on `split`, yielding after every step; the model is left in evaluation mode at the end.

    Args:
        loss: called on every batch in training mode, on the model's device.
        chosen: places in the split `(images,)` to train on in an epoch, always equally many; all of them
            without it.
        optimizer: that of an interrupted training, to go on at `first_epoch`.

    Raises:
        ReproError: the loss is no longer finite.
    """
    device = next(model.parameters()).device
    optimizer = optimizer or optimizer_for(model, schedule)
    everything = torch.arange(len(split))
    for epoch in range(first_epoch, schedule.epochs):
        places = everything if chosen is None else chosen(epoch)
        order = places[torch.randperm(len(places), generator=generator)]
        steps = math.ceil(len(order) / schedule.batch_size)
        batches = split.in_order(
            order,
            schedule.batch_size,
            generator=generator,
            augment=partial(augment, shift=schedule.shift_pixels),
        )
        for number, (images, labels) in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = rate(schedule, epoch * steps + number, steps)
            mine = order[number * schedule.batch_size :][: len(labels)]
            model.train()
            value = loss(
                images.to(device), labels.to(device), mine, (epoch + number / steps) / schedule.epochs
            )
            descend(
                value,
                optimizer,
                when=f"in epoch {epoch + 1} of {schedule.epochs}",
                remedy="lower learning_rate",
            )
            index = epoch * steps + number + 1
            yield FitStep(index, steps * schedule.epochs, epoch, number + 1 == steps, value.item())
    model.eval()


def classification(model: nn.Module) -> Loss:
    """Cross-entropy of `model`'s logits, for `fit`."""

    def of_batch(images: Tensor, labels: Tensor, places: Tensor, progress: float) -> Tensor:
        return F.cross_entropy(model(images), labels)

    return of_batch
