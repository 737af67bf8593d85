"""Pruned layers as compiled code against dense and CSR products, a dense GRU, and other runtimes on networks.

One thread, pinned; all sides in one process in short alternating bursts, the minimum of each; every side's
result is checked first. Weights are random and pruned by magnitude into blocks (BCR): time does not depend on
training. The machine's limits are measured in the same run; products are held against the one that binds
them, and an aim that they forbid is said to be beyond them.
"""

import copy
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from lib.kernels.aims import Aim, Trial
from lib.kernels.contest import Row, gru_row, network_row, product_row
from lib.kernels.limits import Limits, measure_limits
from lib.kernels.peers import PEERS
from lib.kernels.toolchain import find_toolchain
from lib.lab.torchvision_ops import prepare_torchvision
from lib.project import REPOSITORY
from lib.rnn.grim import BlockColumnRow

SIZE = 1024
BLOCKS = ((4, 16), (8, 32), (16, 64), (32, 32), (64, 64))
RATES = (2.0, 4.0, 10.0, 20.0)
GRU_INPUTS = 39
RATE, BLOCK = 10.0, (16, 64)
"""Of the GRU step, single layers and whole networks."""
LAYERS = (
    *(("VGG-16", 64, 64, 3, 224), ("VGG-16", 128, 128, 3, 112), ("VGG-16", 256, 256, 3, 56)),
    *(("VGG-16", 512, 512, 3, 28), ("VGG-16", 512, 512, 3, 14), ("ResNet-18", 64, 64, 3, 56)),
    *(("ResNet-18", 128, 128, 3, 28), ("ResNet-18", 256, 256, 3, 14), ("ResNet-18", 512, 512, 3, 7)),
    *(("MobileNetV2", 144, 24, 1, 56), ("MobileNetV2", 192, 32, 1, 28), ("MobileNetV2", 64, 384, 1, 14)),
    *(("MobileNetV2", 576, 96, 1, 14), ("MobileNetV2", 160, 960, 1, 7)),
)
"""Network, channels in and out, size of kernel and image."""
NETWORKS = ("resnet18", "vgg16")
OUTPUT = REPOSITORY.cache / "bench" / "kernels.json"
CLAIMS = (
    "c1 (up to 14.08 times the compared systems): whole networks, here another processor and other rivals",
    "over_dense_*, over_csr_* (pruned beats dense and CSR): products, GRU step and layers",
    "c9_tflite, c9_mnn, c9_tvm, c10_gain_* (rival runtimes, on a phone): whole networks",
)
"""Claims of GRIM's card that the tables speak to; none is settled by them."""


def pruned(weight: Tensor, block: tuple[int, int], rate: float) -> Tensor:
    """`weight` (P, ...) with all but one in `rate` weights zeroed, by blocks of its matrix (P, Q)."""
    matrix = weight.detach().flatten(1)
    return (matrix * BlockColumnRow(*block).mask(matrix, rate)).contiguous().view(weight.shape)


def products(columns: int, limits: Limits, rounds: int) -> list[Row]:
    """A row for every block and rate: a 1024 x 1024 matrix times `columns` columns."""
    weight, toolchain = torch.randn(SIZE, SIZE), find_toolchain()
    cases = [(block, rate) for block in BLOCKS for rate in RATES]
    return [
        {"block": f"{block[0]}x{block[1]}"}
        | product_row(pruned(weight, block, rate), columns, limits, toolchain, rounds, block=block)
        for block, rate in track(cases, description=f"{columns} column(s)")
    ]


def gru_steps(rounds: int) -> list[Row]:
    """A row for every block: one step of two layers of 1024 units."""
    rows = []
    for block in track(BLOCKS, description="GRU step"):
        dense = nn.GRU(GRU_INPUTS, SIZE, num_layers=2).eval()
        sparse = copy.deepcopy(dense)
        with torch.no_grad():
            for name, parameter in sparse.named_parameters():
                if name.startswith("weight"):
                    parameter.copy_(pruned(parameter, block, RATE))
        rows.append({"block": f"{block[0]}x{block[1]}"} | gru_row(dense, sparse, rounds, block=block))
    return rows


