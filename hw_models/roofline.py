"""`estimate`: a roofline per operation. A first bound on latency, not a simulation.

    t = max(operations / (peak * utilisation), bytes / bandwidth) + launch

Every traced operation is a kernel of its own that reads its operands from main memory and writes its result
there: no fusion, no cache reuse, no overlap between operations. Constants come from the device file alone.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from hw_models.device import Device
from hw_models.errors import HardwareModelError
from hw_models.text import text_table
from hw_models.workload import Kind, Workload

Bound = Literal["compute", "memory", "overhead"]


@dataclass(frozen=True)
class LayerEstimate:
    """Time of one operation in milliseconds, with the range that the ranges of the constants give."""

    name: str
    kind: Kind
    macs: int
    bytes: float
    compute_ms: float
    memory_ms: float
    launch_ms: float
    latency_ms: float
    low_ms: float
    high_ms: float

    @property
    def bound(self) -> Bound:
        """What takes the larger part: arithmetic, memory traffic, or starting the operation."""
        if self.launch_ms > max(self.compute_ms, self.memory_ms):
            return "overhead"
        return "compute" if self.compute_ms >= self.memory_ms else "memory"


@dataclass(frozen=True)
class Estimate:
    """Latency of a workload on a device: operations one after the other, `batch` examples at a time."""

    network: str
    device: str
    batch: int
    layers: tuple[LayerEstimate, ...]
    constants: dict[str, str]
    """The device's constants that were used, each with unit, range and confidence."""
    uncounted: tuple[str, ...]
    """Operations whose arithmetic is unknown: only their bytes are in the estimate."""

    @property
    def latency_ms(self) -> float:
        return sum(layer.latency_ms for layer in self.layers)

    @property
    def low_ms(self) -> float:
        """Latency with the favourable end of every range."""
        return sum(layer.low_ms for layer in self.layers)

    @property
    def high_ms(self) -> float:
        """Latency with the unfavourable end of every range."""
        return sum(layer.high_ms for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    def table(self) -> list[dict[str, Any]]:
        """One dictionary per operation, in order of execution."""
        return [{**asdict(layer), "bound": layer.bound} for layer in self.layers]

    def __str__(self) -> str:
        """Time by kind of operation and by what bounds it, the total with its range, and what it rests on."""
        groups: dict[tuple[str, str], list[LayerEstimate]] = {}
        for layer in self.layers:
            groups.setdefault((layer.kind, layer.bound), []).append(layer)
        rows = [("kind", "bound", "operations", "GMAC", "MB", "ms", "low", "high")]
        for (kind, bound), group in sorted(
            groups.items(), key=lambda item: -sum(x.latency_ms for x in item[1])
        ):
            rows.append(
                (
                    kind,
                    bound,
                    str(len(group)),
                    f"{sum(layer.macs for layer in group) / 1e9:.3f}",
                    f"{sum(layer.bytes for layer in group) / 1e6:.2f}",
                    f"{sum(layer.latency_ms for layer in group):.3f}",
                    f"{sum(layer.low_ms for layer in group):.3f}",
                    f"{sum(layer.high_ms for layer in group):.3f}",
                )
            )
        lines = [
            text_table(rows, left=2),
            f"{self.network} on {self.device}, batch {self.batch}: {self.latency_ms:.3g} ms "
            f"({self.low_ms:.3g} to {self.high_ms:.3g})",
        ]
        lines += [f"{name}: {constant}" for name, constant in self.constants.items()]
        if self.uncounted:
            lines.append("ARITHMETIC NOT COUNTED: " + ", ".join(self.uncounted))
        return "\n".join(lines)


def estimate(workload: Workload, device: Device, batch: int = 1, bits: int | None = None) -> Estimate:
    """Roofline latency of `workload` on `device`.

    `batch` times the traced example is processed at once: arithmetic and activations grow with it, weights
    are read once per operation. `bits` replaces the bit widths of the workload; arithmetic runs at the wider
    of an operation's weights and activations.

    Raises DeviceError if the device file lacks a number, HardwareModelError if `batch` or `bits` is below 1.
    """
    if batch < 1:
        raise HardwareModelError(f"batch must be at least 1, got {batch}")
    if bits is not None:
        workload = workload.at_bits(bits)
    widths = sorted({max(layer.weight_bits, layer.activation_bits) for layer in workload.layers})
    peaks = {width: device.need_peak(width) for width in widths}
    bandwidth, utilisation, launch = (
        device.need("bandwidth"),
        device.need("utilisation"),
        device.need("launch"),
    )
    slow_share, fast_share = utilisation.si_range
    quick_launch, slow_launch = launch.si_range
    slow_memory, fast_memory = bandwidth.si_range

    layers = []
    for layer in workload.layers:
        peak = peaks[max(layer.weight_bits, layer.activation_bits)]
        slow_peak, fast_peak = peak.si_range
        ops = layer.ops * batch
        moved = layer.activation_bytes * batch + layer.weight_bytes
        compute, memory = ops / (peak.si * utilisation.si), moved / bandwidth.si
        low = max(ops / (fast_peak * fast_share), moved / fast_memory) + quick_launch
        high = max(ops / (slow_peak * slow_share), moved / slow_memory) + slow_launch
        layers.append(
            LayerEstimate(
                name=layer.name,
                kind=layer.kind,
                macs=layer.macs * batch,
                bytes=moved,
                compute_ms=1e3 * compute,
                memory_ms=1e3 * memory,
                launch_ms=1e3 * launch.si,
                latency_ms=1e3 * (max(compute, memory) + launch.si),
                low_ms=1e3 * low,
                high_ms=1e3 * high,
            )
        )
    return Estimate(
        network=workload.network,
        device=device.name,
        batch=batch,
        layers=tuple(layers),
        constants={
            **{f"peak at {width} bits": str(peak) for width, peak in peaks.items()},
            "bandwidth": str(bandwidth),
            "utilisation": str(utilisation),
            "launch": str(launch),
        },
        uncounted=tuple(map(str, workload.uncounted)),
    )
