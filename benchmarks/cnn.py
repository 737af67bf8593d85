"""Does arithmetic saved by removing channels become time? Pruned CNNs against their dense parents.

Large networks (ResNet-50, MobileNetV2 at 224 pixels, VGG-16 at 32) lose inner channels for half their cost,
the widths from uniform keep ratios or from spread importances; weights are random, for time does not depend
on them. Small ones are trained: the narrowest network of a few budgets whose accuracy stays within `--drop`
points of its parent's stands for its network. All channels are physically removed. Both runtimes are checked
against the masked network first. Compare ratios only: `became time` is (1 - time) / (1 - MACs).
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from hw_models import trace
from lib.cnn import adapruner
from lib.cnn.adapruner_checks import counted
from lib.cnn.adapruner_experiment import Settings, Trial, chosen_at, sparse_parent
from lib.cnn.experiment import prepare
from lib.cnn.inheritance import inherit
from lib.cnn.removal import mask_channels
from lib.errors import ReproError
from lib.lab.compute import seeded
from lib.lab.export import export_onnx, onnx_runner
from lib.lab.measure import (
    TIME_OVER_MACS,
    latencies,
    time_over_macs,
    time_over_macs_cells,
    write_measurements,
)
from lib.lab.train import accuracy
from lib.project import REPOSITORY

LARGE = ("mobilenet_v2", "resnet50", "vgg16_cifar")
SMALL = ("mobilenet_small", "resnet_small", "vgg_small")
BUDGETS = (0.75, 0.5, 0.35, 0.25)
OUTPUT = REPOSITORY.cache / "bench" / "cnn.json"
Row = dict[str, float | str | int]


@dataclass(frozen=True)
class Pair:
    """A dense network and its pruned form.

    `masked` computes the same as `pruned` at the dense cost; a fine-tuned network has no such twin.
    """

    network: str
    widths: str
    dense: nn.Module
    pruned: nn.Module
    image: Tensor
    masked: nn.Module | None = None
    points_lost: float | None = None

    def check(self) -> None:
        """Raises ReproError unless the smaller network answers as the masked one, if there is one."""
        if self.masked is None:
            return
        images = torch.randn(2, *self.image.shape[1:], generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            agree(self.pruned(images), self.masked(images), f"{self.network}, {self.widths}")


def agree(answer: Tensor, expected: Tensor, name: str) -> None:
    """Raises ReproError if two networks' logits differ by more than a thousandth of the largest."""
    if not torch.allclose(answer, expected, rtol=0, atol=1e-3 * float(expected.abs().max())):
        raise ReproError(
            f"{name}: the smaller network does not answer as the masked one; do not compare times"
        )


def untrained_pairs(share: float) -> list[Pair]:
    """The large networks at `share` of their cost, by one keep ratio and by importances."""
    pairs = []
    for name in LARGE:
        parent = counted(name)
        for how in ("uniform", "importance"):
            found = adapruner.widths(parent, share, uniform=how == "uniform")
            kept = inherit(parent.model, parent.inner, found.kept, "l1", torch.Generator())
            pruned = adapruner.prune(parent, kept, [])
            masked = mask_channels(parent.model, parent.inner, kept)
            pairs.append(Pair(name, how, parent.model, pruned, parent.image, masked))
    return pairs