def layers(rounds: int) -> list[Row]:
    """A row for every convolution of `LAYERS`, alone and followed by a ReLU."""
    rows = []
    for network, channels, filters, kernel, size in track(LAYERS, description="layers"):
        conv = nn.Conv2d(channels, filters, kernel, padding=kernel // 2)
        _prune(conv)
        model = nn.Sequential(conv, nn.ReLU()).eval()
        name = f"{network} {channels}-{filters}, {kernel}x{kernel}, {size}x{size}"
        rows.append(
            {"layer": name} | network_row(model, torch.randn(1, channels, size, size), rounds, block=BLOCK)
        )
    return rows


def networks(rounds: int) -> list[Row]:
    """A row for every whole network (VGG-16: its convolutions and poolings)."""
    prepare_torchvision()
    from torchvision import models

    rows = []
    for name in track(NETWORKS, description="networks"):
        model = getattr(models, name)(weights=None).eval()
        model = model.features if name == "vgg16" else model
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):  # as after training: folding then changes something
                nn.init.normal_(layer.running_mean, 0, 0.1)  # type: ignore[arg-type]
                nn.init.uniform_(layer.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.in_channels > 3:
                _prune(layer)
        rows.append({"network": name} | network_row(model, torch.randn(1, 3, 224, 224), rounds, block=BLOCK))
    return rows


def _prune(conv: nn.Conv2d) -> None:
    with torch.no_grad():
        conv.weight.copy_(pruned(conv.weight, BLOCK, RATE))


def aims(many: Sequence[Row], one: Sequence[Row], steps: Sequence[Row], nets: Sequence[Row]) -> list[Aim]:
    """What was aimed at, of what was measured."""

    def trials(rows: Sequence[Row], key: str, most: str = "", *, per_rate: bool = False) -> list[Trial]:
        return [
            Trial(f"{row['block']} {row['rate']:.0f}x", row[key] / by, row[most] / by if most else None)
            for row in rows
            for by in [row["rate"] if per_rate else 1.0]
        ]

    dense, csr = (("over dense", "most over dense"), ("over csr", "most over csr"))
    pruned_many = [row for row in many if row["rate"] > 3]
    ten = [row for row in one if 9 < row["rate"] < 11]
    found = [
        Aim(
            "64 columns, speed-up over the best dense / rate",
            0.95,
            trials(pruned_many, *dense, per_rate=True),
        ),
        Aim("64 columns, over the best CSR", 2, trials(pruned_many, *csr)),
        Aim("64 columns, fraction of the limit", 0.6, trials(pruned_many, "of limit")),
        Aim("1 column at 10x, over the best dense", 4, trials(ten, *dense)),
        Aim("1 column at 10x, over the best CSR", 1.8, trials(ten, *csr)),
        Aim("1 column at 10x, int8 over the best dense", 4, trials(ten, "int8 over dense")),
        Aim("never slower than dense from 2x, either", 1, trials([*many, *one], "over dense")),
        Aim(
            "GRU step at 10x, over the best dense",
            4,
            [Trial(row["block"], row["over dense"]) for row in steps],
        ),
    ]
    if nets:
        whole = [Trial(row["network"], row["over dense"]) for row in nets]
        found.append(Aim("whole network at 10x, over the best dense runtime", 2, whole))
    if sparse := [Trial(row["network"], row["over sparse"]) for row in nets if "over sparse" in row]:
        found.append(Aim("whole network at 10x, over MNN with --detectSparseSpeedUp", 1, sparse))
    return found


def single_threaded() -> None:
    """Start again with one thread for every library: they read these variables when they are loaded."""
    wanted = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def machine() -> str:
    """The processor's name and count, the system, torch."""
    name = platform.processor() or platform.machine()
    if (told := Path("/proc/cpuinfo")).is_file():
        lines = told.read_text(encoding="utf-8").splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} processors, {platform.system()}, torch {torch.__version__}"


