"""The article's comparison rebuilt from models: phone against FPGA, network by network and number format.

A phone runs what its runtimes run: 16-bit floating point, operations fused. An FPGA runs the fastest engine
that fits it, one for each number format. Energy is power under load times time on both sides, as in the
article. No latency of a network enters the fit that predicts this network. The checks of the models against
FPGA designs, block pruning and HeatViT's transformers are here as well.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch

from hw_models import Device, Estimate, Workload, best_design, estimate, fused, load_device
from hw_models.block_speedup import ArrayDesign, BlockSpeedup, block_speedup, packed_array, resnet18
from hw_models.calibrate import FITTED_NETWORKS, RuntimeFit, fit_runtimes, phone_points, predict
from hw_models.comparison import Comparison
from hw_models.heatvit import DEITS, RECALLED_MHZ, HeatVit, at_clock, rebuild
from hw_models.reference_points import PhonePoint, SurveyPoint, points
from hw_models.resources import Arithmetic
from hw_models.search import COARSE
from hw_models.span import Span
from hw_models.validate import vgg16_rate
from lib.errors import WrongUse
from lib.hardware import consistency
from lib.hardware.networks import TIMM_NAMES
from lib.lab.measure import Latency, latencies

PHONE = "adreno_650"
REFERENCE = "mnn"
"""Runtime on the phone that the article compares FPGAs with."""
NETWORKS = ("vgg16", "resnet18", "mobilenet_v2", "resnet50")
BOARDS = ("zcu102", "xc7z020", "xc7z045")
"""Networks and FPGAs that the card's claims are judged on."""


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
UNQUANTISED = ("float32", "float16", "fixed16")
"""16 bits count as unquantised, as in the article's comparison of VGG-16."""


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

    @property
    def gops_per_w(self) -> float:
        return self.estimate.gops_per_w.value


# --- the article's arithmetic, by the names of the card


def operation_count_spread() -> float:
    """Greatest relative difference between the phone's operation counts of one network."""
    spread = 0.0
    rows = [row for row in consistency.operation_counts() if row.platform == "phone"]
    for network in {row.network for row in rows}:
        counts = [row.gop for row in rows if row.network == network]
        spread = max(spread, max(counts) / min(counts) - 1)
    return spread


def normalised_rates() -> dict[str, float]:
    """Multiply-accumulates per slice and cycle of the two 16-bit designs of VGG-16 that are one architecture,
    and the lowest and highest of all classification designs."""
    rows = [row for row in consistency.normalised_rates() if row.task == "classification"]
    shares = {row.design: row.share for row in rows}
    same = {row.device: row.design for row in points("fpga_survey", "seen") if _is_16_bit_vgg16(row)}
    return {
        **{f"vgg16_{device}": shares[design] for device, design in same.items()},
        "lowest": min(shares.values()),
        "highest": max(shares.values()),
    }


def fpga_frames() -> dict[str, float]:
    """Lowest and highest frames/s/W of VGG-16 on FPGAs, from GOP/s/W and the phone's operation count."""
    counts = [row.gop for row in consistency.operation_counts() if row.network == "vgg16"]
    return dict(
        zip(
            ("lowest", "highest"),
            consistency.fpga_frame_range("vgg16", sum(counts) / len(counts)),
            strict=True,
        )
    )


# --- phone against FPGA, modelled


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
    """The phone model fitted to published latencies of `FITTED_NETWORKS`, one of them left out at will."""
    ready = _ready({name: work for name, work in networks.items() if name in FITTED_NETWORKS})
    known = [point for point in phone_points(ready, PHONE) if point.network != without]
    return fit_runtimes(known, ready, load_device(PHONE))


def fits_without(networks: Mapping[str, Workload]) -> dict[str, RuntimeFit]:
    """For every network the fit that has not seen it; those that are never fitted to share one."""
    every = runtime_fit(networks)
    return {name: runtime_fit(networks, name) if name in FITTED_NETWORKS else every for name in networks}


def runtime_predictions(
    networks: Mapping[str, Workload], fits: Mapping[str, RuntimeFit]
) -> dict[PhonePoint, Comparison]:
    """Every published dense latency beside what the fit without its network predicts."""
    ready, device = _ready(networks), load_device(PHONE)
    return {
        point: Comparison(
            f"{point.network}, {point.framework}",
            predict(point, fits[point.network], ready, device),
            point.value,
            "ms",
            "left out",
            point.confidence,
        )
        for point in phone_points(ready, PHONE)
    }


def vgg16_rates(network: Workload) -> dict[str, Comparison]:
    """GOP/s of VGG-16 on slices and clock of the two 16-bit designs of one architecture, by device."""
    return {
        row.device: vgg16_rate(row, network) for row in points("fpga_survey", "seen") if _is_16_bit_vgg16(row)
    }


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


