"""What compression is worth: gates of the machine, modelled time of one shot, and time on this computer.

All of the trained part, without encoder and measurement; gates and times are means over the transpiler seeds.
"""

from dataclasses import dataclass
from functools import partial

import torch

from lib.lab.measure import latencies
from lib.quantum.compiler import Compiler
from lib.quantum.model import Model
from lib.quantum.qiskit_model import fake_backend


@dataclass(frozen=True)
class Costs:
    """Gates but `rz` (which takes no time), cx gates, layers, and the time of one shot in microseconds."""

    gates: float
    cx: float
    depth: float
    shot_us: float


def costs(model: Model, compiler: Compiler) -> Costs:
    """The costs of `model`, compiled by `compiler`; the time is by the gate durations of its machine."""
    target = fake_backend(compiler.backend).target
    compiled = [compiler.compiled(model.circuit, model.angles, seed) for seed in compiler.seeds]
    return Costs(
        gates=_mean([sum(n for name, n in c.count_ops().items() if name != "rz") for c in compiled]),
        cx=_mean([c.count_ops().get("cx", 0) for c in compiled]),
        depth=_mean([c.depth() for c in compiled]),
        shot_us=_mean([c.estimate_duration(target, "u") for c in compiled]),
    )


def relative(
    before: Model, after: Model, compiler: Compiler, batches: tuple[int, ...] = (1, 256)
) -> dict[str, float]:
    """Name of a cost -> `after` over `before`; this computer's times are of its state-vector simulator."""
    first, second = costs(before, compiler), costs(after, compiler)
    ratios = {
        "gates but rz": second.gates / first.gates,
        "cx gates": second.cx / first.cx,
        "depth": second.depth / first.depth,
        "modelled shot time": second.shot_us / first.shot_us,
    }
    for batch in batches:
        states = before.encode(torch.zeros(batch, before.circuit.features))
        with torch.inference_mode():
            contenders = {"before": partial(before, states), "after": partial(after, states)}
            times = latencies(contenders, rounds=3, burst_s=0.05)
        ratios[f"measured batch {batch}"] = times["after"].minimum_s / times["before"].minimum_s
    return ratios


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