def show(console: Console, title: str, rows: Sequence[Row], times: str, forms: Mapping[str, str]) -> None:
    """One table: what names a row, its ratios, its times."""
    if not rows:
        return
    table = Table(title=title)
    contenders = list(dict.fromkeys(name for row in rows for name in row[times]))
    for heading in (*forms, *(f"{name} [{times}]" for name in contenders)):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [form.format(row[key]) if key in row else "" for key, form in forms.items()]
        table.add_row(
            *cells, *(f"{row[times][name]:.3g}" if name in row[times] else "" for name in contenders)
        )
    console.print(table)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="alternating rounds")] = 15,
    runtimes: Annotated[bool, typer.Option(help="also layers and networks, against other runtimes")] = True,
    core: Annotated[int, typer.Option(min=0, help="processor core to stay on")] = 0,
    output: Annotated[Path, typer.Option(help="where the JSON goes")] = OUTPUT,
) -> None:
    """Measure pruned products, a GRU step, layers and networks against dense and sparse ones."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        if core not in os.sched_getaffinity(0):
            raise typer.BadParameter(f"choose from {sorted(os.sched_getaffinity(0))}", param_hint="--core")
        os.sched_setaffinity(0, {core})
    torch.manual_seed(0)
    console = Console(width=200 if not Console().is_terminal else None)
    toolchain = find_toolchain()
    limits = measure_limits(toolchain)
    speeds = ", ".join(f"{kb} KB {speed / 1e9:.0f}" for kb, speed in limits.bytes_s.items())
    about = f"{machine()}, {toolchain.version}, core {core}"
    bounds = (
        f"limits of one thread: {limits.flops / 1e9:.0f} GFLOP/s; GB/s by size read again and again: {speeds}"
    )
    console.print(about, bounds, sep="\n", markup=False)
    for name, peer in PEERS.items():
        if runtimes and peer.missing:
            remedy = f".venv/bin/python -m pip install -e '.[{peer.extra}]'"
            console.print(f"{name}: not installed: {remedy}", markup=False)

    many, one = (products(columns, limits, rounds) for columns in (64, 1))
    steps = gru_steps(rounds)
    singles, nets = (layers(rounds // 3 or 1), networks(rounds // 3 or 1)) if runtimes else ([], [])
    ratios = dict.fromkeys(("over dense", "over csr", "int8 over dense", "int8 over csr"), "{:.2f}")
    heads = {
        "block": "{}",
        "rate": "{:.1f}",
        **ratios,
        "gflops": "{:.0f}",
        "of limit": "{:.0%}",
        "limit": "{}",
    }
    for columns, rows in ((64, many), (1, one)):
        show(console, f"{SIZE} x {SIZE} times {columns} column(s)", rows, "us", heads)
    two = dict.fromkeys(("over dense", "int8 over dense"), "{:.2f}")
    show(console, f"GRU step, 2 x {SIZE}, {RATE:g}x", steps, "us", {"block": "{}", **two})
    rivals = {"best dense": "{}", "over dense": "{:.2f}", "over sparse": "{:.2f}"}
    condition = f"{RATE:g}x, blocks of {BLOCK[0]}x{BLOCK[1]}, batch 1"
    show(console, f"layers, {condition}", singles, "ms", {"layer": "{}", **rivals})
    show(console, f"whole networks, {condition}", nets, "ms", {"network": "{}", **rivals})
    verdicts = [aim.describe() for aim in aims(many, one, steps, nets)]
    console.print("aims:", *verdicts, "GRIM's claims this speaks to:", *CLAIMS, sep="\n  ", markup=False)
    report = {
        "machine": {"about": about, "flops": limits.flops, "bytes_s": dict(limits.bytes_s)},
        **{"products": [*many, *one], "gru": steps, "layers": singles, "networks": nets, "aims": verdicts},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    console.print(f"written to {output}", markup=False)


if __name__ == "__main__":
    single_threaded()
    typer.run(main)
