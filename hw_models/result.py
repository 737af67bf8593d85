"""What an estimate says: time, traffic and energy of every operation, and of the whole."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from hw_models.design import Design
from hw_models.device import Device
from hw_models.energy import Energy, layer_energy
from hw_models.errors import HardwareModelError
from hw_models.span import Span
from hw_models.technology import load_technology
from hw_models.text import text_table
from hw_models.traffic import LayerWork
from hw_models.workload import Kind

Bound = Literal["compute", "memory", "overhead"]


@dataclass(frozen=True)
class LayerEstimate:
    """One operation: its work, and its time with the range that the constants' ranges give."""

    work: LayerWork
    compute_ms: float
    memory_ms: float
    launch_ms: float
    latency: Span
    """Milliseconds."""

    @property
    def name(self) -> str:
        return self.work.name

    @property
    def kind(self) -> Kind:
        return self.work.kind

    @property
    def macs(self) -> int:
        return self.work.macs

    @property
    def bytes(self) -> float:
        """Moved from and to main memory."""
        return self.work.bytes

    @property
    def latency_ms(self) -> float:
        return self.latency.value

    @property
    def low_ms(self) -> float:
        return self.latency.low

    @property
    def high_ms(self) -> float:
        return self.latency.high

    @property
    def bound(self) -> Bound:
        """What takes the largest part: arithmetic, memory traffic, or starting the operation."""
        if self.launch_ms > max(self.compute_ms, self.memory_ms):
            return "overhead"
        return "compute" if self.compute_ms >= self.memory_ms else "memory"


@dataclass(frozen=True)
class Estimate:
    """Latency and energy of a workload on a device: operations one after the other, a batch at a time.

    An example is the traced input, whatever the traced input's own batch was."""

    network: str
    device: Device
    batch: int
    layers: tuple[LayerEstimate, ...]
    constants: dict[str, str]
    """What the estimate rests on: constants with unit, range and confidence, and the design of an FPGA."""
    uncounted: tuple[str, ...]
    """Operations whose arithmetic is unknown: only their bytes are in the estimate."""
    power: Span | None = None
    """Watts under load; None if neither the device file nor the design tells."""
    design: Design | None = None
    """The engine of an FPGA."""
    at_clock: Span | None = None
    """Latency on an FPGA at the clock as it is given, without the clock's range."""

    @cached_property
    def latency(self) -> Span:
        """Milliseconds of the batch."""
        return Span.sum(layer.latency for layer in self.layers)

    @property
    def latency_ms(self) -> float:
        return self.latency.value

    @property
    def low_ms(self) -> float:
        """Latency with the favourable end of every range."""
        return self.latency.low

    @property
    def high_ms(self) -> float:
        """Latency with the unfavourable end of every range."""
        return self.latency.high

    @property
    def macs(self) -> int:
        """Multiply-accumulates that are done, for the whole batch."""
        return sum(layer.macs for layer in self.layers)

    @property
    def frames_per_s(self) -> Span:
        """Examples a second."""
        return Span.exact(1e3 * self.batch).over(self.latency)

    @property
    def load_energy_mj(self) -> Span:
        """Millijoules an example: power under load times time, on an FPGA at the clock as it is given.

        Raises HardwareModelError if the power is unknown."""
        return self._known_power() * (self.at_clock or self.latency) / self.batch

    @property
    def frames_per_s_per_w(self) -> Span:
        """Examples a second and watt, which is examples a joule."""
        return Span.exact(1e3).over(self.load_energy_mj)

    @property
    def gops_per_w(self) -> Span:
        """Giga-operations a second and watt, two per multiply-accumulate, as the literature counts them."""
        return self.frames_per_s_per_w * (2 * self.macs / self.batch / 1e9)

    @cached_property
    def layer_energies(self) -> tuple[Energy, ...]:
        """Energy of every operation for the whole batch: arithmetic, bytes, and static power during its time.

        Raises DeviceError if the device file lacks one of the numbers this takes."""
        technology = load_technology(self.device.need_name("technology"))
        arithmetic = self.design.arithmetic if self.design else "float"
        return tuple(
            layer_energy(layer.work, layer.latency, self.device, technology, arithmetic)
            for layer in self.layers
        )

    @property
    def energy(self) -> Energy:
        """Millijoules an example: the sum of `layer_energies`, over the batch."""
        return Energy.sum(self.layer_energies) / self.batch

    def table(self) -> list[dict[str, Any]]:
        """One dictionary per operation, in order of execution."""
        return [
            {
                **asdict(layer.work),
                "compute_ms": layer.compute_ms,
                "memory_ms": layer.memory_ms,
                "launch_ms": layer.launch_ms,
                "latency_ms": layer.latency_ms,
                "low_ms": layer.low_ms,
                "high_ms": layer.high_ms,
                "bound": layer.bound,
            }
            for layer in self.layers
        ]

    def __str__(self) -> str:
        """Time by kind of operation and by what bounds it, the total with its range, and what it rests on."""
        groups: dict[tuple[str, str], list[LayerEstimate]] = {}
        for layer in self.layers:
            groups.setdefault((layer.kind, layer.bound), []).append(layer)
        rows: list[tuple[str, ...]] = [("kind", "bound", "operations", "GMAC", "MB", "ms", "low", "high")]
        for (kind, bound), group in sorted(
            groups.items(), key=lambda item: -sum(x.latency_ms for x in item[1])
        ):
            time = Span.sum(layer.latency for layer in group)
            rows.append(
                (
                    kind,
                    bound,
                    str(len(group)),
                    f"{sum(layer.macs for layer in group) / 1e9:.3f}",
                    f"{sum(layer.bytes for layer in group) / 1e6:.2f}",
                    *(f"{ms:.3f}" for ms in (time.value, time.low, time.high)),
                )
            )
        lines = [
            text_table(rows, left=2),
            f"{self.network} on {self.device.name}, batch {self.batch}: {self.latency} ms",
        ]
        if self.power:
            lines.append(f"energy an example, power times time: {self.load_energy_mj} mJ")
        lines += [f"{name}: {constant}" for name, constant in self.constants.items()]
        if self.uncounted:
            lines.append("ARITHMETIC NOT COUNTED: " + ", ".join(self.uncounted))
        return "\n".join(lines)

    def _known_power(self) -> Span:
        if self.power is None:
            raise HardwareModelError(
                f"{self.device.name}: no power under load is known; give `power`, or `static_power` and "
                "`dsp_energy` of an FPGA, in its device file"
            )
        return self.power
