"""The recurrent papers' experiment: one dense network, pruned by every structure at equal rate."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.lab.admm import Masks, Projection, Reprojection
from lib.lab.compute import seeded
from lib.lab.sequences import load_sequences
from lib.lab.words import load_words
from lib.rnn.baselines import Unstructured
from lib.rnn.networks import Cell, LanguageModel, SequenceClassifier, gate_matrices
from lib.rnn.structure import Structure, kept, projection
from lib.rnn.training import LabelledSequences, Recipe, RunningText, Score, Task, admm_prune, retrain, train


@dataclass(frozen=True)
class Setting:
    """Network size and recipe that fit a data set."""

    hidden: int
    layers: int
    recipe: Recipe


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "japanese_vowels": Setting(
            128,
            1,
            Recipe(
                epochs=25,
                rounds=10,
                retrain_epochs=10,
                learning_rate=1.0e-2,
                admm_learning_rate=1.0e-2,
                retrain_learning_rate=1.0e-2,
            ),
        ),
        "spoken_digits": Setting(
            128, 1, Recipe(epochs=12, rounds=6, retrain_epochs=6, batch_size=64, admm_learning_rate=3.0e-3)
        ),
        "timit": Setting(1024, 2, Recipe(epochs=24, rounds=20, retrain_epochs=20, batch_size=16)),
        "ptb": Setting(1500, 2, Recipe(epochs=40, rounds=20, retrain_epochs=20, batch_size=20)),
    }
)
"""Sizes and recipes by data set.

The recipe of japanese_vowels and the dense part of that of spoken_digits were chosen by the loss on held-out
training sequences alone (rho from 0.01 to 1, learning rates from 0.003 to 0.01, one-shot pruning, several
stages). Those of timit and ptb have the sizes of CSB-RNN's Table 1 (SR2, and MT2 with cell lstm) and have not
been tried.
"""


@dataclass(frozen=True)
class Bench:
    """A trained dense network, its data (`validation` was held out of training) and its test score."""

    dataset: str
    dense: nn.Module
    train: Task
    validation: Task
    test: Task
    recipe: Recipe
    score: Score

    @property
    def accuracy(self) -> float:
        """Test accuracy of the dense network in percent."""
        return self.score.accuracy

    def copy(self) -> nn.Module:
        """The dense network with weights of its own."""
        return copy.deepcopy(self.dense)


@dataclass(frozen=True)
class Arm:
    """A pruned and retrained network. `masks` are True where a weight was kept, by the name of its matrix.

    `accuracy` is that of the test split, `validation` that of held-out training data, both in percent;
    `kept` is the share of the gate matrices' weights that is not zero.
    """

    name: str
    accuracy: float
    kept: float
    masks: Mapping[str, Tensor]
    network: nn.Module
    score: Score
    validation: float


def prepare(
    dataset: str,
    data_root: str = "",
    *,
    cell: Cell = "gru",
    hidden: int | None = None,
    layers: int | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    device: torch.device | None = None,
) -> Bench:
    """Load `dataset` and train the dense network that all arms of `seed` start from.

    Sizes and recipe are those of `SETTINGS` where not given. Sets without a validation split of their own
    give every fifth training sequence of each class to validation, whatever the seed; the test split is
    only scored.

    Raises:
        WrongUse: unknown data set or cell, or a data_root of another layout.
        ReproError: data that are missing or damaged, or a training that diverges.
    """
    if dataset not in SETTINGS:
        raise WrongUse(f"no recurrent experiment on {dataset!r}; known: {', '.join(SETTINGS)}")
    setting = SETTINGS[dataset]
    recipe = recipe or setting.recipe
    hidden = setting.hidden if hidden is None else hidden
    layers = setting.layers if layers is None else layers
    generator = seeded(seed)
    network, fitting, validation, test = (
        _text(data_root, cell, hidden, layers)
        if dataset == "ptb"
        else _sequences(dataset, data_root, cell, hidden, layers)
    )
    network.to(device or torch.device("cpu"))
    for _ in train(network, fitting, recipe, generator):
        pass
    return Bench(dataset, network, fitting, validation, test, recipe, test.score(network))


def prune_arm(
    name: str,
    bench: Bench,
    structure: Structure,
    rate: float,
    recipe: Recipe | None = None,
    seed: int = 0,
) -> Arm:
    """A copy of the dense network pruned to `rate` in every gate matrix, then retrained under its mask.

    Rate 1 trains on with nothing held. Raises ReproError when the training diverges.
    """
    recipe = recipe or bench.recipe
    generator = seeded(seed)
    network = bench.copy()

    def projections(stage_rate: float) -> Mapping[str, Projection]:
        return dict.fromkeys(gate_matrices(network), projection(structure, stage_rate))

    for _ in admm_prune(network, bench.train, projections, rate, recipe, generator):
        pass
    masks = {key: kept(structure, weight, rate) for key, weight in gate_matrices(network).items()}
    held = hold_zeros(network, masks)
    for _ in retrain(network, bench.train, held, recipe, generator):
        pass
    return scored(name, bench, network, masks, held.kept)


def dense_arm(bench: Bench, seed: int = 0) -> Arm:
    """The dense network trained on as long as the pruned arms, with nothing removed."""
    return prune_arm("dense", bench, Unstructured(), 1, seed=seed)


class Tied(Protocol):
    """A structure without zeros, whose weights share parameters: circulant blocks."""

    def project(self, weight: Tensor) -> Tensor: ...

    def rate(self, weight: Tensor) -> float: ...


def tie_arm(name: str, bench: Bench, structure: Tied, recipe: Recipe | None = None, seed: int = 0) -> Arm:
    """A copy of the dense network with tied weights, retrained by projecting after every step.

    `masks` are True everywhere, and `kept` is the number of parameters per weight. Raises ReproError when the
    training diverges.
    """
    recipe = recipe or bench.recipe
    generator = seeded(seed)
    network = bench.copy()
    matrices = gate_matrices(network)
    projections = dict.fromkeys(matrices, structure.project)
    for _ in admm_prune(network, bench.train, lambda rate: projections, 1.0, recipe, generator):
        pass
    for _ in retrain(network, bench.train, Reprojection(matrices, projections), recipe, generator):
        pass
    free = sum(weight.numel() / structure.rate(weight) for weight in matrices.values())
    masks = {key: torch.ones_like(weight, dtype=torch.bool) for key, weight in matrices.items()}
    return scored(name, bench, network, masks, free / sum(weight.numel() for weight in matrices.values()))


def scored(name: str, bench: Bench, network: nn.Module, masks: Mapping[str, Tensor], share: float) -> Arm:
    """The arm of a network that is trained, tested on the splits of `bench`; `share` is what `kept` says."""
    score, validation = bench.test.score(network), bench.validation.score(network)
    return Arm(name, score.accuracy, share, masks, network, score, validation.accuracy)


def hold_zeros(network: nn.Module, masks: Mapping[str, Tensor]) -> Masks:
    """Zero the gate matrices' weights whose mask is False, and hold them there in retraining."""
    matrices = gate_matrices(network)
    zeros = {key: torch.zeros_like(weight) for key, weight in matrices.items()}
    held = Masks(matrices, {key: ~mask for key, mask in masks.items()}, zeros)
    held.apply()
    return held


