"""The article's comparison rebuilt from models: phone against FPGA, network by network and number format.

A phone runs what its runtimes run: 16-bit floating point, operations fused. An FPGA runs the fastest engine
that fits it, one for each number format. Energy is power under load times time on both sides, as in the article.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hw_models import Estimate, Workload, best_design, estimate, fused, load_device
from hw_models.block_speedup import BlockSpeedup, Design, block_speedup, resnet18
from hw_models.calibrate import FITTED_NETWORKS, RuntimeFit, fit_runtimes, phone_points
from hw_models.resources import Arithmetic
from hw_models.search import COARSE
from hw_models.span import Span
from hw_models.sparse_array import PEArray
from lib.errors import WrongUse

PHONE = "adreno_650"


@dataclass(frozen=True)
class Format:
    """Numbers that an engine multiplies: bits of activations and of weights, and how it multiplies them."""

    name: str
    activation_bits: int
    weight_bits: int
    arithmetic: Arithmetic
    packing: bool = False


FORMATS = {
    each.name: each
    for each in (
        Format("float32", 32, 32, "float"),
        Format("float16", 16, 16, "float"),
        Format("fixed16", 16, 16, "fixed"),
        Format("fixed8", 8, 8, "fixed", packing=True),
        Format("power_of_two", 8, 4, "power_of_two"),
        Format("binary", 8, 1, "binary"),
    )
}
"""Activations keep 8 bits where weights are powers of two or binary."""


@dataclass(frozen=True)
class Choice:
    """A platform and how it computes: a runtime on the phone's GPU or CPU, or a number format on an FPGA."""

    name: str
    device: str
    how: str

    @property
    def is_phone(self) -> bool:
        return self.how not in FORMATS


@dataclass(frozen=True)
class Modelled:
    """One network on one platform."""

    network: str
    choice: Choice
    estimate: Estimate

    @property
    def latency_ms(self) -> Span:
        return self.estimate.latency

    @property
    def energy_mj(self) -> Span:
        """An image, power under load times time."""
        return self.estimate.load_energy_mj


def phone_choices() -> tuple[Choice, ...]:
    """The runtimes that the model was fitted to on the phone's GPU, and its CPU."""
    runtimes = {"mnn": "MNN", "tvm": "TVM", "tflite": "TF-Lite", "own": "authors' compiler"}
    gpu = tuple(Choice(f"phone GPU, {title}", PHONE, name) for name, title in runtimes.items())
    return (*gpu, Choice("phone CPU", "snapdragon_865_cpu", "cpu"))


def fpga_choices(devices: Iterable[str], formats: Iterable[str]) -> tuple[Choice, ...]:
    """Every device in every number format. Raises WrongUse for an unknown format."""
    names = list(formats)
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise WrongUse(f"unknown number format {', '.join(unknown)}; choose from {', '.join(FORMATS)}")
    return tuple(Choice(f"{device}, {name}", device, name) for device in devices for name in names)


def runtime_fit(networks: Mapping[str, Workload], without: str = "") -> RuntimeFit:
    """The phone model fitted to the published latencies of the networks it is fitted to, one left out at will."""
    ready = {name: fused(work.at_bits(16)) for name, work in networks.items() if name in FITTED_NETWORKS}
    points = [point for point in phone_points(ready, PHONE) if point.network != without]
    return fit_runtimes(points, ready, load_device(PHONE))


def model(network: str, workload: Workload, choice: Choice, fit: RuntimeFit) -> Modelled:
    """`workload` on a platform: latency, power and energy, each with its range."""
    device = load_device(choice.device)
    if choice.is_phone:
        ready = fused(workload.at_bits(16))
        if choice.how in fit.utilisation:
            device = fit.device(device, choice.how)
        return Modelled(network, choice, estimate(ready, device))
    numbers = FORMATS[choice.how]
    stored = workload.at_bits(weight=numbers.weight_bits, activation=numbers.activation_bits)
    design = best_design(
        stored,
        device,
        bits=numbers.activation_bits,
        grid=COARSE,
        packing=numbers.packing,
        arithmetic=numbers.arithmetic,
    )
    return Modelled(network, choice, estimate(stored, device, design=design))


def turning_factor(fpga: Modelled, phone: Modelled) -> Span:
    """How many times more energy an image takes on the FPGA: by so much one side must change for a tie."""
    return fpga.energy_mj / phone.energy_mj


def phone_losing_share(modelled: Modelled, utilisation: float, rival_mj: float) -> float:
    """Share of its peak below which the phone takes more energy than `rival_mj`, at the same power.

    Scales the time that arithmetic takes; the rest of the time stays."""
    layers = modelled.estimate.layers
    compute = sum(layer.compute_ms for layer in layers)
    rest = modelled.estimate.latency_ms - compute
    allowed = rival_mj / modelled.energy_mj.value * modelled.estimate.latency_ms - rest
    return float("inf") if allowed <= 0 else utilisation * compute / allowed


BLOCKS: dict[str, tuple[int, int] | None] = {
    "1": (1, 1),
    "16": (16, 16),
    "32": (32, 32),
    "64": (64, 64),
    "matrix": None,
}
"""Block sizes of Fig 9, filters x channels."""


def block_speedups(rate: float, seed: int, design: Design | None = None) -> dict[str, BlockSpeedup]:
    """ResNet-18 pruned `rate` times in blocks of each size of Fig 9, on an array like CSB-RNN's.

    By default two copies of 4 x 4 groups of 8 x 8 multipliers at 200 MHz with the board's bandwidth."""
    board = load_device("zcu102")
    design = design or Design(
        PEArray(4, 4, 8, 8), copies=2, clock_mhz=200, bandwidth_gbs=board.need("bandwidth").value
    )
    return {
        name: block_speedup(resnet18(), block, rate, design, np.random.default_rng(seed))
        for name, block in BLOCKS.items()
    }
