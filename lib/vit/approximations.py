"""HeatViT's stand-ins for GELU, softmax and sigmoid (section V), as smooth float functions to train with.

Symbols: delta_1 and delta_2 are the factors that shrink the slopes of GELU and softmax, so that the rounding
of an 8-bit input is not amplified. `lib.vit.fixed_point` computes the same formulas in integers.
"""

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.vit.attention import Core, attend

if TYPE_CHECKING:
    from timm.layers import Attention

Function = Callable[[Tensor], Tensor]
Model = TypeVar("Model", bound=nn.Module)

ERF_A, ERF_B = -0.2888, -1.769
"""L_erf(u) = sign(u) delta_1 (a (min(|u|, -b) + b)^2 + 1): equation 12."""
EXP_SCALE, EXP_SHIFT, EXP_OFFSET = 0.3585, 1.353, 0.344
"""exp(p) is about 0.3585 (p + 1.353)^2 + 0.344 on (-ln 2, 0]: equation 14."""
DELTA_1 = DELTA_2 = 0.5
"""The paper's factors."""
PLAN_PIECES = ((0.0, 1 / 4, 1 / 2), (1.0, 1 / 8, 5 / 8), (2.375, 1 / 32, 27 / 32), (5.0, 0.0, 1.0))
"""From where on, slope and offset of the sigmoid's straight pieces, for x >= 0."""


def checked(name: str, delta: float) -> float:
    """`delta`, the factor called `name`. Raises WrongUse unless it lies in (0, 1]."""
    if not 0 < delta <= 1:
        raise WrongUse(f"{name} is {delta:g}, but the factor shrinks a function: it lies in (0, 1]")
    return delta


def erf(u: Tensor, delta_1: float = 1.0) -> Tensor:
    """L_erf of `u`, times delta_1. At 0 it jumps from -0.096 to 0.096, where GELU multiplies it by 0."""
    bent = u.abs().clamp(max=-ERF_B) + ERF_B
    return delta_1 * u.sign() * (ERF_A * bent.square() + 1)


def gelu(x: Tensor, delta_1: float = DELTA_1) -> Tensor:
    """x/2 (1 + L_erf(x / sqrt 2)), equation 11.

    With delta_1 < 1 it is no GELU: far out it tends to x (1 +- delta_1) / 2.
    """
    return x / 2 * (1 + erf(x / math.sqrt(2), delta_1))


def regularised_gelu(x: Tensor, delta_1: float) -> Tensor:
    """x/2 (1 + delta_1 erf(x / sqrt 2)): what the polynomial approximates, GELU itself for delta_1 = 1."""
    return x / 2 * (1 + delta_1 * torch.erf(x / math.sqrt(2)))


def largest_delta_1() -> float:
    """The largest delta_1 with which the slope of `regularised_gelu` stays at most 1.

    The slope 1/2 + delta_1 (erf(x / sqrt 2)/2 + x phi(x)), phi the normal density, peaks where its derivative
    phi(x) (2 - x^2) vanishes: at x = sqrt 2.
    """
    at = math.sqrt(2)
    steepest = math.erf(at / math.sqrt(2)) / 2 + at * math.exp(-(at**2) / 2) / math.sqrt(2 * math.pi)
    return 0.5 / steepest


def exp(x: Tensor) -> Tensor:
    """exp of `x` <= 0 (equations 13, 14): a parabola for the remainder by ln 2, halved once for each ln 2."""
    z = torch.floor(-x.detach() / math.log(2))
    p = x + z * math.log(2)
    return (EXP_SCALE * (p + EXP_SHIFT).square() + EXP_OFFSET) * torch.exp2(-z)


def softmax(x: Tensor, delta_2: float = DELTA_2, *, seen: Tensor | None = None, eps: float = 0.0) -> Tensor:
    """delta_2 e_i / sum_j e_j over the last dimension of `x`, e from `exp`; rows sum to delta_2.

    `seen`, broadcast to `x`, multiplies the exponentials, with `eps` as in `lib.vit.attention.exact_weights`.
    The maximum that is subtracted is that of what is seen: unlike a softmax, this function depends on it.
    """
    if seen is None:
        weights = exp(x - x.amax(-1, keepdim=True))
    else:
        seen = seen.expand_as(x)
        highest = x.masked_fill(seen.detach() <= 0, -torch.inf).amax(-1, keepdim=True)
        weights = exp((x - highest).clamp(max=0)) * seen
    return delta_2 * (weights + eps / x.shape[-1]) / (weights.sum(-1, keepdim=True) + eps)