def _text(data_root: str, cell: Cell, hidden: int, layers: int) -> tuple[nn.Module, Task, Task, Task]:
    """A language model and the texts to train on, to validate and to test with."""
    if cell == "ligru":
        raise WrongUse("a language model is made of gru or lstm, not ligru")
    fitting, validation, test = (load_words("ptb", split, data_root) for split in ("train", "val", "test"))
    network = LanguageModel(cell, len(fitting.vocabulary), hidden, hidden, layers, dropout=0.5)
    return network, RunningText(fitting), RunningText(validation), RunningText(test)


def _sequences(
    dataset: str, data_root: str, cell: Cell, hidden: int, layers: int
) -> tuple[nn.Module, Task, Task, Task]:
    """A classifier of sequences, or of frames where these have labels, and its three parts of the data."""
    whole, test = load_sequences(dataset, "train", data_root), load_sequences(dataset, "test", data_root)
    if dataset == "timit":
        fitting, validation = whole, load_sequences(dataset, "val", data_root)
    else:
        chosen, left = hold_out(whole.labels, every=5)
        fitting, validation = whole.part(chosen), whole.part(left)
    inputs, framewise = whole.frames.shape[-1], whole.labels.ndim == 2
    network = SequenceClassifier(cell, inputs, hidden, layers, len(whole.classes), framewise=framewise)
    return network, LabelledSequences(fitting), LabelledSequences(validation), LabelledSequences(test)


def hold_out(labels: Tensor, every: int) -> tuple[Tensor, Tensor]:
    """Places (sequence,) to train on, and those held out: the last of every `every` of each class."""
    rank = torch.empty_like(labels)
    for label in labels.unique():
        of_class = torch.nonzero(labels == label)[:, 0]
        rank[of_class] = torch.arange(len(of_class))
    chosen = rank % every == every - 1
    return torch.nonzero(~chosen)[:, 0], torch.nonzero(chosen)[:, 0]
