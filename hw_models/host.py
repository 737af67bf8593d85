"""The machine this runs on as a device: measured, never guessed.

Linear layers, convolutions, additions of several sizes and a chain of tiny modules, each timed by itself,
give the constants of the roofline in `mobile.py`. No network is among them, so that networks remain a test.
Weights are cold, as in a network larger than the caches: each call uses another copy of its layer. PyTorch
is the library that is measured, in 32-bit floating point, with the threads that it is set to use.
"""

import copy
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import nn

from hw_models.device import Cache, Device
from hw_models.fusion import fused
from hw_models.mobile import layer_estimates
from hw_models.quantity import Quantity
from hw_models.span import Span
from hw_models.trace import trace
from hw_models.workload import Workload

VECTOR = 16
"""Channels to which CPU libraries round up: 16 numbers fill the longest vectors in use."""
WORKING_SETS_KIB = (128, 512, 2048, 8192, 24576, 131072)
"""Of the additions; the last is taken to lie in main memory."""
CHAIN = 64
"""Tiny modules in a row."""
COLD_BYTES = 2**26
"""Weights of all copies of a layer together: more than a cache holds."""
MOST_COPIES = 64
PRODUCTS = (
    (1, 512, 512),
    (16, 256, 1024),
    (64, 1024, 64),
    (128, 64, 512),
    (256, 512, 256),
    (512, 1024, 1024),
)
"""Rows, depth and columns."""
CONVOLUTIONS = (
    (32, 32, 56, 3, 1),
    (64, 64, 28, 3, 1),
    (256, 256, 14, 3, 1),
    (512, 512, 7, 3, 1),
    (64, 256, 28, 1, 1),
    (512, 128, 14, 1, 1),
    (96, 96, 56, 3, 96),
    (384, 384, 14, 3, 384),
)
"""Channels in and out, side, kernel, groups."""


@dataclass(frozen=True)
class Timed:
    """A measured operation."""

    name: str
    workload: Workload
    seconds: float


def least_seconds(call: Callable[[], object], *, rounds: int = 7, burst_s: float = 0.03) -> float:
    """The least time of one call, over bursts: what the machine can do when nobody disturbs it."""
    call()
    best = float("inf")
    for _ in range(rounds):
        until = time.perf_counter() + burst_s
        while True:
            start = time.perf_counter()
            call()
            end = time.perf_counter()
            best = min(best, end - start)
            if end >= until:
                break
    return best


@torch.inference_mode()
def measure_host(report: Callable[[str], None] = lambda line: None) -> Device:
    """This machine as a device called `host`, from about ten seconds of measurements.

    `report` is told each result."""
    chain = nn.Sequential(*(nn.ReLU() for _ in range(CHAIN)))
    launch = least_seconds(partial(chain, torch.zeros(1))) / CHAIN
    report(f"launch {1e6 * launch:.2f} us")
    bandwidths = []
    for size in WORKING_SETS_KIB:
        # Half of the working set is read and half written, in numbers of 4 bytes.
        operand = torch.zeros(size * 128)
        result = torch.empty_like(operand)  # a large new one would measure how the system hands out pages
        taken = least_seconds(partial(torch.add, operand, 1.0, out=result))
        bandwidths.append(size * 1024 / max(taken - launch, 1e-9))
        report(f"addition within {size} KiB: {bandwidths[-1] / 1e9:.1f} GB/s")
    timed = [_timed(name, module, inputs) for name, module, inputs in _probes()]
    for each in timed:
        report(f"{each.name}: {2 * each.workload.macs / each.seconds / 1e9:.1f} GOP/s")
    peak = max(2 * each.workload.macs / each.seconds for each in timed)
    # A smaller working set never moves more slowly; where it seemed to, the clock or a neighbour interfered.
    bandwidths = list(np.maximum.accumulate(bandwidths[::-1])[::-1])
    bare = Device(
        name="host",
        title=f"{platform.machine()}, PyTorch {torch.__version__}, {torch.get_num_threads()} thread(s)",
        kind="cpu",
        bandwidth=_measured(bandwidths[-1] / 1e9, "GB/s"),
        launch=_measured(launch * 1e6, "us"),
        peak={32: _measured(peak / 1e9, "GOP/s")},
        utilisation=_measured(1.0, "fraction"),
        vector=Quantity(
            value=VECTOR, unit="count", confidence="assumed", low=4, high=64, basis="strips of CPU kernels"
        ),
        half_outputs=_measured(1.0, "count"),
        half_depth=_measured(1.0, "count"),
        caches=[
            Cache(capacity=_measured(size, "KiB"), bandwidth=_measured(speed / 1e9, "GB/s"))
            for size, speed in zip(WORKING_SETS_KIB[:-1], bandwidths[:-1], strict=True)
        ],
    )
    return fit_shapes(bare, timed)


def fit_shapes(device: Device, timed: Sequence[Timed]) -> Device:
    """`device` with the utilisation, `half_outputs` and `half_depth` that fit the timed operations best.

    Least squared logarithmic errors, less weight for the far ones."""

    def shaped(x: np.ndarray) -> Device:
        utilisation, outputs, depth = (float(value) for value in np.exp(x))
        return device.model_copy(
            update={
                "utilisation": _measured(min(1.0, utilisation), "fraction"),
                "half_outputs": _measured(outputs, "count"),
                "half_depth": _measured(depth, "count"),
            }
        )

    def errors(x: np.ndarray) -> list[float]:
        candidate = shaped(x)
        return [float(np.log(seconds(each.workload, candidate) / each.seconds)) for each in timed]

    low, high = np.log([0.05, 1e-2, 1e-2]), np.log([1.0, 1e6, 1e3])
    found = least_squares(errors, np.log([0.8, 100.0, 8.0]), bounds=(low, high), loss="soft_l1", f_scale=0.3)
    return shaped(found.x)


def seconds(workload: Workload, device: Device, batch: int = 1) -> float:
    """Modelled seconds of a workload."""
    return 1e-3 * Span.sum(x.latency for x in layer_estimates(workload, device, batch)).value


def _probes() -> Iterable[tuple[str, nn.Module, torch.Tensor]]:
    for m, k, n in PRODUCTS:
        yield f"linear {m} x {k} x {n}", nn.Linear(k, n), torch.randn(m, k)
    for inputs, outputs, side, kernel, groups in CONVOLUTIONS:
        module = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        name = f"convolution {inputs}->{outputs}, {kernel}x{kernel}, {side}x{side}, {groups} group(s)"
        yield name, module, torch.randn(1, inputs, side, side)


def _timed(name: str, module: nn.Module, inputs: torch.Tensor) -> Timed:
    workload = fused(trace(module, inputs))
    count = min(MOST_COPIES, 1 + COLD_BYTES // int(workload.weight_bytes))
    copies = nn.ModuleList(copy.deepcopy(module) for _ in range(count))

    def call() -> None:
        for each in copies:
            each(inputs)

    return Timed(name, workload, least_seconds(call) / count)


def _measured(value: float, unit: str) -> Quantity:
    return Quantity(value=float(value), unit=unit, confidence="derived", basis="measured on this machine")
