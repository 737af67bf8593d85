"""Figures of RAPQ that follow from its definitions, without training: counts, exponents, scales, levels."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hw_models import trace
from lib.cnn import rapq_released as released
from lib.cnn.quant_graph import prepare_network
from lib.cnn.quantizers import (
    Scale,
    WeightQuantizer,
    Widths,
    better_exponent,
    dequantized,
    inverse_stretched,
    search_scale,
    stretched_sigmoid,
)
from lib.cnn.rapq import bn_exponent
from lib.cnn.rapq_networks import untrained

BITS = (2, 3, 4)
CHOICE_BITS = (2, 4, 8)
COUNTED = ("resnet18", "resnet50", "mobilenet_v2", "regnetx_600m", "regnetx_3200m")
_CHANNELS, _VALUES = 64, 144


@dataclass(frozen=True)
class Counts:
    """Parameters, multiply-accumulates of convolutions and the classifier at 224x224, and those layers."""

    params: int
    macs: int
    layers: int


def counts(name: str) -> Counts:
    """Counts of the ImageNet network `name`."""
    network = untrained(name)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work = trace(network, torch.zeros(1, 3, 224, 224))
    return Counts(sum(p.numel() for p in network.parameters()), work.macs, len(layers))


def channels(generator: torch.Generator) -> Tensor:
    """Random weights of 64 channels `(64, 144)`, of scales spread over three octaves."""
    spread = torch.exp2(3 * torch.rand(_CHANNELS, 1, generator=generator) - 5)
    return spread * torch.randn(_CHANNELS, _VALUES, generator=generator)


def start_gaps(weight: Tensor, bits: int = 4) -> dict[str, float]:
    """How far the starts are from what they must reproduce: h(a_0) from r, soft weights from clipped ones."""
    quantizer = WeightQuantizer(weight, bits, "float")
    scale, zero = quantizer.scale.values()
    quantizer.learn_rounding(weight)
    clipped = ((weight / scale + zero).clamp(0, 2**bits - 1) - zero) * scale
    share = torch.linspace(0, 0.999, 500)
    return {
        "exponent": float((stretched_sigmoid(inverse_stretched(share)) - share).abs().max()),
        "rounding": float((quantizer(weight) - clipped).abs().max().detach()),
    }


def power_of_two_share(weight: Tensor, bits: int = 2) -> dict[str, float]:
    """Percent of scales that are powers of two: after hardening at random a, and in the released code."""
    scale, zero = search_scale(weight, bits)
    group = Scale("learned", bits, scale, zero)
    assert group.a is not None
    group.a.data.normal_(0, 2, generator=torch.Generator().manual_seed(0))
    group.harden()
    ours = group.values()[0]
    return {"ours": _exact(ours), "released": _exact(released.scale_after_rounding(scale))}


def exponent_departures(weight: Tensor, bits: int = 2) -> int:
    """How many hardened exponents are neither floor nor ceiling of log2 s_0."""
    scale, zero = search_scale(weight, bits)
    group = Scale("learned", bits, scale, zero)
    assert group.a is not None
    group.a.data.normal_(0, 4, generator=torch.Generator().manual_seed(1))
    group.harden()
    assert group.exponent is not None
    logs = torch.log2(scale)
    return int(((group.exponent != torch.floor(logs)) & (group.exponent != torch.floor(logs) + 1)).sum())


def levels(weight: Tensor, bits: int = 2) -> dict[str, int]:
    """Most distinct values of a channel: with an integer zero point, and with the released fractional one."""
    quantizer = WeightQuantizer(weight, bits, "nearest")
    return {
        "ours": released.most_levels(quantizer(weight).detach()),
        "released": released.most_levels(released.values_with_fractional_zero(weight, bits)),
    }


def doubling(bits: int = 4) -> tuple[float, float]:
    """Quotients of step and of range between exponents e + 1 and e."""
    fine = torch.linspace(-100, 100, 40001)
    zero = torch.tensor(2.0 ** (bits - 1))
    found = [torch.unique(dequantized(fine, torch.tensor(2.0**e), zero, 2**bits)) for e in (-1, 0)]
    steps = [float(values[1] - values[0]) for values in found]
    ranges = [float(values[-1] - values[0]) for values in found]
    return steps[1] / steps[0], ranges[1] / ranges[0]


def source_errors(generator: torch.Generator, values: int = 20_000) -> dict[str, dict[int, dict[int, float]]]:
    """Mean squared error over variance of Gaussian and Laplace values, by bits and exponent -5 to 2."""
    gauss = torch.randn(values, generator=generator)
    signs = torch.where(torch.rand(values, generator=generator) < 0.5, -1.0, 1.0)
    laplace = signs * torch.empty(values).exponential_(1.0, generator=generator) / 2**0.5
    return {
        name: {bits: {e: _error(source, bits, e) for e in range(-5, 3)} for bits in BITS}
        for name, source in (("gaussian", gauss), ("laplace", laplace))
    }


def nearest_misses(weight: Tensor, bits: int) -> float:
    """Percent of channels in which the nearest power of two is not the better neighbour by squared error."""
    scale, zero = search_scale(weight, bits)
    nearest = torch.floor(torch.log2(scale) + 0.5)
    return 100 * float((nearest != better_exponent(weight, scale, zero, bits)).double().mean())


def exponents(gammas: Mapping[str, Tensor | None], c: float) -> dict[str, float]:
    """p of every unit, from the scales `gammas` of the BN that closes it."""
    return {name: bn_exponent(gamma, c) for name, gamma in gammas.items()}


def exponent_count(name: str) -> int:
    """Units of the ImageNet network `name` that a BN closes, so that the rule gives them an exponent."""
    network = prepare_network(untrained(name), Widths.named("w32a32"), "float", torch.zeros(1, 3, 64, 64))
    return sum(unit.closing_gamma is not None for unit in network.units())


def exponent_range(c: float) -> tuple[float, float]:
    """Least and greatest p over BN scales with a sum above 1, of means 0.01 to 4 in 16 to 2048 channels."""
    found = [
        bn_exponent(torch.full((size,), mean), c)
        for size in (16, 64, 512, 2048)
        for mean in (0.01, 0.1, 0.5, 1.0, 2.0, 4.0)
        if size * mean > 1
    ]
    return min(found), max(found)


def _error(source: Tensor, bits: int, exponent: int) -> float:
    scale = torch.tensor(2.0**exponent)
    zero = torch.tensor(2.0 ** (bits - 1))
    return float(
        (dequantized(source, scale, zero, 2**bits) - source).square().mean() / source.square().mean()
    )


def _exact(scale: Tensor) -> float:
    return 100 * float((torch.exp2(torch.round(torch.log2(scale))) == scale).double().mean())
