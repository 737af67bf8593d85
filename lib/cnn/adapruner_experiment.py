"""AdaPruner's experiment: one sparse training, then every arm inherits from it and is fine-tuned alike."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from scipy.stats import spearmanr
from torch import Tensor, nn

from lib.cnn import adapruner
from lib.cnn.adapruner import Candidate, Prunable
from lib.cnn.bisection import Widths
from lib.cnn.experiment import Bench, SgdSchedule, matched_strength, train
from lib.cnn.importance import sparse_classification
from lib.cnn.recalibration import recalibrate
from lib.lab.compute import seeded
from lib.lab.fit import classification
from lib.lab.measure import latencies


@dataclass(frozen=True)
class Settings:
    """Lengths of the two trainings in epochs, multiple of the widths, and how criteria are tried."""

    sparse_epochs: int
    tuning_epochs: int
    multiple: int = 4
    least: float = 0.1
    batches: int = 5
    tuning_rate: float = 0.03


@dataclass(frozen=True)
class Arm:
    """A pruned network before (`start`) and after fine-tuning (`accuracy`, percent), and what it costs."""

    model: nn.Module
    macs: int
    start: float
    accuracy: float


@dataclass(frozen=True)
class Trial:
    """One network: its parent, the parent's accuracy, and arms by budget and name."""

    bench: Bench
    parent: Prunable
    accuracy: float
    settings: Settings
    seed: int
    losses: tuple[float, ...]

    def tune(self, model: nn.Module, name: str) -> Arm:
        """Fine-tunes a copy of `model`; the order of images is the same for all arms."""
        tuned = copy.deepcopy(model)
        start = self.bench.accuracy(tuned)
        schedule = SgdSchedule(self.settings.tuning_epochs, learning_rate=self.settings.tuning_rate)
        train(name, tuned, self.bench, schedule, seeded(self.seed), classification(tuned))
        macs = adapruner.prunable(tuned, self.bench.image).count.macs({})
        return Arm(tuned, macs, start, self.bench.accuracy(tuned))

    def widths(self, share: float, *, uniform: bool = False) -> Widths:
        """Widths for `share` of the parent's MACs."""
        return adapruner.widths(
            self.parent,
            share,
            multiple=self.settings.multiple,
            least=self.settings.least,
            uniform=uniform,
        )

    def candidates(self, widths: Widths) -> tuple[Candidate, ...]:
        """All criteria tried at `widths`, on the held-out training images."""
        generator = seeded(self.seed)
        batches = self.bench.batches(self.settings.batches, generator)
        return adapruner.candidates(self.parent, widths.kept, batches, self.bench.held_out, generator)

    def inherit(self, kept: Mapping[str, Tensor]) -> nn.Module:
        """The smaller network with its statistics re-estimated."""
        batches = self.bench.batches(self.settings.batches, seeded(self.seed))
        return adapruner.prune(self.parent, kept, batches)

    def scratch(self, model: nn.Module) -> nn.Module:
        """`model` with fresh weights: the control without inheritance."""
        fresh = copy.deepcopy(model)
        seeded(self.seed + 1)
        for module in fresh.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d | nn.Linear):
                module.reset_parameters()
        return fresh


def sparse_parent(bench: Bench, settings: Settings, seed: int) -> Trial:
    """The parent trained with the penalty on the scales of its prunable channels.

    Its statistics are re-estimated at the end: in a training of seconds the running ones lag behind.
    """
    generator = seeded(seed)
    model = bench.build()
    parent = adapruner.prunable(model, bench.image.to(bench.device))
    schedule = SgdSchedule(settings.sparse_epochs)
    strength = matched_strength(schedule, len(bench.train))
    loss = sparse_classification(model, parent.inner, strength)
    losses = train(f"{bench.network}, sparse", model, bench, schedule, generator, loss)
    recalibrate(model, bench.batches(settings.batches, generator))
    return Trial(bench, parent, bench.accuracy(model), settings, seed, tuple(losses))


def arms_at(trial: Trial, share: float) -> tuple[dict[str, Arm], tuple[Candidate, ...]]:
    """Every arm at one budget: each criterion by name, and the controls; and the tried candidates.

    `chosen` is the arm of the chosen criterion. `uniform`: one keep ratio for all blocks, its criterion
    chosen in the same way. `scratch`: the chosen arm's shape with fresh weights, trained as long.
    """
    found = trial.candidates(trial.widths(share))
    arms = {c.criterion: trial.tune(trial.inherit(c.kept), c.criterion) for c in found}
    best = adapruner.choose_criterion(found).criterion
    even = adapruner.choose_criterion(trial.candidates(trial.widths(share, uniform=True)))
    controls = {
        "chosen": arms[best],
        "uniform": trial.tune(trial.inherit(even.kept), "uniform"),
        "scratch": trial.tune(trial.scratch(arms[best].model), "scratch"),
    }
    return {**arms, **controls}, found


def chosen_at(trial: Trial, share: float) -> Arm:
    """AdaPruner alone at one budget."""
    best = adapruner.choose_criterion(trial.candidates(trial.widths(share)))
    return trial.tune(trial.inherit(best.kept), f"{share:g} of the MACs")


def rank_agreement(found: Sequence[Candidate], arms: Mapping[str, Arm]) -> tuple[float, float]:
    """Spearman's correlation of held-out accuracy before, and test accuracy after fine-tuning, over criteria.

    First with the parent's batch statistics, then with those re-estimated; 0 where all candidates are equal.
    """
    after = [arms[candidate.criterion].accuracy for candidate in found]
    return (
        correlation([candidate.before for candidate in found], after),
        correlation([candidate.accuracy for candidate in found], after),
    )


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where one side does not vary."""
    if len(set(one)) < 2 or len(set(other)) < 2:
        return 0.0
    return float(spearmanr(one, other).statistic)


def relative_latencies(
    dense: nn.Module, pruned: Mapping[str, nn.Module], image: Tensor, batch: int, *, burst_s: float = 0.05
) -> dict[str, float]:
    """Time of each of `pruned` over that of `dense` on `batch` images here, least of several bursts."""
    images = image.cpu().expand(batch, *image.shape[1:]).contiguous()
    calls: dict[str, Callable[[], object]] = {
        name: partial(copy.deepcopy(model).cpu().eval(), images)
        for name, model in {"dense": dense, **pruned}.items()
    }
    times = latencies(calls, burst_s=burst_s)
    return {name: times[name].minimum_s / times["dense"].minimum_s for name in pruned}
