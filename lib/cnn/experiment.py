"""What the pruning experiments share: images, a schedule for convolutional networks, training with a bar."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib.cnn.image_parts import Part, hold_out
from lib.cnn.networks import Network, build
from lib.errors import WrongUse
from lib.lab.datasets import ImageSplit, load
from lib.lab.fit import Loss, Schedule, fit, rate
from lib.lab.train import accuracy

PUBLISHED_PULL = 0.16
"""Sum over steps of learning rate times lambda in Early-Bird's recipe for CIFAR, which sets the penalty here.

0.1 * (80 + 0.1 * 40 + 0.01 * 40) epochs * 196 steps * 1e-4: how far the penalty can move a scale (before
momentum multiplies it by ten), whatever the length of the training.
"""


@dataclass(frozen=True)
class Bench:
    """A kind of network and its images: to train on, held out of training to choose by, and to test with."""

    network: str
    train: Part
    held_out: Part
    test: ImageSplit
    device: torch.device

    @property
    def image(self) -> Tensor:
        """A blank image `(1, channels, side, side)`, to trace and count networks with."""
        return torch.zeros(1, self.test.channels, self.test.image_size, self.test.image_size)

    def build(self) -> Network:
        """The network with fresh weights from torch's global generator; seed it first."""
        return build(self.network, classes=len(self.test.classes), channels=self.test.channels).to(
            self.device
        )

    def batches(self, count: int, generator: torch.Generator, batch_size: int = 64) -> list[Tensor]:
        """`count` batches of training images drawn by `generator`, to re-estimate statistics with."""
        drawn = self.train.batches(batch_size, generator=generator)
        return [images.to(self.device) for (images, _), _ in zip(drawn, range(count), strict=False)]

    def accuracy(self, model: nn.Module) -> float:
        """Test accuracy in percent."""
        return 100 * accuracy(model, self.test)


def prepare(
    network: str,
    dataset: str,
    data_root: str,
    device: torch.device,
    *,
    images: int,
    held_out: int,
    test_images: int,
    generator: torch.Generator,
    image_size: int | None = None,
) -> Bench:
    """`images` training images, of which `held_out` are kept apart, and `test_images` of the test split."""
    if dataset not in ("fashion_mnist", "cifar10"):
        raise WrongUse(f"no experiment on {dataset!r}: choose fashion_mnist, or cifar10 with data_root")
    whole = load(dataset, "train", data_root=data_root, limit=images, image_size=image_size)
    test = load(dataset, "test", data_root=data_root, limit=test_images, image_size=image_size)
    train, apart = hold_out(whole, held_out, generator)
    return Bench(network, train, apart, test, device)


@dataclass(frozen=True)
class SgdSchedule(Schedule):
    """Momentum 0.9 with Nesterov's rule, short warm-up, half a cosine: as these papers' neighbours train."""

    epochs: int
    learning_rate: float = 0.1
    weight_decay: float = 1.0e-4
    warmup_epochs: float = 0.5

    def optimizer(self, model: nn.Module) -> torch.optim.SGD:
        """The optimizer; `fit` sets its learning rate at every step."""
        return torch.optim.SGD(
            model.parameters(),
            lr=self.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=self.weight_decay,
        )


def matched_strength(schedule: Schedule, images: int) -> float:
    """lambda with which a training on `images` images pulls scales as far as the published one does."""
    steps = -(-images // schedule.batch_size)
    total = sum(rate(schedule, step, steps) for step in range(steps * schedule.epochs))
    return PUBLISHED_PULL / total


def train(
    name: str,
    model: nn.Module,
    bench: Bench,
    schedule: SgdSchedule,
    generator: torch.Generator,
    loss: Loss,
    *,
    at_epoch: Callable[[int], None] | None = None,
) -> list[float]:
    """Trains `model`, with a progress bar called `name`; the loss of every step.

    `at_epoch(epoch)` is called after every epoch, counted from 1.
    """
    losses = []
    steps = fit(model, bench.train, schedule, generator, loss, optimizer=schedule.optimizer(model))
    with tqdm(desc=name, unit="step", leave=False) as bar:
        for step in steps:
            bar.total = step.total
            bar.update()
            losses.append(step.loss)
            if at_epoch is not None and step.ends_epoch:
                at_epoch(step.epoch + 1)
    return losses
