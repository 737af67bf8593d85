"""A circuit with trained angles as a classifier, and its plain training."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import WrongUse
from lib.lab.admm import Masks, train_epochs
from lib.quantum.circuits import Circuit, class_scores
from lib.quantum.data import Samples, Splits
from lib.quantum.fast import Simulator


@dataclass(frozen=True)
class Recipe:
    """Adam with the learning rate falling to zero along a cosine, step by step."""

    epochs: int = 30
    learning_rate: float = 0.05
    batch: int = 32

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.learning_rate <= 0 or self.batch < 1:
            raise WrongUse(f"a recipe has epochs >= 0, a learning rate > 0 and a batch >= 1, not {self}")


class Model(nn.Module):
    """Scores of the classes from encoded states; `angles` (parameters,) start uniform between -pi and pi.

    Angles are double precision: the compiler shortens a quarter turn only if its angle is right to about
    1e-12, and single precision misses that. Raises WrongUse for a circuit without parameters or whose qubits
    do not divide among the classes.
    """

    def __init__(self, circuit: Circuit, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        if not circuit.parameters:
            raise WrongUse("the circuit has no trained angle: there is nothing to train or to compress")
        class_scores(torch.zeros(circuit.qubits), classes)
        self.circuit, self.classes = circuit, classes
        self.simulator = Simulator(circuit)
        uniform = torch.rand(circuit.parameters, generator=generator, dtype=torch.float64)
        self.angles = nn.Parameter(math.pi * (2 * uniform - 1))

    def forward(self, states: Tensor) -> Tensor:
        """Scores (batch, classes) for states (batch, 2^qubits) made by `encode`."""
        return class_scores(self.simulator.expectations(states, self.angles), self.classes)

    def encode(self, inputs: Tensor) -> Tensor:
        """States (batch, 2^qubits) of inputs (batch, features); they do not depend on the angles."""
        return self.simulator.encode(inputs)

    @torch.no_grad()
    def accuracies(self, samples: Samples, angles: Tensor) -> Tensor:
        """Accuracy (...,) in percent for every row of angles (..., parameters)."""
        expectations = self.simulator.expectations(self.encode(samples.inputs), angles)
        return accuracy(class_scores(expectations, self.classes), samples.labels)

    def accuracy(self, samples: Samples) -> float:
        """Accuracy in percent."""
        return float(self.accuracies(samples, self.angles))

    @torch.no_grad()
    def margin(self, samples: Samples) -> float:
        """Mean over the samples of the true class's score minus the best other one."""
        return margin(self(self.encode(samples.inputs)), samples.labels)

    def copy(self) -> Self:
        """The same circuit with angles of its own."""
        return copy.deepcopy(self)


@dataclass(frozen=True)
class History:
    """Mean training loss (nats) and validation accuracy (percent) after each epoch; which epoch was kept."""

    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    kept: int


def accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Share in percent (...,) of samples whose highest score (..., batch, classes) is that of the label."""
    return 100 * (scores.argmax(-1) == labels).double().mean(-1)


def margin(scores: Tensor, labels: Tensor) -> float:
    """Mean of the score of the label minus the best score of another class, from scores (batch, classes)."""
    own = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -torch.inf).amax(1)
    return float((own - others).mean())


def train(model: Model, splits: Splits, recipe: Recipe, generator: torch.Generator) -> History:
    """Train the angles in place and keep those of the epoch with the best validation accuracy.

    Raises ReproError when the loss is not finite.
    """
    return fit(model, splits, recipe, generator, score=partial(model.accuracy, splits.validation))


def fit(
    model: Model,
    splits: Splits,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    score: Callable[[], float],
    held: Masks | None = None,
) -> History:
    """Train what `held` leaves free; keep the epoch with the highest `score()`, the last of equals.

    The start counts as an epoch.
    """
    optimizer = torch.optim.Adam([model.angles], recipe.learning_rate)
    epoch = Epoch(model, splits.train, recipe, generator, optimizer)
    best, kept, angles = score(), 0, model.angles.detach().clone()
    losses, accuracies = [], []
    for number, loss in enumerate(train_epochs(epoch, optimizer, recipe.epochs, held=held), 1):
        losses.append(loss)
        accuracies.append(model.accuracy(splits.validation))
        if (now := score()) >= best:
            best, kept, angles = now, number, model.angles.detach().clone()
    with torch.no_grad():
        model.angles.copy_(angles)
    return History(tuple(losses), tuple(accuracies), kept)


class Epoch:
    """One shuffled pass: yields the cross-entropy of each batch.

    With an `optimizer` its learning rate falls along the recipe's cosine, step by step; without, it is left
    alone.
    """

    def __init__(
        self,
        model: Model,
        samples: Samples,
        recipe: Recipe,
        generator: torch.Generator,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.model, self.samples, self.batch, self.generator = model, samples, recipe.batch, generator
        self.states = model.encode(samples.inputs).detach()
        steps = max(1, recipe.epochs * math.ceil(len(samples) / recipe.batch))
        self.schedule = optimizer and torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def __call__(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self.samples), generator=self.generator)
        for chosen in order.split(self.batch):
            yield F.cross_entropy(self.model(self.states[chosen]), self.samples.labels[chosen])
            if self.schedule:
                self.schedule.step()
