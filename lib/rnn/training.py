"""Training, ADMM pruning and masked retraining of recurrent networks on labelled sequences and on words."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import WrongUse
from lib.lab.admm import (
    Admm,
    Masks,
    Projection,
    Reprojection,
    Round,
    admm_rounds,
    progressive_rates,
    train_epochs,
)
from lib.lab.sequence_splits import NO_LABEL, SequenceSplit
from lib.lab.words import WordSplit
from lib.rnn.networks import LanguageModel, gate_matrices


@dataclass(frozen=True)
class Score:
    """Accuracy in percent (of sequences, frames or next words) and mean cross-entropy in nats."""

    accuracy: float
    loss: float

    @property
    def perplexity(self) -> float:
        """exp(loss): the measure of language models."""
        return math.exp(self.loss)


@dataclass(frozen=True)
class Recipe:
    """How long and how fast: dense training, then ADMM, then masked retraining; Adam throughout.

    The dense training and the retraining follow half a cosine from their learning rate down to one
    hundredth; ADMM keeps its rate. ADMM goes through `stages` pruning rates, rising in equal ratios up to
    the wanted one from its `stages`-th root, with `rounds` rounds each; no round at all is one-shot
    pruning. `clip` bounds the gradient's norm.

    Raises WrongUse for a number that makes no sense.
    """

    epochs: int
    rounds: int
    retrain_epochs: int
    learning_rate: float = 3.0e-3
    admm_learning_rate: float = 1.0e-3
    retrain_learning_rate: float = 3.0e-3
    rho: float = 1.0e-2
    epochs_a_round: int = 1
    stages: int = 1
    batch_size: int = 32
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("rounds", 0), ("retrain_epochs", 0), ("epochs_a_round", 1),
                            ("stages", 1), ("batch_size", 1)):  # fmt: skip
            if getattr(self, name) < least:
                raise WrongUse(f"{name} of a recipe must be at least {least}, not {getattr(self, name)}")
        for name in ("learning_rate", "admm_learning_rate", "retrain_learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise WrongUse(f"{name} of a recipe must be a positive number, not {getattr(self, name)}")
        if not 0 <= self.rho < math.inf:
            raise WrongUse(f"rho of a recipe must be a number of at least 0, not {self.rho}")


class Task(Protocol):
    """Data with a loss and a score; `losses` goes once through them, in an order that the generator draws."""

    def losses(self, network: nn.Module, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]: ...

    def score(self, network: nn.Module) -> Score: ...


@dataclass(frozen=True)
class LabelledSequences:
    """Sequences with one label each, or one a frame."""

    split: SequenceSplit

    def losses(self, network: nn.Module, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Cross-entropy of each shuffled batch."""
        for frames, lengths, labels in self.split.batches(batch_size, generator=generator):
            logits, expected = self._decisions(network, frames, lengths, labels)
            yield F.cross_entropy(logits, expected, ignore_index=NO_LABEL)

    @torch.no_grad()
    def score(self, network: nn.Module) -> Score:
        """Over the whole split, in evaluation mode (the network is put back as it was)."""
        was_training = network.training
        network.eval()
        right, count, loss = 0, 0, 0.0
        for frames, lengths, labels in self.split.batches(256):
            logits, expected = self._decisions(network, frames, lengths, labels)
            labelled = expected != NO_LABEL
            right += int((logits.argmax(-1) == expected)[labelled].sum())
            count += int(labelled.sum())
            loss += float(F.cross_entropy(logits, expected, ignore_index=NO_LABEL, reduction="sum"))
        network.train(was_training)
        return Score(100 * right / count, loss / count)

    def _decisions(
        self, network: nn.Module, frames: Tensor, lengths: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (decision, class) and labels (decision,), with no more padding than the batch needs."""
        device = next(network.parameters()).device
        longest = int(lengths.max())
        logits = network(frames[:, :longest].to(device), lengths.to(device))
        expected = labels[:, :longest] if labels.ndim == 2 else labels
        return logits.flatten(0, -2), expected.flatten().to(device)


@dataclass(frozen=True)
class RunningText:
    """Words read in parallel streams, `steps` at a time, the state carried on from piece to piece."""

    split: WordSplit
    steps: int = 35

    def losses(self, network: nn.Module, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Cross-entropy of each piece; the order of a text is its own, so the generator is not used."""
        for logits, expected in self._pieces(network, batch_size):
            yield F.cross_entropy(logits, expected)

    @torch.no_grad()
    def score(self, network: nn.Module) -> Score:
        """Over the whole text as one stream, in evaluation mode (the network is put back as it was)."""
        was_training = network.training
        network.eval()
        right, count, loss = 0, 0, 0.0
        for logits, expected in self._pieces(network, 1):
            right += int((logits.argmax(-1) == expected).sum())
            count += len(expected)
            loss += float(F.cross_entropy(logits, expected, reduction="sum"))
        network.train(was_training)
        return Score(100 * right / count, loss / count)

    def _pieces(self, network: nn.Module, streams: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits (word, vocabulary) and the words that follow (word,); what fills no stream is left out."""
        assert isinstance(network, LanguageModel)
        words = self.split.words
        length = (len(words) - 1) // streams
        if length < 1:
            raise WrongUse(f"{len(words)} words are too few for {streams} streams: lower batch_size")
        device = next(network.parameters()).device
        read = words[: length * streams].view(streams, length).to(device)
        follow = words[1 : length * streams + 1].view(streams, length).to(device)
        state = None
        for start in range(0, length, self.steps):
            logits, state = network(read[:, start : start + self.steps], state)
            yield logits.flatten(0, 1), follow[:, start : start + self.steps].flatten()


def train(network: nn.Module, task: Task, recipe: Recipe, generator: torch.Generator) -> Iterator[float]:
    """Dense training, yielding the mean loss of every epoch; the network is left in evaluation mode."""
    yield from _cosine(network, task, recipe, generator, recipe.epochs, recipe.learning_rate, None)


def admm_prune(
    network: nn.Module,
    task: Task,
    projections: Callable[[float], Mapping[str, Projection]],
    rate: float,
    recipe: Recipe,
    generator: torch.Generator,
) -> Iterator[Round]:
    """Draw the gate matrices towards the sets of `projections(rate)`; they are not yet in them at the end."""
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.admm_learning_rate)
    epoch = partial(task.losses, network, recipe.batch_size, generator)
    network.train()
    if recipe.rounds:
        for stage_rate in progressive_rates(rate ** (1 / recipe.stages), rate, recipe.stages):
            admm = Admm(gate_matrices(network), projections(stage_rate), recipe.rho)
            yield from admm_rounds(
                admm, epoch, optimizer, recipe.rounds, epochs_a_round=recipe.epochs_a_round, clip=recipe.clip
            )
    network.eval()


def retrain(
    network: nn.Module, task: Task, held: Masks | Reprojection, recipe: Recipe, generator: torch.Generator
) -> Iterator[float]:
    """Retraining of what `held` leaves free, yielding the mean loss of every epoch."""
    yield from _cosine(
        network, task, recipe, generator, recipe.retrain_epochs, recipe.retrain_learning_rate, held
    )


def _cosine(
    network: nn.Module,
    task: Task,
    recipe: Recipe,
    generator: torch.Generator,
    epochs: int,
    learning_rate: float,
    held: Masks | Reprojection | None,
) -> Iterator[float]:
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    network.train()
    epoch = partial(task.losses, network, recipe.batch_size, generator)
    for index, loss in enumerate(
        train_epochs(epoch, optimizer, epochs, held=held, clip=recipe.clip), start=1
    ):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * index / epochs)))
        yield loss
    network.eval()
