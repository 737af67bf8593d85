"""One epoch of training a quantum circuit: our simulator against PennyLane's and TorchQuantum's.

The same circuit (angle encoder and ansatz B twice: 4 qubits, 80 angles), the same samples in the same
batches, loss and gradient of every batch and a step of Adam; all contenders in one process, in alternating
bursts. Before anything is timed, every contender must give our scores and gradients. Ours is timed in two
ways: with the encoder run for every batch, as the others do, and with the encoded states kept, as training
does (the encoder has no trained angle).
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from lib.errors import ReproError
from lib.lab.measure import latencies, write_measurements
from lib.lab.torchvision_ops import prepare_torchvision
from lib.project import REPOSITORY
from lib.quantum.circuits import Circuit, build, class_scores, z_signs
from lib.quantum.data import load
from lib.quantum.fast import Simulator
from lib.quantum.pennylane_model import expectations, qnode

OUTPUT = REPOSITORY.cache / "bench" / "quantum.json"
OURS = "ours"
KEPT = "ours, states kept"
CLASSES = 2
Expectations = Callable[[Tensor, Tensor], Tensor]
"""Expectations (batch, qubits) from the numbers of the samples (batch,) and the angles (parameters,)."""
Row = dict[str, float | str]


def contenders(circuit: Circuit, inputs: Tensor) -> dict[str, Expectations]:
    """Every way to compute the circuit for some of the samples `inputs` (samples, features)."""
    simulator = Simulator(circuit)
    states = simulator.encode(inputs)
    broadcast = qnode(circuit, "default.qubit", diff_method="backprop")
    adjoint = qnode(circuit, "lightning.qubit", diff_method="adjoint")
    ways: dict[str, Expectations] = {
        OURS: lambda chosen, angles: simulator(inputs[chosen], angles),
        KEPT: lambda chosen, angles: simulator.expectations(states[chosen], angles),
        "default.qubit, broadcast": lambda chosen, angles: expectations(broadcast, inputs[chosen], angles),
        "lightning.qubit, adjoint": lambda chosen, angles: expectations(adjoint, inputs[chosen], angles),
    }
    if (peer := torchquantum(circuit)) is not None:
        ways["TorchQuantum"] = lambda chosen, angles: peer(inputs[chosen], angles)
    return ways


def torchquantum(circuit: Circuit) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The circuit in TorchQuantum's functions, for inputs and angles; None if it is not installed."""
    prepare_torchvision()
    try:
        quantum: Any = import_module("torchquantum")
        gates: Any = import_module("torchquantum.functional")
    except ImportError:
        return None

    def run(inputs: Tensor, angles: Tensor) -> Tensor:
        device = quantum.QuantumDevice(n_wires=circuit.qubits, bsz=len(inputs), device="cpu")
        for gate in circuit.gates:
            angle = angles[gate.parameter] if gate.parameter is not None else inputs[:, gate.input]
            apply = getattr(gates, gate.name)
            apply(device, wires=list(gate.wires), params=angle.to(torch.float32).reshape(-1, 1))
        probabilities = device.get_states_1d().abs().square()
        return probabilities @ z_signs(circuit.qubits).float()

    return run


def check(ways: dict[str, Expectations], circuit: Circuit, labels: Tensor) -> dict[str, float]:
    """Largest difference of each contender's gradient from ours, on the first samples.

    Raises ReproError for a contender that computes something else.
    """
    chosen = torch.arange(8)
    slopes = {name: gradient(way, circuit, chosen, labels) for name, way in ways.items()}
    errors = {name: float((slope - slopes[OURS]).abs().max()) for name, slope in slopes.items()}
    for name, error in errors.items():
        if error > 1e-4:  # single precision, which some contenders use, is good to about 1e-6
            raise ReproError(f"{name} differs from our gradient by {error:.1e}: do not compare their times")
    return errors


def gradient(way: Expectations, circuit: Circuit, chosen: Tensor, labels: Tensor) -> Tensor:
    """Gradient (parameters,) of the loss of some samples at angles drawn from a fixed seed."""
    angles = start(circuit).requires_grad_()
    F.cross_entropy(class_scores(way(chosen, angles), CLASSES), labels[chosen]).backward()
    if angles.grad is None:
        raise ReproError("the contender gives no gradient")
    return angles.grad


def start(circuit: Circuit) -> Tensor:
    """Angles (parameters,) to begin from."""
    generator = torch.Generator().manual_seed(0)
    return 6 * torch.rand(circuit.parameters, generator=generator, dtype=torch.float64)


@torch.inference_mode(False)
def epoch(way: Expectations, circuit: Circuit, labels: Tensor, batch: int) -> None:
    """One pass with a step of Adam per batch, from the same angles every time."""
    with torch.enable_grad():
        angles = start(circuit).requires_grad_()
        optimizer = torch.optim.Adam([angles], 0.01)
        for chosen in torch.arange(len(labels)).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(class_scores(way(chosen, angles), CLASSES), labels[chosen]).backward()
            optimizer.step()


def measure(samples: int, batch: int, rounds: int) -> list[Row]:
    """A row per contender: time of an epoch, and how many times ours goes into it."""
    circuit = build("B", blocks=2)
    train = load("mnist-3-6", 0).train.part(torch.arange(samples))
    ways = contenders(circuit, train.inputs)
    errors = check(ways, circuit, train.labels)
    times = latencies(
        {name: partial(epoch, way, circuit, train.labels, batch) for name, way in ways.items()},
        rounds=rounds,
        burst_s=0.1,
    )
    return [
        {
            "contender": name,
            "epoch_ms": 1e3 * times[name].minimum_s,
            "median_ms": 1e3 * times[name].median_s,
            "over_ours": times[name].minimum_s / times[OURS].minimum_s,
            "over_ours_median": times[name].median_s / times[OURS].median_s,
            "over_kept": times[name].minimum_s / times[KEPT].minimum_s,
            "gradient_difference": errors[name],
        }
        for name in ways
    ]


def main(
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 1,
    samples: Annotated[int, typer.Option(min=32, max=500, help="samples of an epoch")] = 300,
    batch: Annotated[int, typer.Option(min=1, help="samples of a step")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="alternating rounds")] = 5,
    output: Annotated[Path, typer.Option(help="where the JSON goes")] = OUTPUT,
) -> None:
    """Measure an epoch of training by each simulator."""
    torch.set_num_threads(threads)
    rows = measure(samples, batch, rounds)
    table = Table(title=f"4 qubits, 80 angles, {samples} samples in batches of {batch}, {threads} thread(s)")
    for heading in (
        "contender",
        "epoch [ms]",
        "median",
        "times ours",
        "by median",
        "times ours kept",
        "gradient",
    ):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for row in rows:
        numbers = [f"{row[key]:.2f}" for key in ("over_ours", "over_ours_median", "over_kept")]
        table.add_row(
            str(row["contender"]),
            f"{row['epoch_ms']:.1f}",
            f"{row['median_ms']:.1f}",
            *numbers,
            f"{row['gradient_difference']:.0e}",
        )
    write_measurements(output, rows, threads)
    Console().print(table)
    if not any(row["contender"] == "TorchQuantum" for row in rows):
        Console().print("TorchQuantum was not asked: it is not installed", markup=False)
    others = [float(row["over_ours"]) for row in rows if row["contender"] not in (OURS, KEPT)]
    Console().print(f"fastest other: {min(others):.1f} times ours; aim: 3. Written to {output}", markup=False)


if __name__ == "__main__":
    typer.run(main)
