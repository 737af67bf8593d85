"""What compression is worth: gates of the machine, modelled time of one shot, and time on this computer.

All of the trained part, without encoder and measurement; lengths and shot times are medians over the seeds of
the compiler.
"""

import statistics
from dataclasses import dataclass
from functools import partial

import torch

from lib.lab.measure import latencies
from lib.quantum.compiler import Compiler, measure
from lib.quantum.model import Model


@dataclass(frozen=True)
class Costs:
    """Gates but `rz` (which takes no time), cx gates, layers with and without `rz`, and us of one shot."""

    gates: float
    cx: float
    depth: float
    depth_without_rz: float
    shot_us: float


def costs(model: Model, compiler: Compiler) -> Costs:
    """The costs of `model`, compiled by `compiler`; the time is by the gate durations of its machine."""
    compiled = [compiler.compiled(model.circuit, model.angles, seed) for seed in compiler.seeds]
    lengths = [measure(circuit) for circuit in compiled]
    return Costs(
        gates=statistics.median(c.size(lambda step: step.operation.name != "rz") for c in compiled),
        cx=statistics.median(length.cx for length in lengths),
        depth=statistics.median(length.depth for length in lengths),
        depth_without_rz=statistics.median(length.depth_without_rz for length in lengths),
        shot_us=statistics.median(c.estimate_duration(compiler.machine.target, "u") for c in compiled),
    )


def relative(before: Costs, after: Costs) -> dict[str, float]:
    """Name of a cost -> `after` over `before`."""
    return {
        "gates but rz": after.gates / before.gates,
        "cx gates": after.cx / before.cx,
        "depth": after.depth / before.depth,
        "depth but rz": after.depth_without_rz / before.depth_without_rz,
        "modelled shot time": after.shot_us / before.shot_us,
    }


def measured(before: Model, after: Model, batches: tuple[int, ...] = (1, 256)) -> dict[str, float]:
    """Size of a batch -> time of `after` over that of `before` on this computer's state-vector simulator."""
    ratios = {}
    for batch in batches:
        states = before.encode(torch.zeros(batch, before.circuit.features))
        with torch.inference_mode():
            contenders = {"before": partial(before, states), "after": partial(after, states)}
            times = latencies(contenders, rounds=3, burst_s=0.05)
        ratios[f"measured batch {batch}"] = times["after"].minimum_s / times["before"].minimum_s
    return ratios