def experiment(networks: Mapping[str, Workload], fits: Mapping[str, RuntimeFit]) -> tuple[Modelled, ...]:
    """Every network on the phone, with the fit that has not seen it, and on every board in every format."""
    choices = (*phone_choices(), *fpga_choices(BOARDS, FORMATS))
    return tuple(
        model(name, work, choice, fits[name]) for name, work in networks.items() for choice in choices
    )


def chosen(
    results: Iterable[Modelled], networks: Sequence[str], fpgas: Sequence[str], formats: Sequence[str]
) -> list[Modelled]:
    """Of the results those of some networks: on the phone, and on some FPGAs in some formats."""
    return [
        result
        for result in results
        if result.network in networks
        and (result.choice.is_phone or (result.choice.device in fpgas and result.choice.how in formats))
    ]


def best_fpga(results: Iterable[Modelled], network: str, formats: Sequence[str]) -> Modelled:
    """The FPGA that takes the least energy an image of `network` in any of `formats`.

    Raises WrongUse if the results hold none."""
    found = [each for each in results if each.network == network and each.choice.how in formats]
    if not found:
        raise WrongUse(f"no FPGA was modelled for {network} in {', '.join(formats)}")
    return min(found, key=lambda each: each.energy_mj.value)


def on_phone(results: Iterable[Modelled], network: str, runtime: str = REFERENCE) -> Modelled:
    """`network` on the phone under `runtime`."""
    return next(each for each in results if (each.network, each.choice.how) == (network, runtime))


def efficiencies(results: Sequence[Modelled]) -> dict[str, float]:
    """Modelled GOP/s/W by name: `<network>_<runtime>` on the phone, `<network>_<device>_<format>` on an FPGA,
    `<network>_fpga_<format>` on the best FPGA, `<network>_fpga_unquantised` on the best at 16 or 32 bits."""
    found = {
        f"{each.network}_{each.choice.how}"
        if each.choice.is_phone
        else f"{each.network}_{each.choice.device}_{each.choice.how}": each.gops_per_w
        for each in results
    }
    groups = {name: (name,) for name in FORMATS} | {"unquantised": UNQUANTISED}
    for network in dict.fromkeys(each.network for each in results):
        for name, formats in groups.items():
            found[f"{network}_fpga_{name}"] = best_fpga(results, network, formats).gops_per_w
    return found


def phone_over_fpga(results: Sequence[Modelled]) -> dict[str, float]:
    """Operations per joule on the phone over those on the best FPGA: of the least and most efficient runtime
    that the article compares, against unquantised designs of VGG-16 and 8-bit designs of MobileNetV2."""
    rivals = {"vgg16": UNQUANTISED, "mobilenet_v2": ("fixed8",)}
    return {
        f"{network}_{end}": on_phone(results, network, runtime).gops_per_w
        / best_fpga(results, network, formats).gops_per_w
        for network, formats in rivals.items()
        for end, runtime in (("low", "tflite"), ("high", REFERENCE))
    }


def fpga_wins(results: Sequence[Modelled], formats: Sequence[str]) -> list[str]:
    """Networks of which an FPGA in one of `formats` takes less energy an image than the phone."""
    networks = dict.fromkeys(each.network for each in results)
    return [
        name
        for name in networks
        if best_fpga(results, name, formats).energy_mj.value < on_phone(results, name).energy_mj.value
    ]


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


TITLES = {
    "vgg16": "VGG-16",
    "resnet18": "ResNet-18",
    "mobilenet_v2": "MobileNetV2",
    "resnet50": "ResNet-50",
    "deit_tiny": "DeiT-T",
    "deit_small": "DeiT-S",
    "deit_base": "DeiT-B",
}


# --- block pruning, Fig 9

BLOCKS: dict[str, tuple[int, int] | None] = {
    "1": (1, 1),
    "16": (16, 16),
    "32": (32, 32),
    "64": (64, 64),
    "matrix": None,
}
"""Block sizes of Fig 9, filters x channels."""
RATE = 6.0
"""Its pruning rate."""


def block_speedups(rate: float, seed: int, design: ArrayDesign | None = None) -> dict[str, BlockSpeedup]:
    """ResNet-18 pruned `rate` times in blocks of each size of Fig 9, by default on `packed_array`."""
    design = design or packed_array(load_device("zcu102").need("bandwidth").value)
    return {
        name: block_speedup(resnet18(), block, rate, design, np.random.default_rng(seed))
        for name, block in BLOCKS.items()
    }


def published_blocks(quantity: Literal["speedup", "top1_percent"]) -> dict[str, float]:
    """What Fig 9 shows of each block size, read off the axes."""
    rows = [dict(row) for row in points("block_speedup_zcu102", "seen")]
    values = {row["block"] or "matrix": float(row[quantity]) for row in rows}
    return {name: values[name] for name in BLOCKS}


