"""The fastest engine that a device has room for: a sweep over tilings, all of them evaluated at once."""

from dataclasses import dataclass, fields
from itertools import product as pairs

import numpy as np

from hw_models.design import Design
from hw_models.device import Device
from hw_models.engine import Tilings
from hw_models.errors import HardwareModelError, check_count
from hw_models.fpga import Network
from hw_models.products import Floats
from hw_models.resources import Arithmetic, Resources, available, resources
from hw_models.workload import Workload

CHUNK = 4096
"""Tilings evaluated at once: their arrays stay in the processor's cache."""


@dataclass(frozen=True)
class Grid:
    """Values to try for every dimension; depth and columns as multiples of the array's own."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    heads: tuple[int, ...]
    rows: tuple[int, ...]
    depths: tuple[int, ...]
    widths: tuple[int, ...]

    def tilings(self) -> Tilings:
        """All combinations."""
        arrays = pairs(self.inputs, self.outputs, self.heads)
        array = np.array(list(arrays), dtype=np.int64)
        buffer = np.array(list(pairs(self.rows, self.depths, self.widths)), dtype=np.int64)
        inputs, outputs, heads = (np.repeat(column, len(buffer)) for column in array.T)
        rows, depths, widths = (np.tile(column, len(array)) for column in buffer.T)
        return Tilings(inputs, outputs, heads, rows, depths * inputs * heads, widths * outputs * heads)


COARSE = Grid(
    inputs=(8, 16, 32, 64),
    outputs=(4, 8, 16, 32, 64),
    heads=(1, 2, 3, 4, 6),
    rows=(64, 256, 1024),
    depths=(1, 4, 16),
    widths=(1, 4, 16),
)
"""A few thousand tilings: what `estimate` chooses from when no design is given."""

FINE = Grid(
    inputs=(4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96),
    outputs=(2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64),
    heads=(1, 2, 3, 4, 6, 8, 12),
    rows=(32, 64, 98, 128, 197, 256, 512, 1024, 3136),
    depths=(1, 2, 4, 8, 16, 32),
    widths=(1, 2, 4, 8, 16, 32),
)
"""Nearly half a million tilings."""


@dataclass(frozen=True)
class Sweep:
    """Every tiling that fits, with its latency in seconds and its resources."""

    tilings: Tilings
    latency_s: Floats
    resources: Resources


def sweep(
    workload: Workload,
    device: Device,
    *,
    bits: int,
    grid: Grid = FINE,
    images: int = 1,
    packing: bool = False,
    arithmetic: Arithmetic = "fixed",
    limits: Resources | None = None,
) -> Sweep:
    """Latency of `workload` under every tiling of `grid` that fits into `limits` (else into the device).

    Raises HardwareModelError if none fits, DeviceError if the device file lacks a number."""
    check_count("images", images)
    tilings = grid.tilings()
    limits = limits or available(device)
    needed = resources(tilings, bits, packing=packing, arithmetic=arithmetic)
    fits = needed.fits(limits)
    if not fits.any():
        raise HardwareModelError(
            f"no engine of the grid fits {device.name} at {bits} bits; widen the grid or use a larger device"
        )
    tilings = tilings.where(fits)
    network = Network.of(workload, device, images)
    latency = np.concatenate(
        [
            network.latency_s(tilings.where(np.arange(start, min(start + CHUNK, len(tilings)))))
            for start in range(0, len(tilings), CHUNK)
        ]
    )
    kept = Resources(*(getattr(needed, field.name)[fits] for field in fields(Resources)))
    return Sweep(tilings, latency, kept)


def best_design(
    workload: Workload,
    device: Device,
    *,
    bits: int,
    grid: Grid = FINE,
    images: int = 1,
    packing: bool = False,
    arithmetic: Arithmetic = "fixed",
    limits: Resources | None = None,
) -> Design:
    """The fastest design of `grid`; among equally fast ones that with the fewest multipliers, then memories.

    Raises as `sweep` does."""
    found = sweep(
        workload,
        device,
        bits=bits,
        grid=grid,
        images=images,
        packing=packing,
        arithmetic=arithmetic,
        limits=limits,
    )
    multipliers = found.tilings.inputs * found.tilings.outputs * found.tilings.heads
    best = np.lexsort((found.resources.block_rams, multipliers, found.latency_s))[0]
    return Design(
        tiling=found.tilings[best],
        bits=bits,
        packing=packing,
        arithmetic=arithmetic,
        resources=Resources(*(float(getattr(found.resources, f.name)[best]) for f in fields(Resources))),
        latency_s=float(found.latency_s[best]),
    )
