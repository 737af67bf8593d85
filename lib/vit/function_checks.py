"""How far HeatViT's approximated functions lie from the exact ones, and how steep they are.

Every figure that can be worked out from the formulas alone, without a network.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.vit import approximations as approx
from lib.vit.approximations import Function


@dataclass(frozen=True)
class Gap:
    """How far two functions lie apart: at most (and where), and on average."""

    largest: float
    where: float
    mean: float


def grid(low: float, high: float, count: int = 160_001) -> Tensor:
    """`count` equally spaced points, in float64."""
    return torch.linspace(low, high, count, dtype=torch.float64)


def gap(approximate: Function, exact: Function, points: Tensor, *, relative: bool = False) -> Gap:
    """Distance of two functions on `points`, absolute or in proportion to `exact`."""
    right = exact(points)
    apart = (approximate(points) - right).abs()
    if relative:
        apart = apart / right.abs()
    at = int(apart.argmax())
    return Gap(float(apart[at]), float(points[at]), float(apart.mean()))


def slope(function: Function, points: Tensor) -> Tensor:
    """Derivative of an elementwise function at `points`."""
    x = points.detach().clone().requires_grad_()
    (result,) = torch.autograd.grad(function(x).sum(), x)
    return result


def jump(function: Function, at: float, step: float = 1.0e-9) -> float:
    """What `function` gains at `at`, from just below to just above."""
    below, above = function(torch.tensor([at - step, at + step], dtype=torch.float64))
    return float(above - below)


def largest_softmax_slope(function: Function, rows: Tensor) -> float:
    """Largest absolute entry of the Jacobian of a softmax-like `function` over `rows (count, length)`."""
    entries = [torch.autograd.functional.jacobian(function, row) for row in rows]
    return max(float(each.abs().max()) for each in entries if isinstance(each, Tensor))


def softmax_gap(rows: Tensor) -> float:
    """Largest error of `softmax` with delta_2 = 1 on `rows (count, length)`."""
    return float((approx.softmax(rows, 1.0) - F.softmax(rows, -1)).abs().max())


def gelus() -> Mapping[str, Function]:
    """GELU and its approximations, by name."""
    return {
        "exact": F.gelu,
        "delta_1 = 1": partial(approx.gelu, delta_1=1.0),
        "delta_1 = 0.5": partial(approx.gelu, delta_1=0.5),
    }


def softmax_rows(seed: int = 0) -> Tensor:
    """400 rows of 197 Gaussian logits of deviation 2, by default always the same ones."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(400, 197, generator=generator, dtype=torch.float64)


def figures() -> dict[str, float]:
    """The figures by name."""
    remainders, wide = grid(-math.log(2) + 1.0e-12, 0), grid(-8, 8)
    other = grid(-12, 0, 20_001)
    two = torch.stack((torch.zeros_like(other), other), 1)
    rows = softmax_rows()
    # the steepest of the softmax: one logit against a few that together weigh as much
    steep = torch.tensor([[0.0, -1.067, -1.067, -1.067]], dtype=torch.float64)
    ends = approx.gelu(torch.tensor([-8.0, 8.0], dtype=torch.float64), 0.5)
    exact, whole, half = (float(slope(each, wide).max()) for each in gelus().values())
    plan = gap(approx.sigmoid, torch.sigmoid, wide)
    below_jump, above_jump = approx.sigmoid(torch.tensor([2.375 - 1.0e-9, 2.375], dtype=torch.float64))
    polynomial = gap(partial(approx.gelu, delta_1=1.0), F.gelu, wide)
    above, at = approx.exp(torch.tensor([-math.log(2) + 1.0e-9, -math.log(2)], dtype=torch.float64))
    return {
        "exp_relative_error": gap(approx.exp, torch.exp, remainders, relative=True).largest,
        "exp_error": gap(approx.exp, torch.exp, remainders).largest,
        "exp_at_zero": float(approx.exp(torch.zeros(1).double())),
        "exp_above_boundary": float(above),
        "exp_at_boundary": float(at),
        "exp_jump": jump(approx.exp, -math.log(2)),
        "softmax_row_sum_gap": float((approx.softmax(rows, 0.5).sum(-1) - 0.5).abs().max()),
        "softmax_error": softmax_gap(rows),
        "softmax_error_two_classes": softmax_gap(two),
        "softmax_slope": largest_softmax_slope(lambda row: 0.5 * row.softmax(-1), two[-1:]),
        "softmax_slope_polynomial": largest_softmax_slope(partial(approx.softmax, delta_2=0.5), steep),
        "gelu_error": polynomial.largest,
        "gelu_error_at": abs(polynomial.where),
        "gelu_jump_at_zero": jump(partial(approx.gelu, delta_1=1.0), 0.0),
        "erf_jump": jump(approx.erf, 0.0) / 2,
        "gelu_half_far_left": float(ends[0]),
        "gelu_half_far_left_slope": float(ends[0] / -8),
        "gelu_half_far_right_slope": float(ends[1] / 8),
        "gelu_slope_exact": exact,
        "gelu_slope_whole": whole,
        "gelu_slope_half": half,
        "largest_delta_1": approx.largest_delta_1(),
        "largest_delta_1_polynomial": 0.5 / (whole - 0.5),
        "plan_error": plan.largest,
        "plan_error_at": abs(plan.where),
        "plan_mean_error": plan.mean,
        "plan_below_jump": float(below_jump),
        "plan_above_jump": float(above_jump),
        "plan_asymmetry": float((approx.sigmoid(wide) + approx.sigmoid(-wide) - 1).abs().max()),
    }
