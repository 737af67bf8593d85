"""8-bit fixed point for a timm ViT or a token host: rounding to train through, and the network in integers.

`quantise` makes a network that simulates the numbers of `lib.vit.fixed_functions` in floats, differentiable;
`to_integers` the one whose products and functions run on int64 tensors with int8 weights. Weights and all
operands of products have 8 bits; products accumulate in wide integers. Normalisations, means and the
selectors' final quotient stay in float, as on the processor beside HeatViT's fabric.

In float64 both networks give the same bits: every float in the simulation is then a whole number below 2^53
times a power of two. In float32, to train in, sums of up to 1,032 products are exact, and all numbers that
stay below 2^24; beyond, a last bit may differ.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import WrongUse
from lib.vit import approximations as smooth
from lib.vit import fixed_functions as fixed
from lib.vit.approximations import CoredAttention, Model, PlanSigmoid, swap
from lib.vit.attention import exact_weights
from lib.vit.fixed_functions import (
    BITS,
    PROBABILITY,
    RESULT,
    RESULT_LIMIT,
    SCORE,
    exact_matmul,
    rounded,
    to_float,
    to_numbers,
)


class _Straight(torch.autograd.Function):
    """The second argument forward, the gradient to the first: rounding that can be trained through."""

    @staticmethod
    def forward(ctx: Any, soft: Tensor, hard: Tensor) -> Tensor:
        return hard

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def straight(soft: Tensor, hard: Tensor) -> Tensor:
    """`hard`, with the gradient of `soft`."""
    return _Straight.apply(soft, hard)


class Quantiser(nn.Module):
    """Rounds to `bits` bits with the fraction bits that calibration chose; clips what lies beyond."""

    def __init__(self, *, signed: bool = True, bits: int = BITS) -> None:
        super().__init__()
        self.low = -(2 ** (bits - 1)) if signed else 0
        self.high = self.low + 2**bits - 1
        self.fraction: int | None = None
        self.calibrating = False

    def numbers(self, x: Tensor) -> Tensor:
        """`x` as numbers, in floats."""
        assert self.fraction is not None
        return to_numbers(x, self.fraction).clamp_(self.low, self.high)

    def look(self, x: Tensor) -> int:
        """The fraction bits: chosen for `x` with the least squared error while calibrating, else as they are.

        Raises WrongUse if they were never chosen.
        """
        if self.calibrating:
            # an all-zero tensor is exact with any fraction
            first = math.floor(math.log2(self.high / max(float(x.abs().max()), 2.0**-20)))
            errors = {}
            for self.fraction in range(first, first + 4):
                errors[self.fraction] = float(
                    (to_float(self.numbers(x), self.fraction, x) - x).square().sum()
                )
            self.fraction = min(errors, key=errors.__getitem__)
        if self.fraction is None:
            raise WrongUse("no fraction bits yet: calibrate the quantised network on some images first")
        return self.fraction

    def forward(self, x: Tensor) -> Tensor:
        """`x`, rounded; gradients pass where nothing was clipped."""
        fraction = self.look(x.detach())
        hard = to_float(self.numbers(x), fraction, x)
        if not torch.is_grad_enabled():
            return hard
        return straight(x.clamp(self.low * 2.0**-fraction, self.high * 2.0**-fraction), hard)


def _product(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`layer` with other operands: a matrix product or a convolution."""
    if isinstance(layer, nn.Conv2d):
        return layer._conv_forward(x, weight, bias)
    return F.linear(x, weight, bias)


