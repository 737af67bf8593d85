"""Inference with integers alone: every tensor is integers times powers of two, and every rescaling is a
shift.

Between layers stand the integers q - z of the quantizers. A layer multiplies them with the integers of its
weights and adds up; nothing else multiplies. Scales never appear: their exponents add, and a quantizer shifts
by the difference of two of them, adds z, and clips. tests/cnn/test_integer_inference.py holds the results
equal, bit for bit, to the network simulated in floating point.
"""

import copy
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from lib.cnn.quant_graph import QuantLayer, QuantNetwork, SumPool, apply_layer, bias_exponent
from lib.cnn.quantizers import FLOAT, ActivationQuantizer
from lib.errors import ReproError

_RELU6_TOP = 6


@dataclass(frozen=True)
class Dyadic:
    """Numbers `integers * 2^exponent`: int64 integers, and integer exponents that broadcast with them."""

    integers: Tensor
    exponent: Tensor

    def at(self, exponent: Tensor) -> Tensor:
        """The integers at a smaller or equal exponent, by a shift to the left."""
        return self.integers << (self.exponent - exponent)

    def __add__(self, other: "Dyadic") -> "Dyadic":
        exponent = torch.minimum(self.exponent, other.exponent)
        return Dyadic(self.at(exponent) + other.at(exponent), exponent)

    def rounded(self, exponent: int) -> Tensor:
        """The integers at any exponent; bits that are shifted out round half up."""
        right = exponent - self.exponent
        half = torch.where(right > 0, torch.ones_like(right) << (right - 1).clamp(min=0), 0)
        return torch.where(
            right > 0, (self.integers + half) >> right.clamp(min=0), self.integers << (-right).clamp(min=0)
        )

    def clamp(self, low: int, high: int | None) -> "Dyadic":
        """Limited to whole numbers `low` and `high`, exactly: first at an exponent of at most 0."""
        exponent = self.exponent.clamp(max=0)
        integers = self.at(exponent).clamp(min=low)  # low is 0 here, at every exponent
        if high is not None:
            integers = torch.minimum(integers, torch.tensor(high) << -exponent)
        return Dyadic(integers, exponent)

    def common(self) -> "Dyadic":
        """With one exponent for all."""
        exponent = self.exponent.min()
        return Dyadic(self.at(exponent), exponent)

    def real(self) -> Tensor:
        """As float64, exactly while the integers stay below 2^53."""
        return self.integers.double() * torch.exp2(self.exponent.double())


class _IntegerPass(fx.Interpreter):
    """Runs one unit on Dyadic values."""

    def call_module(self, target: Any, arguments: Any, options: Any) -> Dyadic:
        module, (x, *_) = self.fetch_attr(target), arguments
        match module:
            case QuantLayer():
                return _layer(module, x)
            case ActivationQuantizer():
                return _quantize(module, x)
            case nn.ReLU6():
                return x.clamp(0, _RELU6_TOP)
            case nn.ReLU():
                return x.clamp(0, None)
            case SumPool():
                return Dyadic(x.integers.sum((2, 3)), x.exponent.min())
            case nn.MaxPool2d():
                largest = nn.functional.max_pool2d(
                    x.integers.double(), module.kernel_size, module.stride, module.padding
                )  # of integers far below 2^53; torch pools no int64
                return Dyadic(largest.to(torch.int64), x.exponent)
        raise ReproError(f"{target} is a {type(module).__name__}: no integer form of it is known")

    def call_function(self, target: Any, arguments: Any, options: Any) -> Dyadic:
        if target is not operator.add:
            raise ReproError(f"{target} has no integer form")
        first, second = arguments
        total: Dyadic = first + second
        return total


@torch.no_grad()
def integer_logits(network: QuantNetwork, images: Tensor) -> Tensor:
    """Logits `(batch, classes)` of `images`, as float64, computed with integers.

    The image itself enters as a fixed-point number of 30 fraction bits, ahead of the first quantizer.

    Raises:
        ReproError: a scale is no power of two, or a part of the network is not quantized.
    """
    value = Dyadic(torch.floor(images.double() * 2.0**30 + 0.5).to(torch.int64), torch.tensor(-30))
    for unit in network.units():
        value = _IntegerPass(unit.graph).run(value)
    return value.real()


def integer_gap(network: QuantNetwork, images: Tensor) -> float:
    """Largest difference between the logits of integers and those of the simulated network in float64."""
    exact = copy.deepcopy(network).cpu().double()
    for layer in exact.layers:
        if layer.frozen is not None:
            weight, bias = layer.frozen
            layer.frozen = (weight.cpu().double(), None if bias is None else bias.cpu().double())
    images = images.cpu().double()
    with torch.no_grad():
        return float((integer_logits(exact, images) - exact(images)).abs().max())


def _layer(layer: QuantLayer, x: Dyadic) -> Dyadic:
    if layer.quantizer is None or layer.frozen is None:
        raise ReproError(f"the weights of {layer.name} are not quantized; reconstruct the network first")
    x = x.common()
    weight, exponent = layer.quantizer.integers(layer.layer.weight)
    shape = (1, -1) + (1,) * (x.integers.dim() - 2)
    total = Dyadic(apply_layer(layer.layer, x.integers, weight, None), (exponent + x.exponent).view(shape))
    bias, wide = layer.frozen[1], layer.layer.bias
    if bias is None or wide is None:
        return total
    power = bias_exponent(wide)
    whole = torch.floor(bias / torch.exp2(power) + 0.5).to(torch.int64)
    return total + Dyadic(whole.view(shape), power.to(torch.int64))


def _quantize(quantizer: ActivationQuantizer, x: Dyadic) -> Dyadic:
    if quantizer.t is None or quantizer.kind == "float" or quantizer.bits == FLOAT:
        raise ReproError(
            f"the activations at {quantizer.name} have no power-of-two scale: quantize them with nearest, "
            "local or learned scales"
        )
    scale, zero = quantizer.values()
    exponent = int(torch.log2(scale))
    q = (x.rounded(exponent) + int(zero)).clamp(0, 2**quantizer.bits - 1)
    return Dyadic(q - int(zero), torch.tensor(exponent))
