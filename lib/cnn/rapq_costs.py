"""What powers of two save: multiplications of rescaling, bytes, and modelled latency and energy."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from hw_models import compare, load_device, trace
from hw_models.technology import load_technology
from lib.cnn.quant_graph import QuantLayer, QuantNetwork
from lib.cnn.quantizers import ActivationQuantizer, Widths
from lib.lab.measure import latencies

PHONE, BOARD = "snapdragon_855_cpu", "zcu102"
TECHNOLOGY = "cmos_45nm"
_NARROWEST = {PHONE: 16, BOARD: 2}
"""Fewest bits of arithmetic that the device files know of."""


@dataclass(frozen=True)
class Rescaling:
    """Operations of one image: products of layers, and rescalings at quantizers; both for one image."""

    macs: int
    rescalings: int
    """Each is a multiplication with scales of any size and a shift with powers of two."""

    @property
    def share(self) -> float:
        """Percent of all multiplications that powers of two turn into shifts."""
        return 100 * self.rescalings / (self.macs + self.rescalings)

    @property
    def energy_ratio(self) -> float:
        """Energy of the arithmetic with shifts over that with multiplications: 8-bit products, 32-bit
        rescaling.

        A shift counts as an addition of 32 bits, which is more than it takes."""
        technology = load_technology(TECHNOLOGY)
        products = self.macs * technology.multiply_add(8, floating=False).value
        shifts = self.rescalings * technology.addition(32, floating=False).value
        multiplications = self.rescalings * technology.multiply_add(32, floating=False).value
        return (products + shifts) / (products + multiplications)


@torch.no_grad()
def rescalings(network: QuantNetwork, image: Tensor) -> Rescaling:
    """Counts of `network` for `image (1, channels, height, width)`, by running it once."""
    macs, elements = 0, 0

    def note(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, elements
        if isinstance(module, QuantLayer):
            macs += output.numel() * module.layer.weight[0].numel()
        else:
            elements += output.numel()

    hooks = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, QuantLayer | ActivationQuantizer)
    ]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return Rescaling(macs, elements)


def modelled(model: nn.Module, image: Tensor, widths: Widths) -> dict[str, float]:
    """Latency and energy of `model` at `widths` over those at 16 bits, on a phone and an FPGA; 1 is no gain.

    The phone's file knows no arithmetic below 16 bits: there only the bytes of the weights shrink.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work = trace(model, image)
    result = {}
    for name, narrowest in _NARROWEST.items():
        narrow = work.at_bits(weight=widths.weights, activation=max(widths.activations, narrowest))
        before, after = compare([work.at_bits(16), narrow], load_device(name))
        result[f"latency {name}"] = after.latency_ms / before.latency_ms
        result[f"energy {name}"] = after.energy.total.value / before.energy.total.value
    return result


def latencies_here(model: nn.Module, image: Tensor, batches: Sequence[int] = (1, 32)) -> dict[str, float]:
    """Milliseconds an image of the float `model` on this machine, at each of `batches`."""
    contenders = {
        f"batch {size}": partial(model, image.expand(size, *image.shape[1:]).contiguous()) for size in batches
    }
    found = latencies(contenders, rounds=3, burst_s=0.1)
    return {name: 1e3 * found[name].minimum_s / size for name, size in zip(found, batches, strict=True)}


def weight_bytes(network: QuantNetwork) -> tuple[float, float]:
    """Bytes of the weights in 32 bits, and as they are quantized, with one byte of exponent for each
    output.
    """
    full, narrow = 0.0, 0.0
    for layer in network.layers:
        weight = layer.layer.weight
        bits = layer.quantizer.bits if layer.quantizer else 32
        full += 4 * weight.numel()
        narrow += weight.numel() * bits / 8 + len(weight)
    return full, narrow