# --- HeatViT


def heatvit(networks: Mapping[str, Workload], mhz: float) -> dict[str, HeatVit]:
    """HeatViT's design for every network, rebuilt at a clock; assumptions in `hw_models.heatvit`."""
    board = at_clock(load_device("zcu102"), mhz)
    return {name: rebuild(network, board) for name, network in networks.items()}


def heatvit_metrics(
    listed: Mapping[str, HeatVit], slow: Mapping[str, HeatVit]
) -> dict[str, tuple[float, str]]:
    """Value and unit by name of all that the card compares, at the listed and at the recalled clock."""
    speedup = [each.speedup for each in listed.values()]
    pruning = [each.pruning_speedup for each in listed.values()]
    return {
        **{f"latency_{name}": (each.pruned_8.latency_ms, "ms") for name, each in listed.items()},
        **{
            f"latency_{name}_{RECALLED_MHZ:.0f}": (each.pruned_8.latency_ms, "ms")
            for name, each in slow.items()
        },
        "speedup_lowest": (min(speedup), "x"),
        "speedup_highest": (max(speedup), "x"),
        "pruning_lowest": (min(pruning), "x"),
        "pruning_highest": (max(pruning), "x"),
    }


def heatvit_published() -> dict[str, tuple[float, str]]:
    """Published figure and its confidence by the names of `heatvit_metrics`, where there is one."""
    found: dict[str, tuple[float, str]] = {}
    for row in points("heatvit"):
        network = DEITS.get(row.network)
        if row.quantity == "speedup":
            name = "speedup" if row.variant == "pruned_8bit_over_dense" else "pruning"
            found[f"{name}_lowest"], found[f"{name}_highest"] = (
                (row.low, row.confidence),
                (row.high, row.confidence),
            )
        elif row.quantity == "latency" and network:
            found[f"latency_{network}"] = row.value, row.confidence
            # The latency was seen, but not beside this clock.
            found[f"latency_{network}_{RECALLED_MHZ:.0f}"] = row.value, "recalled"
        elif (row.quantity, row.variant) == ("frame_rate", "pruned_8bit") and network:
            found.setdefault(f"latency_{network}_{RECALLED_MHZ:.0f}", (1e3 / row.value, row.confidence))
    return found


def packed_peak_share(macs: float, latency_ms: float, board: Device, mhz: float) -> float:
    """Share of two multiply-accumulates a slice and cycle that `macs` in `latency_ms` are."""
    peak = 2 * board.need_fabric("dsp").value * mhz * 1e6
    return macs / (latency_ms / 1e3) / peak


# --- this machine


def host_latencies(names: Sequence[str], batch: int, device: torch.device) -> dict[str, dict[str, Latency]]:
    """Latency here in float32, a batch at a time: title -> name -> latency, for one image and for `batch`."""
    import timm

    nets = {name: timm.create_model(TIMM_NAMES[name]).to(device).eval() for name in names}
    found = {}
    for size in (1, batch):
        images = torch.zeros(size, 3, 224, 224, device=device)
        calls: dict[str, Callable[[], object]] = {
            name: partial(_finished, net, images) for name, net in nets.items()
        }
        found[f"batch {size}"] = latencies(calls, rounds=5, burst_s=0.1)
    return found


def relative_costs(
    results: Sequence[Modelled], measured: Mapping[str, Mapping[str, Latency]], light: str, heavy: str
) -> dict[str, float]:
    """`light` over `heavy` by kind of cost: operations, modelled latency, latency measured here."""
    kinds = {"phone GPU": REFERENCE, "ZCU102": "fixed8"}
    pairs = {
        title: [
            next(
                r.estimate
                for r in results
                if (r.network, r.choice.how) == (name, how) and r.choice.device in (PHONE, "zcu102")
            )
            for name in (light, heavy)
        ]
        for title, how in kinds.items()
    }
    macs = [pair.macs for pair in pairs["phone GPU"]]
    return {
        "operations": macs[0] / macs[1],
        **{title: pair[0].latency_ms / pair[1].latency_ms for title, pair in pairs.items()},
        **{
            f"{title} here": times[light].minimum_s / times[heavy].minimum_s
            for title, times in measured.items()
        },
    }


def _finished(net: torch.nn.Module, images: torch.Tensor) -> object:
    """The network's answer, waited for where the device works on its own."""
    return net(images).sum().item()


def _is_16_bit_vgg16(row: SurveyPoint) -> bool:
    return row.network == "vgg16" and row.weight_bits == 16


def _ready(networks: Mapping[str, Workload]) -> dict[str, Workload]:
    """The networks as a phone's runtimes run them."""
    return {name: fused(work.at_bits(16)) for name, work in networks.items()}
