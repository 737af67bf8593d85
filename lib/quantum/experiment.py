"""The experiment of CompVQC: one trained circuit, compressed by several methods, compared at equal depth.

A depth is that of the trained part, without encoder and measurement: the median over the transpiler seeds.
Everything that is chosen is chosen on the validation split; the test split is only reported.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from tqdm.auto import tqdm

from lib.errors import WrongUse
from lib.quantum.baselines import compress_by
from lib.quantum.circuits import Encoder, build, class_scores
from lib.quantum.compiler import Compiler, Lengths
from lib.quantum.compvqc import Compressed, Compression
from lib.quantum.data import EXAMPLES, Samples, Splits, load
from lib.quantum.model import History, Model, Recipe, accuracy, margin, train
from lib.quantum.noise import NoisyDevice, expectations, sampled

DROP = 1.0
"""Points of validation accuracy that the judged point of a sweep may lose: the abstract's bound."""


@dataclass(frozen=True)
class Bench:
    """A trained circuit, its data, the compiler that measures it, and the training it had."""

    model: Model
    splits: Splits
    compiler: Compiler
    history: History
    seed: int

    def generator(self) -> torch.Generator:
        """Random numbers of the run, from the start: every arm sees the samples in the same order."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class Point:
    """A circuit of a sweep: who made it, its ratio, its compiled lengths and its accuracies in percent."""

    method: str
    kappa: float
    model: Model
    lengths: Lengths
    validation: float
    test: float
    compressed: Compressed | None = None

    @property
    def depth(self) -> float:
        """Median depth over the transpiler seeds, in layers."""
        return self.lengths.median("depth")

    @property
    def spread(self) -> float:
        """How much deeper the worst transpiler seed makes the circuit than the best one, in percent."""
        return 100 * (self.lengths.maximum("depth") / self.lengths.minimum("depth") - 1)


@dataclass(frozen=True)
class Summary:
    """Depth in layers and test accuracy in percent, averaged over data sets."""

    depth: float
    test: float


def prepare(
    dataset: str,
    compiler: Compiler,
    seed: int,
    recipe: Recipe,
    *,
    encoder: Encoder = "angle",
    ansatz: str = "A",
    blocks: int = 1,
    samples: int | None = None,
) -> Bench:
    """A circuit of four qubits trained on `dataset`; `samples` limits the samples of all splits together.

    Raises WrongUse for an unknown data set, encoder or ansatz.
    """
    splits = load(dataset, seed, samples=samples)
    generator = torch.Generator().manual_seed(seed)
    circuit = build(ansatz, encoder=encoder, features=splits.features, blocks=blocks)
    model = Model(circuit, len(splits.classes), generator)
    history = train(model, splits, recipe, generator)
    return Bench(model, splits, compiler, history, seed)


def prepare_all(
    datasets: Sequence[str],
    compiler: Compiler,
    seed: int,
    recipe: Recipe,
    *,
    encoder: Encoder = "angle",
    ansatz: str = "A",
    blocks: int = 1,
) -> list[Bench]:
    """`prepare` for each of `datasets`. Raises WrongUse without one, and as `prepare` does."""
    if not datasets:
        raise WrongUse(f"there is no data set to compress for: give one at least, such as {EXAMPLES[2]}")
    return [
        prepare(name, compiler, seed, recipe, encoder=encoder, ansatz=ansatz, blocks=blocks)
        for name in datasets
    ]


def uncompressed(bench: Bench) -> Point:
    """The trained circuit as a point of a sweep, at ratio 0."""
    return _point("uncompressed", 0.0, bench, bench.model)


def trained_on(bench: Bench, settings: Compression) -> Point:
    """The uncompressed circuit, trained on for as many epochs as compression takes, from the same rate."""
    model = bench.model.copy()
    recipe = Recipe(settings.rounds + settings.retraining, settings.learning_rate, settings.batch)
    train(model, bench.splits, recipe, bench.generator())
    return _point("trained_on", 0.0, bench, model)


def compress(bench: Bench, method: str, settings: Compression) -> Point:
    """The trained circuit after `method` of `lib.quantum.baselines`, which leaves the original untouched."""
    made = compress_by(method, bench.model, bench.splits, bench.compiler, settings, bench.generator())
    return _point(method, settings.kappa, bench, made.model, made)


def noise_aware(bench: Bench, device: NoisyDevice, kappa: float, settings: Compression) -> Point:
    """CompVQC at ratio `kappa`, distances divided by each gate's calibrated error: bad hardware goes first.

    The idea of QuCAD (https://arxiv.org/abs/2304.04666), whose rule is known here from memory only.
    """
    weights = device.calibration(bench.model.circuit, bench.model.angles)
    chosen = replace(settings, kappa=kappa)
    made = compress_by(
        "compvqc", bench.model, bench.splits, bench.compiler, chosen, bench.generator(), weights=weights
    )
    return _point("noise_aware", kappa, bench, made.model, made)


def worked_example(bench: Bench, settings: Compression) -> dict[str, Point]:
    """Before compression, after it, and uncompressed but trained for as much longer as compression takes."""
    return {
        "before": uncompressed(bench),
        "after": compress(bench, "compvqc", settings),
        "longer": trained_on(bench, settings),
    }


def arms(*wanted: Iterable[str]) -> list[str]:
    """The methods of a sweep: CompVQC, which the others are held against, then the wanted ones, each once."""
    return list(dict.fromkeys(["compvqc", *chain(*wanted)]))


def sweep(
    bench: Bench, methods: Iterable[str], kappas: Sequence[float], settings: Compression
) -> dict[str, list[Point]]:
    """Method -> a point per ratio of `kappas`, all from the same trained circuit.

    Raises WrongUse without a ratio.
    """
    if not kappas:
        raise WrongUse("there is no ratio to compress by: give one at least, such as 0.5")
    jobs = [(method, kappa) for method in methods for kappa in kappas]
    points: dict[str, list[Point]] = {}
    for method, kappa in tqdm(jobs, desc="compressing", leave=False):
        points.setdefault(method, []).append(compress(bench, method, replace(settings, kappa=kappa)))
    return points


def best_within(points: Sequence[Point], depth: float) -> Point | None:
    """The point no deeper than `depth` with the best validation accuracy; of equals the shortest."""
    fitting = [point for point in points if point.depth <= depth]
    return max(fitting, key=lambda point: (point.validation, -point.depth)) if fitting else None


def shortest_within(points: Sequence[Point], base: Point, drop: float = DROP) -> Point:
    """The shortest point whose validation accuracy is at most `drop` points below that of `base`.

    `base` itself if there is none.
    """
    good = [point for point in points if point.validation >= base.validation - drop - 1e-9]
    return min([*good, base], key=lambda point: (point.depth, -point.validation))


def equal_depth(ours: Sequence[Point], theirs: Sequence[Point]) -> tuple[float, float]:
    """Mean test accuracies of two methods, in percent, over the depths that both can reach.

    The depths are those of all points of both, from the larger of the two methods' smallest ones on; at each,
    a method is represented by `best_within`. Raises WrongUse when a method has no point.
    """
    if not ours or not theirs:
        raise WrongUse("equal depth compares two sweeps of one point at least")
    least = max(min(point.depth for point in points) for points in (ours, theirs))
    depths = sorted({point.depth for point in (*ours, *theirs) if point.depth >= least})
    means = []
    for points in (ours, theirs):
        best = [best_within(points, depth) for depth in depths]
        means.append(sum(point.test for point in best if point is not None) / len(best))
    return means[0], means[1]


def equal_depth_mean(
    sweeps: Sequence[Mapping[str, Sequence[Point]]], ours: str, theirs: str
) -> tuple[float, float]:
    """`equal_depth` of two methods, averaged over the data sets whose sweep holds both.

    Raises WrongUse if none does.
    """
    pairs = [
        equal_depth(points[ours], points[theirs]) for points in sweeps if {ours, theirs} <= points.keys()
    ]
    if not pairs:
        raise WrongUse(f"no data set was compressed by both {ours} and {theirs}")
    return sum(pair[0] for pair in pairs) / len(pairs), sum(pair[1] for pair in pairs) / len(pairs)


def average(points: Sequence[Point]) -> Summary:
    """Depth and test accuracy averaged over `points`, one for each data set."""
    return Summary(
        sum(point.depth for point in points) / len(points), sum(point.test for point in points) / len(points)
    )


def by_kappa(sweeps: Sequence[Mapping[str, Sequence[Point]]], method: str) -> dict[float, Summary]:
    """Ratio -> the points of `method` at that ratio, averaged over the sweeps of several data sets."""
    lines = [points[method] for points in sweeps]
    return {column[0].kappa: average(column) for column in zip(*lines, strict=True)}


def across_backends(
    before: Model, after: Model, backends: Sequence[str], level: int, seeds: Sequence[int]
) -> dict[str, float]:
    """Backend -> how many times deeper `before` is than `after` when both are compiled for it."""
    ratios = {}
    for backend in backends:
        compiler = Compiler(backend, level, tuple(seeds))
        depths = [compiler.lengths(model.circuit, model.angles).median("depth") for model in (before, after)]
        ratios[backend] = depths[0] / max(depths[1], 1.0)
    return ratios


@dataclass(frozen=True)
class Robustness:
    """A circuit without noise and with it: accuracies in percent, and how much of the class margin is left.

    `sampled` is the accuracy with a finite number of shots under noise; `kept` is the noisy margin in percent
    of the clean one. `depth` in layers is that of the trained part on the noisy machine.
    """

    depth: int
    clean: float
    noisy: float
    sampled: float
    kept: float


def robustness(
    model: Model, device: NoisyDevice, samples: Samples, shots: int, generator: torch.Generator
) -> Robustness:
    """The whole circuit, encoder and readout included, under the noise of `device`."""
    read = device.probabilities(model.circuit, model.angles, samples.inputs)
    noisy = class_scores(expectations(read), model.classes)
    counted = class_scores(sampled(read, shots, generator), model.classes)
    return Robustness(
        depth=device.length(model.circuit, model.angles).depth,
        clean=model.accuracy(samples),
        noisy=float(accuracy(noisy, samples.labels)),
        sampled=float(accuracy(counted, samples.labels)),
        kept=100 * margin(noisy, samples.labels) / model.margin(samples),
    )


def _point(method: str, kappa: float, bench: Bench, model: Model, made: Compressed | None = None) -> Point:
    return Point(
        method,
        kappa,
        model,
        bench.compiler.lengths(model.circuit, model.angles),
        model.accuracy(bench.splits.validation),
        model.accuracy(bench.splits.test),
        made,
    )