class FixedLayer(nn.Module):
    """A linear layer or convolution on rounded operands; its weights stay floats, to be trained."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        self.inputs, self.weights = Quantiser(), Quantiser()
        self.weights.calibrating = True
        self.weights.look(layer.weight.detach())
        self.weights.calibrating = False

    def forward(self, x: Tensor) -> Tensor:
        x, weight = self.inputs(x), self.weights(self.layer.weight)
        fraction = self.accumulated
        bias = self.layer.bias
        if bias is not None:
            bias = straight(bias, to_float(to_numbers(bias, fraction), fraction, bias))
        y = _product(self.layer, x, weight, bias)
        return straight(y, to_float(_leaving(to_numbers(y, fraction), fraction), RESULT, y))

    @property
    def accumulated(self) -> int:
        """Fraction bits of the accumulator."""
        assert self.inputs.fraction is not None
        assert self.weights.fraction is not None
        return self.inputs.fraction + self.weights.fraction


def _leaving(n: Tensor, fraction: int) -> Tensor:
    """Accumulated numbers with `fraction` bits as they leave the engine."""
    return rounded(n, fraction - RESULT).clamp(-RESULT_LIMIT - 1, RESULT_LIMIT)


class IntegerLayer(nn.Module):
    """A `FixedLayer` in integers: int8 weights, int32 bias, exact sums. For evaluation."""

    weight: Tensor
    bias: Tensor

    def __init__(self, fixed: FixedLayer) -> None:
        super().__init__()
        self.inputs, self.accumulated = fixed.inputs, fixed.accumulated
        # the layer's sizes and stride, without its float weights
        self.layer = copy.deepcopy(fixed.layer).to("meta")
        weight = fixed.weights.numbers(fixed.layer.weight.detach())
        bias = fixed.layer.bias
        whole = (
            torch.zeros(len(weight), device=weight.device)
            if bias is None
            else to_numbers(bias, self.accumulated)
        )
        self.register_buffer("weight", weight.to(torch.int8))
        self.register_buffer("bias", whole.to(torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        n = self.inputs.numbers(x).long()
        if isinstance(self.layer, nn.Conv2d):
            sums = _product(self.layer, n.double(), self.weight.double(), None).long()
            sums = sums + self.bias.long()[:, None, None]
        else:
            sums = exact_matmul(n, self.weight.long().t()) + self.bias
        return to_float(_leaving(sums, self.accumulated), RESULT, x)


class FixedFunction(nn.Module):
    """A function unit: `numbers` maps those with RESULT fraction bits to some with `fraction`.

    `soft` is the smooth function that gradients are taken of.
    """

    def __init__(
        self, soft: Callable[[Tensor], Tensor], numbers: Callable[[Tensor], Tensor], fraction: int
    ) -> None:
        super().__init__()
        self.soft, self.of_numbers, self.fraction = soft, numbers, fraction
        self.integer = False

    def forward(self, x: Tensor) -> Tensor:
        n = to_numbers(x, RESULT)
        hard = to_float(self.of_numbers(n.long() if self.integer else n), self.fraction, x)
        return straight(self.soft(x), hard) if torch.is_grad_enabled() else hard


class FixedCore(nn.Module):
    """The middle of attention on 8-bit queries, keys, values and weights (unsigned).

    `delta_2` is that of the polynomial softmax, None the exact one in float. `eps` of the protocol is for
    training with a soft mask; integers have none.
    """

    def __init__(self, scale: float, delta_2: float | None) -> None:
        super().__init__()
        self.q, self.k, self.v, self.a = Quantiser(), Quantiser(), Quantiser(), Quantiser(signed=False)
        self.scale, self.delta_2 = scale, delta_2
        self.integer = False

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor]:
        """Context and weights; see `lib.vit.attention.Core` for the shapes."""
        return self._integers(q, k, v, seen) if self.integer else self._floats(q, k, v, seen, eps)

    def _floats(
        self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor]:
        q, k, v = self.q(q), self.k(k), self.v(v)
        fraction = self._fraction(self.q, self.k)
        product = q @ k.transpose(-2, -1)
        n = self._scores(to_numbers(product, fraction), fraction)
        scores = straight(product * self.scale, to_float(n, SCORE, q))
        if self.delta_2 is None:
            weights = self.a(_exact(scores, seen, eps))
        else:
            soft = None
            if torch.is_grad_enabled() or self.a.calibrating:
                soft = smooth.softmax(scores, self.delta_2, seen=seen, eps=eps)
            places = self.a.fraction if soft is None else self.a.look(soft.detach())
            hard = to_float(self._weights(n, seen, places or 0), places or 0, q)
            weights = hard if soft is None else straight(soft, hard)
        return weights @ v, weights

    def _integers(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        whole_q, whole_k, whole_v = (
            part.numbers(x).long() for part, x in ((self.q, q), (self.k, k), (self.v, v))
        )
        sums = exact_matmul(whole_q, whole_k.transpose(-2, -1))
        n = self._scores(sums, self._fraction(self.q, self.k))
        places = self._fraction(self.a)
        if self.delta_2 is None:
            a = self.a.numbers(_exact(to_float(n, SCORE, q), seen, 0.0)).long()
        else:
            a = self._weights(n, seen, places)
        context = exact_matmul(a, whole_v, bits=2 * BITS + 1)
        return to_float(context, self._fraction(self.a, self.v), q), to_float(a, places, q)

    def _scores(self, sums: Tensor, fraction: int) -> Tensor:
        """Scaled sums of `fraction` bits, with SCORE bits; the scale has 12."""
        return rounded(sums * round(self.scale * 2**12), fraction + 12 - SCORE)

    def _weights(self, scores: Tensor, seen: Tensor | None, places: int) -> Tensor:
        """The polynomial softmax of scores, with `places` fraction bits, in 8 bits."""
        assert self.delta_2 is not None
        visible = None if seen is None else (seen.detach() > 0).expand_as(scores)
        return fixed.softmax(scores, self.delta_2, places, visible).clamp(max=self.a.high)

    @staticmethod
    def _fraction(*parts: Quantiser) -> int:
        return sum(part.fraction or 0 for part in parts)


def _exact(scores: Tensor, seen: Tensor | None, eps: float) -> Tensor:
    return exact_weights(scores, scores.new_ones(()) if seen is None else seen, eps).to(scores)


@dataclass(frozen=True)
class Functions:
    """The approximated functions, by their factors."""

    delta_1: float = smooth.DELTA_1
    delta_2: float = smooth.DELTA_2

    def __post_init__(self) -> None:
        smooth.checked("delta_1", self.delta_1)
        smooth.checked("delta_2", self.delta_2)


def fold_batch_norms(module: nn.Module) -> None:
    """Put every batch normalisation behind a convolution, in a sequence, into its weights."""
    for child in module.modules():
        if not isinstance(child, nn.Sequential):
            continue
        for index, (first, second) in enumerate(pairwise(list(child))):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                # requires_grad: a bias that the convolution did not have before could not be trained
                child[index] = nn.utils.fuse_conv_bn_eval(first.eval(), second.eval()).requires_grad_()
                child[index + 1] = nn.Identity()


def quantise(model: Model, images: Tensor, functions: Functions | None = None) -> Model:
    """A copy of `model`, a timm ViT or a token host around one, in simulated 8-bit fixed point.

    Args:
        images: a batch to choose the activations' fraction bits on.
        functions: compute GELU, softmax and sigmoid as HeatViT's units do; None leaves them exact, in float.

    The copy can be trained: gradients pass the rounding. Selectors' two-class softmax keeps delta_2 = 1.
    """
    from timm.layers import Attention

    changed = copy.deepcopy(model).eval()
    fold_batch_norms(changed)
    swap(changed, nn.Linear, FixedLayer)
    swap(changed, nn.Conv2d, FixedLayer)
    delta_2 = None if functions is None else functions.delta_2
    swap(changed, Attention, lambda each: CoredAttention(each, FixedCore(each.scale, delta_2)))
    if functions is not None:
        delta_1 = functions.delta_1
        swap(
            changed,
            nn.GELU,
            lambda _: FixedFunction(
                partial(smooth.gelu, delta_1=delta_1), partial(fixed.gelu, delta_1=delta_1), RESULT
            ),
        )
        for kind in (nn.Sigmoid, PlanSigmoid):
            swap(changed, kind, lambda _: FixedFunction(smooth.sigmoid, fixed.sigmoid, fixed.SIGMOID))
        swap(
            changed,
            nn.Softmax,
            lambda _: FixedFunction(partial(smooth.softmax, delta_2=1.0), _two_classes, PROBABILITY),
        )
    calibrate(changed, images)
    return changed


def _two_classes(n: Tensor) -> Tensor:
    return fixed.softmax(fixed.shifted(n, RESULT - SCORE), 1.0, PROBABILITY)


def _activations(layer: nn.Module) -> list[Quantiser]:
    """The quantisers of a layer's activations: weights are not calibrated."""
    if isinstance(layer, FixedCore):
        return [layer.q, layer.k, layer.v, layer.a]
    return [layer.inputs] if isinstance(layer, FixedLayer) else []


@torch.no_grad()
def calibrate(model: nn.Module, images: Tensor) -> None:
    """Choose the fraction bits of all activations of a quantised network anew, on `images`."""
    watched = [part for layer in model.modules() for part in _activations(layer)]
    for part in watched:
        part.calibrating = True
    model.eval()(images)
    for part in watched:
        part.calibrating = False


def to_integers(quantised: Model) -> Model:
    """A copy of a network made by `quantise` that computes in integers; it cannot be trained.

    Raises WrongUse for any other network.
    """
    if not any(isinstance(part, FixedLayer) for part in quantised.modules()):
        raise WrongUse("only a network made by quantise() can be turned to integers")
    changed = copy.deepcopy(quantised).eval()
    swap(changed, FixedLayer, IntegerLayer)
    for part in changed.modules():
        if isinstance(part, FixedFunction | FixedCore):
            part.integer = True
    return changed