def sigmoid(x: Tensor) -> Tensor:
    """The piecewise linear sigmoid PLAN: four straight pieces on |x|, mirrored at (0, 1/2).

    Slopes are powers of two. At 2.375 it falls by 1/256, and it is exactly 0 from x = -5 downwards.
    """
    size = x.abs()
    y = torch.zeros_like(x)
    for start, slope, offset in PLAN_PIECES:
        y = torch.where(size >= start, slope * size + offset, y)
    return torch.where(x < 0, 1 - y, y)


class PolynomialGELU(nn.Module):
    """`gelu` as a layer. Raises WrongUse for a delta_1 that is not in (0, 1]."""

    def __init__(self, delta_1: float = DELTA_1) -> None:
        super().__init__()
        self.delta_1 = checked("delta_1", delta_1)

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x, self.delta_1)


class ShiftSoftmax(nn.Module):
    """`softmax` over the last dimension as a layer. Raises WrongUse for a delta_2 that is not in (0, 1]."""

    def __init__(self, delta_2: float = DELTA_2) -> None:
        super().__init__()
        self.delta_2 = checked("delta_2", delta_2)

    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, self.delta_2)


class PlanSigmoid(nn.Module):
    """`sigmoid` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class CoredAttention(nn.Module):
    """timm's attention, its layers shared, with another middle: `core` (see `lib.vit.attention.Core`).

    Raises WrongUse for gated attention.
    """

    def __init__(self, attention: "Attention", core: Core) -> None:
        super().__init__()
        if attention.gate is not None:
            raise WrongUse("gated attention has no middle that could be replaced")
        for name in ("qkv", "q_norm", "k_norm", "attn_drop", "norm", "proj", "proj_drop"):
            setattr(self, name, getattr(attention, name))
        self.num_heads, self.scale = attention.num_heads, attention.scale
        self.core = core

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Attention output of `x (batch, length, dim)`; raises WrongUse for masks, which are the host's."""
        if attn_mask is not None or is_causal:
            raise WrongUse("this attention is masked by the token host, not by attn_mask or is_causal")
        return attend(cast("Attention", self), x)[0]


class ApproximateCore:
    """The middle of attention (`lib.vit.attention.Core`) with `softmax` for the exact one."""

    def __init__(self, scale: float, delta_2: float = DELTA_2) -> None:
        self.scale, self.delta_2 = scale, checked("delta_2", delta_2)

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor]:
        """Context and weights; see the protocol for the shapes."""
        weights = softmax((q * self.scale) @ k.transpose(-2, -1), self.delta_2, seen=seen, eps=eps)
        return weights @ v, weights


def swap(module: nn.Module, kind: type[nn.Module], make: Callable[[Any], nn.Module]) -> None:
    """Put `make(layer)` in the place of every layer of exactly this `kind` inside `module`."""
    for name, child in list(module.named_children()):
        if type(child) is kind:
            setattr(module, name, make(child))
        else:
            swap(child, kind, make)


def approximate(model: Model, delta_1: float = DELTA_1, delta_2: float = DELTA_2) -> Model:
    """A copy of `model`, a timm ViT or a token host around one, that computes with these functions.

    Softmax over two classes, in selectors, keeps delta_2 = 1: half of it would never reach the threshold of
    one half. Normalisations stay as they are.
    """
    from timm.layers import Attention

    changed = copy.deepcopy(model)
    swap(changed, nn.GELU, lambda _: PolynomialGELU(delta_1))
    swap(changed, nn.Sigmoid, lambda _: PlanSigmoid())
    swap(changed, nn.Softmax, lambda _: ShiftSoftmax(1.0))
    swap(changed, Attention, lambda each: CoredAttention(each, ApproximateCore(each.scale, delta_2)))
    return changed
