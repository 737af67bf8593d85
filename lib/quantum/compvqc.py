"""CompVQC: compression of a trained circuit by ADMM, with the compiler in the loop.

Hu et al., ICCAD 2022, https://arxiv.org/abs/2207.01578.

Symbols: theta (P,) are the trained angles of P gates; T_i the compression levels of gate i
(`lib.quantum.levels`); t_i in T_i its target; kappa the share of angles that end on their targets; z, u and
rho belong to ADMM (`lib.lab.admm`).

1. Levels: the compiled length of each gate by itself, at each multiple of pi/2.
2. Targets: t_i is the level with the largest Acc(theta with theta_i = t) / Acc(theta) + L(theta) / L(theta
   with theta_i = t), where L is the depth of the whole compiled circuit ("LUT reconstruction").
3. ADMM draws theta to the set of angles of which at least kappa P lie on their targets; the projection onto
   it moves the nearest ones.
4. Those are put on their targets exactly and held there while the others are retrained; the epoch with the
   largest Acc / Acc_0 + L_0 / L is kept.

The paper's text was not at hand; steps and constants follow the authors' public notebook
(https://github.com/mit-han-lab/torchquantum, examples/ICCAD22_tutorial/sec3_gate.ipynb) with four
corrections: the penalty has a gradient, levels are exact, distances are measured on the circle, and whatever
is chosen is chosen on a validation split.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.lab.admm import Admm, admm_rounds
from lib.quantum.circuits import Circuit
from lib.quantum.compiler import Compiler
from lib.quantum.data import Samples, Splits
from lib.quantum.levels import PERIOD, Kind, LevelTable, Metric
from lib.quantum.model import Epoch, History, Model, Recipe, fit

TIE = 1e-9
"""Scores that differ by less are equal: they are sums of two quotients of small whole numbers."""
Candidates = Sequence[Sequence[float]]
"""For each trained angle, the angles that it may be moved to; none if it must stay free."""


@dataclass(frozen=True)
class Compression:
    """How much to compress and how: rounds of ADMM of one epoch each, then epochs of masked retraining."""

    kappa: float = 0.5
    rho: float = 0.1
    rounds: int = 10
    retraining: int = 10
    learning_rate: float = 0.01
    batch: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.kappa <= 1:
            raise WrongUse(f"kappa is the share of angles to compress, from 0 to 1, not {self.kappa}")
        if self.rho < 0 or self.rounds < 0:
            raise WrongUse(f"rho and rounds are at least 0, not {self.rho} and {self.rounds}")


@dataclass(frozen=True)
class Compressed:
    """A compressed model, which of its angles are held at their targets (P,), and how it came about."""

    model: Model
    held: Tensor
    targets: Tensor
    residuals: tuple[float, ...]
    retraining: History


def circular_difference(first: Tensor, second: Tensor) -> Tensor:
    """`first - second`, moved by multiples of 4 pi to within 2 pi of zero; its slope in `first` is 1."""
    difference = first - second
    return difference - PERIOD * torch.round(difference.detach() / PERIOD)


def candidates(
    circuit: Circuit, tables: Mapping[str, LevelTable], kind: Kind = "any", metric: Metric = "depth"
) -> tuple[tuple[float, ...], ...]:
    """The levels of one kind of each trained gate, in [0, 4 pi); 4 pi is 0 again."""
    return tuple(
        tuple(level for level in tables[gate.name].levels(kind, metric) if level < PERIOD)
        for gate in circuit.ansatz
    )


def nearest(angles: Tensor, levels: Candidates) -> Tensor:
    """For each angle (P,) the nearest of its candidates on the circle; nan for one that has none."""
    return _best(angles, levels, torch.zeros_like)


def reconstruct(
    model: Model, samples: Samples, compiler: Compiler, levels: Candidates, metric: Metric = "depth"
) -> Tensor:
    """The target of each angle (P,) by its effect on the whole model's accuracy and compiled length (step 2).

    `samples` must not be those that are reported on. Of equally good levels the nearest is taken; an angle
    without candidates has the target nan.
    """
    angles = model.angles.detach()
    variants = _variants(angles, levels)
    accuracies = model.accuracies(samples, torch.stack([angles, *variants]))
    whole = _length(compiler, model.circuit, angles, metric)
    shares = accuracies[1:] / accuracies[0].clamp(min=1e-9)
    gains = [whole / _length(compiler, model.circuit, variant, metric) for variant in variants]
    every = shares + torch.tensor(gains, dtype=torch.float64)
    scores = (part for part in every.split([len(options) for options in levels]) if len(part))
    return _best(angles, levels, lambda options: next(scores))


class TargetProjection:
    """The Euclidean projection onto angles of which ceil(kappa P) lie on their targets (P,).

    Which ones: those whose distance on the circle, divided by their weight, is smallest; of equals the first.
    Angles whose target is nan are never chosen. Raises WrongUse for kappa outside 0 to 1, or weights that are
    not positive.
    """

    def __init__(self, targets: Tensor, kappa: float, weights: Tensor | None = None) -> None:
        if not 0 <= kappa <= 1:
            raise WrongUse(f"kappa is the share of angles to compress, from 0 to 1, not {kappa}")
        if weights is not None and (weights.shape != targets.shape or not bool((weights > 0).all())):
            raise WrongUse("weights are positive, one for each target")
        self.targets = targets.detach()
        self.weights = torch.ones_like(self.targets) if weights is None else weights
        self.count = min(math.ceil(kappa * len(targets) - 1e-9), int((~self.targets.isnan()).sum()))

    def chosen(self, angles: Tensor) -> Tensor:
        """Which angles (P,) the projection moves to their targets."""
        distances = circular_difference(angles.detach(), self.targets).abs() / self.weights
        order = distances.nan_to_num(torch.inf).argsort(stable=True)
        mask = torch.zeros(len(angles), dtype=torch.bool)
        mask[order[: self.count]] = True
        return mask

    def __call__(self, angles: Tensor) -> Tensor:
        return torch.where(self.chosen(angles), self.targets, angles)


class FixedProjection:
    """Puts the angles of a given mask (P,) on their targets (P,), wherever they are."""

    def __init__(self, targets: Tensor, mask: Tensor) -> None:
        self.targets, self.mask = targets.detach(), mask & ~targets.isnan()

    def chosen(self, angles: Tensor) -> Tensor:
        return self.mask

    def __call__(self, angles: Tensor) -> Tensor:
        return torch.where(self.mask, self.targets, angles)


def compress(
    model: Model,
    splits: Splits,
    projection: TargetProjection | FixedProjection,
    compiler: Compiler,
    settings: Compression,
    generator: torch.Generator,
    *,
    metric: Metric = "depth",
) -> Compressed:
    """Steps 3 and 4 on a copy of the trained model; the model itself stays as it is."""
    chosen = model.copy()
    parameters = {"angles": chosen.angles}
    admm = Admm(parameters, {"angles": projection}, settings.rho, difference=circular_difference)
    recipe = Recipe(settings.rounds, settings.learning_rate, settings.batch)
    optimizer = torch.optim.Adam([chosen.angles], settings.learning_rate)
    epoch = Epoch(chosen, splits.train, recipe, generator)
    residuals = tuple(step.residual for step in admm_rounds(admm, epoch, optimizer, settings.rounds))
    held = admm.harden(lambda _, projected: projection.chosen(projected))
    selection = Selection(model, chosen, splits.validation, compiler, metric)
    retraining = replace(recipe, epochs=settings.retraining)
    history = fit(chosen, splits, retraining, generator, score=selection, held=held)
    return Compressed(chosen, held.held["angles"], projection.targets, residuals, history)


class Selection:
    """Acc / Acc_0 + L_0 / L of a model in retraining, against the model before compression (step 4)."""

    def __init__(
        self, before: Model, after: Model, samples: Samples, compiler: Compiler, metric: Metric = "depth"
    ) -> None:
        self.after, self.samples, self.compiler, self.metric = after, samples, compiler, metric
        self.accuracy = max(before.accuracy(samples), 1e-9)
        self.length = _length(compiler, before.circuit, before.angles, metric)

    def __call__(self) -> float:
        length = _length(self.compiler, self.after.circuit, self.after.angles, self.metric)
        return self.after.accuracy(self.samples) / self.accuracy + self.length / length


def _length(compiler: Compiler, circuit: Circuit, angles: Tensor, metric: Metric) -> int:
    """Length to divide by: that of a circuit which vanished counts as 1."""
    return max(1, compiler.length(circuit, angles).by(metric))


def _variants(angles: Tensor, levels: Candidates) -> list[Tensor]:
    """The angles with one of them moved to one of its candidates, for all angles and candidates in order."""
    variants = []
    for index, options in enumerate(levels):
        for option in options:
            variants.append(angles.clone())
            variants[-1][index] = option
    return variants


def _best(angles: Tensor, levels: Candidates, score: Callable[[Tensor], Tensor]) -> Tensor:
    """For each angle its candidate with the highest score; of equal ones the nearest on the circle."""
    if len(levels) != len(angles):
        raise WrongUse(f"{len(angles)} angles have candidates for {len(levels)} of them: give one list each")
    targets = torch.full_like(angles.detach(), torch.nan, dtype=torch.float64)
    for index, options in enumerate(levels):
        if not options:
            continue
        offered = torch.tensor(options, dtype=torch.float64)
        scores = score(offered)
        distances = circular_difference(angles.detach()[index], offered).abs()
        distances = distances.masked_fill(scores < scores.max() - TIE, torch.inf)
        targets[index] = offered[distances.argmin()]
    return targets
