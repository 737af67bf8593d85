"""What can be checked of CompVQC without training: lengths of single gates, periods, penalty and simulator.

The lengths are those of the figure of levels (https://github.com/mit-han-lab/torchquantum, notebook
examples/ICCAD22_tutorial/sec3_gate.ipynb), grouped as it groups them; angles are multiples of pi/2 in rad.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lib.lab.admm import Admm
from lib.quantum.circuits import Circuit, Gate
from lib.quantum.compiler import Compiler
from lib.quantum.compvqc import TargetProjection, circular_difference
from lib.quantum.data import Samples
from lib.quantum.fast import Simulator
from lib.quantum.levels import LevelTable
from lib.quantum.model import Model
from lib.quantum.pennylane_model import expectations, qnode

HALF_PI = math.pi / 2
GENERIC = math.nan
"""Stands for "any other angle" in a group of steps."""

GROUPS: Mapping[str, Mapping[str, Sequence[float]]] = {
    "rx": {"pruning": (0, 4, 8), "half": (1, 5), "pi": (2, 6), "three_halves": (3, 7), "other": (GENERIC,)},
    "ry": {"pruning": (0, 4, 8), "half": (1, 3, 5, 7), "pi": (2, 6), "other": (GENERIC,)},
    "rz": {"pruning": (0, 4, 8), "other": (1, 2, 3, 5, 6, 7, GENERIC)},
    "crx": {"pruning": (0, 8), "two_pi": (4,), "pi": (2,), "three_pi": (6,), "other": (1, 3, 5, 7, GENERIC)},
    "cry": {"pruning": (0, 8), "two_pi": (4,), "pi": (2, 6), "other": (1, 3, 5, 7, GENERIC)},
    "crz": {"pruning": (0, 8), "other": (1, 2, 3, 4, 5, 6, 7, GENERIC)},
}
"""Gate -> group of the figure -> its angles, as multiples of pi/2."""

U3_ANGLES: Mapping[str, tuple[float, float, float]] = {
    "000": (0, 0, 0),
    "0rr": (0, 0.37, 1.91),
    "hrh": (HALF_PI, 0.37, HALF_PI),
    "hrr": (HALF_PI, 0.37, 1.91),
    "rr0": (0.73, 0.37, 0),
    "r0r": (0.73, 0, 1.91),
    "rrr": (0.73, 0.37, 1.91),
}
"""Rows of the figure for U3(theta, phi, lambda): h is pi/2, r any angle."""


def group_lengths(table: LevelTable) -> dict[str, float]:
    """Group of the figure -> compiled length of the gate of `table`, a mean over the group's angles."""
    return {
        group: sum(_depth(table, step) for step in steps) / len(steps)
        for group, steps in GROUPS[table.gate].items()
    }


def agreement(table: LevelTable, published: Sequence[int]) -> int:
    """On how many of ten rows (nine multiples of pi/2, any other angle) the depth is as `published`."""
    measured = [length.depth for length in (*table.lengths, table.generic)]
    return sum(ours == theirs for ours, theirs in zip(measured, published, strict=True))


def u3_lengths(compiler: Compiler) -> dict[str, int]:
    """Row of the figure -> compiled depth of a single U3 gate with its angles."""
    return {name: compiler.one_gate("u", *angles).depth for name, angles in U3_ANGLES.items()}


def controlled_gap(step: float) -> float:
    """How far the simulator's CRX(`step` pi/2) is from the identity: the spectral norm of their difference.

    0 for an identity; 2 for a Z on the control, which turns the sign of half of the states.
    """
    circuit = Circuit(2, "amplitude", 4, (Gate("crx", (0, 1), parameter=0),))
    matrix = Simulator(circuit).unitary(torch.tensor([step * HALF_PI], dtype=torch.float64))
    return float(torch.linalg.matrix_norm(matrix - torch.eye(4), ord=2))


def penalty_gradient_gap(generator: torch.Generator, parameters: int = 18, rho: float = 0.1) -> float:
    """Largest difference of the penalty's gradient, as ADMM computes it, from rho (theta - z + u)."""
    theta = torch.nn.Parameter(2 * torch.rand(parameters, generator=generator, dtype=torch.float64))
    projection = TargetProjection(torch.zeros(parameters, dtype=torch.float64), 0.5)
    admm = Admm({"angles": theta}, {"angles": projection}, rho, difference=circular_difference)
    admm.update()
    admm.penalty().backward()
    assert theta.grad is not None
    wanted = rho * (theta.detach() - admm.z["angles"] + admm.u["angles"])
    return float((theta.grad - wanted).abs().max())


def simulator_gap(circuit: Circuit, inputs: Tensor, angles: Tensor) -> float:
    """Largest difference of the fast simulator from PennyLane, over values and gradients by the angles.

    `inputs` are (batch, features), `angles` (parameters,). The gradient is of the sum of all expectations.
    """
    node = qnode(circuit, "default.qubit", diff_method="backprop")
    simulator = Simulator(circuit)
    values, gradients = [], []
    for answer in (lambda a: expectations(node, inputs, a), lambda a: simulator(inputs, a)):
        theta = angles.detach().clone().requires_grad_()
        value = answer(theta)
        (gradient,) = torch.autograd.grad(value.sum(), theta)
        values.append(value.detach())
        gradients.append(gradient)
    return max(float((pair[0] - pair[1]).abs().max()) for pair in (values, gradients))


def off_level(angles: Tensor, held: Tensor) -> float:
    """Largest distance in rad of a held one of `angles (parameters,)` from a multiple of pi/2; 0 if none."""
    chosen = angles.detach()[held] / HALF_PI
    return float((chosen - chosen.round()).abs().max()) * HALF_PI if len(chosen) else 0.0


def identity_gap(model: Model, samples: Samples) -> float:
    """Largest change of a score when the projection of ratio 0 is applied to the angles of `model`."""
    same = model.copy()
    projection = TargetProjection(torch.zeros_like(model.angles.detach()), 0.0)
    with torch.no_grad():
        same.angles.copy_(projection(model.angles))
        states = model.encode(samples.inputs)
        return float((same(states) - model(states)).abs().max())


def _depth(table: LevelTable, step: float) -> int:
    return table.generic.depth if math.isnan(step) else table.lengths[int(step)].depth