def trained_pairs(drop: float, images: int) -> list[Pair]:
    """The small networks, each at the lowest of a few budgets that costs at most `drop` points of accuracy.

    The held-out training images choose the budget; the points lost are those on the test images.
    """
    pairs = []
    for name in SMALL:
        generator = seeded(0)
        options = {"images": images, "held_out": images // 5, "test_images": 2000}
        bench = prepare(name, "fashion_mnist", "", torch.device("cpu"), generator=generator, **options)
        trial = sparse_parent(bench, Settings(sparse_epochs=5, tuning_epochs=2), seed=0)
        if (pair := _smallest(trial, drop)) is not None:
            pairs.append(pair)
    return pairs


def _smallest(trial: Trial, drop: float) -> Pair | None:
    """The pair at the lowest budget, going down while none loses too much; none if the first does."""
    wanted = 100 * accuracy(trial.parent.model, trial.bench.held_out) - drop
    best: Pair | None = None
    for share in BUDGETS:
        arm = chosen_at(trial, share)
        if 100 * accuracy(arm.model, trial.bench.held_out) < wanted:
            break
        lost = trial.accuracy - arm.accuracy
        dense, name = trial.parent.model, f"trained, {share:g}"
        best = Pair(trial.bench.network, name, dense, arm.model, trial.parent.image, points_lost=lost)
    return best


def measure(pair: Pair, batch: int, rounds: int) -> list[Row]:
    """One row per runtime: ratio of MACs, ratio of times (minimum and median), their quotient."""
    pair.check()
    models = {"dense": pair.dense.eval(), "pruned": pair.pruned.eval()}
    images = torch.randn(batch, *pair.image.shape[1:], generator=torch.Generator().manual_seed(0))
    macs = {name: trace(model, pair.image).macs for name, model in models.items()}
    with tempfile.TemporaryDirectory() as folder:
        runtimes: dict[str, dict[str, Callable[[], object]]] = {
            "torch": {name: partial(model, images) for name, model in models.items()},
            "ONNX Runtime": exported(models, images, Path(folder)),
        }
        return [_row(pair, runtime, batch, macs, calls, rounds) for runtime, calls in runtimes.items()]


def exported(
    models: Mapping[str, nn.Module], images: Tensor, folder: Path
) -> dict[str, Callable[[], object]]:
    """Calls that run `models` on `images` in ONNX Runtime, checked against torch."""
    calls: dict[str, Callable[[], object]] = {}
    for name, model in models.items():
        path = folder / f"{name}.onnx"
        export_onnx(model, images, path)
        run = onnx_runner(path, images, threads=torch.get_num_threads())
        with torch.inference_mode():
            agree(torch.from_numpy(run()[0]), model(images), f"{name} in ONNX Runtime")
        calls[name] = run
    return calls


def _row(
    pair: Pair,
    runtime: str,
    batch: int,
    macs: Mapping[str, int],
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
) -> Row:
    times = latencies(calls, rounds=rounds, burst_s=0.2)
    row: Row = {
        "network": pair.network,
        "widths": pair.widths,
        "runtime": runtime,
        "batch": batch,
        "mmacs": macs["pruned"] / 1e6,
        **time_over_macs(times, macs, "pruned"),
    }
    if pair.points_lost is not None:
        row["points_lost"] = pair.points_lost
    return row


def main(
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="alternating rounds")] = 9,
    share: Annotated[float, typer.Option(min=0.1, max=1, help="budget of the large networks")] = 0.5,
    drop: Annotated[float, typer.Option(min=0, help="points of accuracy that the small ones may lose")] = 1.0,
    images: Annotated[int, typer.Option(min=100, help="training images of the small ones")] = 2500,
    output: Annotated[Path, typer.Option(help="where the JSON goes")] = OUTPUT,
) -> None:
    """Measure convolutional networks with and without the channels that pruning removed."""
    torch.set_num_threads(threads)
    pairs = untrained_pairs(share) + trained_pairs(drop, images)
    rows = [row for pair in pairs for batch in (1, 32) for row in measure(pair, batch, rounds)]
    table = Table(title=f"Channels removed, over the dense network, {threads} thread(s)")
    headings = ("network", "widths", "runtime", "batch", "MMACs", *TIME_OVER_MACS)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in headings[:3] else "right")
    for row in rows:
        table.add_row(
            str(row["network"]),
            str(row["widths"]),
            str(row["runtime"]),
            str(row["batch"]),
            f"{row['mmacs']:.2f}",
            *time_over_macs_cells(row),
        )
    write_measurements(output, rows, threads)
    Console().print(table)
    for pair in pairs:
        if pair.points_lost is not None:
            Console().print(f"{pair.network}, {pair.widths} of the MACs: {pair.points_lost:+.1f} points lost")
    if len(pairs) < 2 * len(LARGE) + len(SMALL):
        Console().print(f"small networks missing above lose more than {drop:g} points at every budget")
    Console().print(f"Written to {output}")


if __name__ == "__main__":
    typer.run(main)
