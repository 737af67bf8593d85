"""Uniform affine quantizers: scales of any size or true powers of two, at most 2^b levels, an integer zero
point.

For a tensor x, b bits, scale s > 0 and zero point z, with L = 2^b levels:

    q = clip(floor(x/s + 1/2) + z, 0, L-1),      x_hat = (q - z) s

Rounding is half up, because that is what an integer shift with an added half does. Weights have a scale and a
zero point for each output channel, activations one of each. A power-of-two scale is kept as its exponent: an
integer, so that nothing can make it anything else.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lib.errors import ReproError, WrongUse

ScaleKind = Literal["float", "nearest", "local", "learned"]
"""Any positive number; the power of two nearest in logarithm; that of the two neighbours with the smaller
error of this tensor alone; a power of two chosen by training."""

FLOAT = 32
"""This many bits leave a tensor as it is: the identity setting."""
STRETCH_LOW, STRETCH_HIGH = -0.1, 1.1
"""gamma and zeta: the sigmoid is stretched to this range and clipped, so that it reaches 0 and 1."""
_SHRINK_STEPS, _ERROR_POWER = 80, 2.4
_SAMPLED_VALUES = 1 << 16


@dataclass(frozen=True)
class Widths:
    """Bits of weights and activations, and those of the ends of the network (first and last layer).

    Raises WrongUse unless each is 2 to 8, or 32 (not quantized).
    """

    weights: int
    activations: int
    ends: int = 8

    def __post_init__(self) -> None:
        for name in ("weights", "activations", "ends"):
            bits = getattr(self, name)
            if bits != FLOAT and not 2 <= bits <= 8:
                raise WrongUse(
                    f"{name} of {bits} bits: a quantizer here has 2 to 8 bits, or 32 to do nothing"
                )

    @classmethod
    def named(cls, name: str) -> "Widths":
        """Of a name such as `w4a4`: four bits each. Raises WrongUse for any other form."""
        found = re.fullmatch(r"[wW](\d+)[aA](\d+)", name)
        if not found:
            raise WrongUse(f"bit widths {name!r} are unknown: write w8a8, w4a4, w2a4 or the like")
        weights, activations = (int(bits) for bits in found.groups())
        return cls(weights, activations, FLOAT if weights == activations == FLOAT else 8)

    def __str__(self) -> str:
        return f"w{self.weights}a{self.activations}"


class _RoundThrough(torch.autograd.Function):
    """Rounding half up (or down to the floor), with the gradient of the identity; exact, unlike x + (r -
    x).
    """

    @staticmethod
    def forward(context: Any, x: Tensor, half: float) -> Tensor:
        return torch.floor(x + half)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def round_half_up(x: Tensor) -> Tensor:
    """The nearest integers to `x`, halves upwards; the gradient passes straight through."""
    result: Tensor = _RoundThrough.apply(x, 0.5)
    return result


def floor_through(x: Tensor) -> Tensor:
    """The integers below `x`; the gradient passes straight through."""
    result: Tensor = _RoundThrough.apply(x, 0.0)
    return result


def stretched_sigmoid(a: Tensor) -> Tensor:
    """h(a) = clip(sigmoid(a) (zeta - gamma) + gamma, 0, 1)."""
    return (torch.sigmoid(a) * (STRETCH_HIGH - STRETCH_LOW) + STRETCH_LOW).clamp(0, 1)


def inverse_stretched(h: Tensor) -> Tensor:
    """The a with h(a) = h, for h in [0, 1]."""
    return -torch.log((STRETCH_HIGH - STRETCH_LOW) / (h - STRETCH_LOW) - 1)


def dequantized(x: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """x_hat of `x` by rounding to the nearest level."""
    if not torch.is_grad_enabled():
        q = (x / scale).add_(zero + 0.5).floor_().clamp_(0, levels - 1)
        return q.sub_(zero).mul_(scale)
    return ((round_half_up(x / scale) + zero).clamp(0, levels - 1) - zero) * scale


@torch.no_grad()
def search_scale(rows: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Scale and integer zero point of each of `rows (rows, values)`, by trying 80 shrunk ranges.

    The range from minimum to maximum (and zero) is shrunk at both ends by 0 to 79 %; the least mean of
    |x - x_hat|^2.4 wins. A row of zeros gets scale 1. Results are `(rows,)`, in the type of `rows`.
    """
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    levels = 2**bits
    best_error = torch.full_like(low, torch.inf)
    best_scale, best_zero = torch.ones_like(low), torch.zeros_like(low)
    for step in range(_SHRINK_STEPS):
        share = 1 - 0.01 * step
        scale = share * (high - low) / (levels - 1)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        zero = torch.floor(-share * low / scale + 0.5)
        error = dequantized(rows, scale[:, None], zero[:, None], levels).sub_(rows).abs_()
        error = error.pow_(_ERROR_POWER).mean(1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
        best_zero = torch.where(better, zero, best_zero)
    return best_scale, best_zero


def moved_zero(zero: Tensor, start: Tensor, scale: Tensor, bits: int) -> Tensor:
    """z = z_0 s_0 / s, rounded and kept among the levels, so that zero itself is always one of the values."""
    return round_half_up(zero * start / scale).clamp(0, 2**bits - 1)


@torch.no_grad()
def better_exponent(rows: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Of floor and ceiling of log2 `scale (rows,)`, the exponents with the smaller mean squared error of
    `rows`.
    """
    below = torch.floor(torch.log2(scale))
    errors = []
    for exponent in (below, below + 1):
        power = torch.exp2(exponent)
        moved = moved_zero(zero, scale, power, bits)
        values = dequantized(rows, power[:, None], moved[:, None], 2**bits)
        errors.append((values - rows).square().mean(1))
    return below + (errors[1] < errors[0])


class Scale(nn.Module):
    """Scales s and zero points z of one tensor, from s_0 and z_0 of a search; all of shape `shape`.

    A learned exponent is e_0 + h(a), with e_0 = floor(log2 s_0), and a begins where it reproduces s_0.
    `harden` makes it an integer: e_0, or e_0 + 1 where h(a) >= 1/2. z follows as z_0 s_0 / s, rounded.
    """

    log2: Tensor
    zero: Tensor
    exponent: Tensor | None

    def __init__(
        self, kind: ScaleKind, bits: int, scale: Tensor, zero: Tensor, exponent: Tensor | None = None
    ) -> None:
        super().__init__()
        self.kind, self.bits = kind, bits
        self.register_buffer("log2", torch.log2(scale))
        self.register_buffer("zero", zero)
        self.register_buffer("exponent", torch.floor(self.log2 + 0.5) if kind == "nearest" else exponent)
        self.a: nn.Parameter | None = None
        if kind == "learned":
            self.a = nn.Parameter(inverse_stretched(self.log2 - torch.floor(self.log2)))

    def values(self) -> tuple[Tensor, Tensor]:
        """(s, z), differentiable in `a` while that is being learned."""
        if self.exponent is not None:
            scale = torch.exp2(self.exponent)
        elif self.a is not None:
            scale = torch.exp2(torch.floor(self.log2) + stretched_sigmoid(self.a))
        else:
            return torch.exp2(self.log2), self.zero
        return scale, moved_zero(self.zero, torch.exp2(self.log2), scale, self.bits)

    def harden(self) -> None:
        """Fixes a learned exponent at the integer it is nearer to."""
        if self.a is not None and self.exponent is None:
            up = (stretched_sigmoid(self.a.detach()) >= 0.5).to(self.log2)
            self.exponent = torch.floor(self.log2) + up
            self.a.requires_grad_(False)


class WeightQuantizer(nn.Module):
    """x_hat of one weight tensor `(outputs, ...)`, with a scale for each output.

    Rounding is to the nearest level until `learn_rounding`; then each weight is rounded down, plus h(v) while
    v is learned, plus 1 where v >= 0 after `fix_rounding` (AdaRound).
    """

    def __init__(self, weight: Tensor, bits: int, kind: ScaleKind) -> None:
        super().__init__()
        rows = weight.detach().flatten(1)
        scale, zero = search_scale(rows, bits)
        shape = (-1,) + (1,) * (weight.dim() - 1)
        exponent = better_exponent(rows, scale, zero, bits).view(shape) if kind == "local" else None
        self.bits = bits
        self.scale = Scale(kind, bits, scale.view(shape), zero.view(shape), exponent)
        self.v: nn.Parameter | None = None
        self.fixed = False

    def learn_rounding(self, weight: Tensor) -> None:
        """Starts v where h(v) is the fraction that rounding down would lose, at the present scale."""
        with torch.no_grad():
            units = weight / self.scale.values()[0]
            start = inverse_stretched(units - torch.floor(units))
        if self.v is None:
            self.v = nn.Parameter(start)
        else:
            self.v.data.copy_(start)

    def fix_rounding(self) -> None:
        """Every weight goes up or down for good."""
        self.fixed = True
        if self.v is not None:
            self.v.requires_grad_(False)

    def forward(self, weight: Tensor) -> Tensor:
        scale, zero = self.scale.values()
        if self.v is None:
            return dequantized(weight, scale, zero, 2**self.bits)
        part = (self.v >= 0).to(weight) if self.fixed else stretched_sigmoid(self.v)
        return ((floor_through(weight / scale) + part + zero).clamp(0, 2**self.bits - 1) - zero) * scale

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """q - z as int64 like `weight`, and the exponents `(outputs,)`. Raises ReproError if s is no 2^k."""
        exponent = power_of_two_exponent(self.scale, "a weight")
        return (self(weight) / torch.exp2(exponent)).to(torch.int64), exponent.flatten().to(torch.int64)


class ActivationQuantizer(nn.Module):
    """x_hat of activations, one scale for all. Until `observe` has seen some, and at 32 bits, x itself.

    `learn` makes t = log2 s trainable: s = 2^t, or 2^round(t) for powers of two, with the rounding passed
    through by the gradient.
    """

    zero: Tensor
    start: Tensor

    def __init__(self, bits: int, kind: ScaleKind, name: str) -> None:
        super().__init__()
        self.bits, self.kind, self.name = bits, kind, name
        self.t: nn.Parameter | None = None
        self.register_buffer("zero", torch.zeros(()))
        self.register_buffer("start", torch.zeros(()))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Takes s_0 and z_0 from activations `x`. Raises ReproError if they are not finite, or none."""
        if not x.numel() or not torch.isfinite(x).all():
            what = "empty" if not x.numel() else "not finite (NaN or infinity)"
            raise ReproError(
                f"the activations at {self.name} are {what}: check the weights of the network and the "
                "calibration images"
            )
        if self.bits == FLOAT:
            return
        values = x.flatten()
        values = values[:: -(-len(values) // _SAMPLED_VALUES)]
        scale, zero = search_scale(values[None], self.bits)
        self.zero = zero[0]
        self.start = torch.log2(scale[0])
        t = (
            better_exponent(values[None], scale, zero, self.bits)
            if self.kind == "local"
            else torch.log2(scale)
        )
        self.t = nn.Parameter(t[0], requires_grad=False)

    def values(self) -> tuple[Tensor, Tensor]:
        """(s, z), scalars."""
        assert self.t is not None
        t = self.t if self.kind == "float" else round_half_up(self.t)
        scale = torch.exp2(t)
        return scale, moved_zero(self.zero, torch.exp2(self.start), scale, self.bits).detach()

    def forward(self, x: Tensor) -> Tensor:
        if self.t is None:
            return x
        scale, zero = self.values()
        return dequantized(x, scale, zero, 2**self.bits)


def power_of_two_exponent(scale: Scale, what: str) -> Tensor:
    """The integer exponents of `scale`. Raises ReproError if it is no power of two."""
    if scale.exponent is None or not torch.equal(scale.exponent, torch.floor(scale.exponent)):
        raise ReproError(
            f"the scale of {what} is no power of two, so no shift can replace it: quantize with nearest or "
            "learned powers of two, and finish reconstruction first"
        )
    return scale.exponent
