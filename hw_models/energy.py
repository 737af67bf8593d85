"""Energy of an operation: arithmetic by bit width, bytes by memory, instructions, static power over time.

Per-operation energies are those of one technology (`technologies/*.yaml`), scaled to the device's by a factor
that is an assumption with a wide range: no source gives it. So differences between designs on one device mean
more than joules do; the measured way, power under load times time, is `Estimate.load_energy_mj`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self

from hw_models.device import Device
from hw_models.resources import ADDING, Arithmetic
from hw_models.rtl.structure import ACCUMULATOR_BITS
from hw_models.span import Span
from hw_models.technology import PICO, Technology
from hw_models.traffic import LayerWork

PJ_PER_MJ = 1e9


@dataclass(frozen=True)
class Energy:
    """Millijoules by what they are spent on."""

    compute: Span
    """Multiplications and additions alone."""
    control: Span
    """Fetching and decoding instructions."""
    on_chip: Span
    """Caches or block RAM."""
    dram: Span
    static: Span
    """What the device takes while it waits as well."""

    @classmethod
    def sum(cls, parts: Iterable["Energy"]) -> Self:
        listed = list(parts)
        return cls(*(Span.sum(getattr(part, field.name) for part in listed) for field in fields(cls)))

    def __truediv__(self, count: float) -> "Energy":
        return Energy(*(part / count for part in self.parts.values()))

    @property
    def total(self) -> Span:
        return Span.sum(self.parts.values())

    @property
    def parts(self) -> dict[str, Span]:
        return {field.name.replace("_", "-"): getattr(self, field.name) for field in fields(self)}


def multiply_add(technology: Technology, bits: int, arithmetic: Arithmetic) -> Span:
    """Picojoules of one multiply-accumulate.

    Powers of two and binary weights take an addition; shifting and changing a sign are nearly free."""
    if arithmetic in ADDING:
        return technology.addition(ACCUMULATOR_BITS, floating=False)
    return technology.multiply_add(bits, floating=arithmetic == "float")


def layer_energy(
    work: LayerWork,
    latency: Span,
    device: Device,
    technology: Technology,
    arithmetic: Arithmetic,
) -> Energy:
    """Energy of one operation that takes `latency` milliseconds on `device`.


    Raises DeviceError if device or technology lacks a number, such as the energy of this bit width."""
    scale = device.need("energy_scale").span
    addition = technology.addition(work.bits, floating=arithmetic == "float")
    operations = multiply_add(technology, work.bits, arithmetic) * work.macs + addition * work.other_ops
    if device.kind == "fpga":
        instructions = Span.exact(0)
    else:
        instructions = technology.instruction.span * PICO / device.need("lanes").span
        # Narrower numbers share a vector register in larger numbers.
        instructions = instructions * ((work.macs + work.other_ops) * min(work.bits, 32) / 32)
    return Energy(
        compute=operations * scale / PJ_PER_MJ,
        control=instructions * scale / PJ_PER_MJ,
        on_chip=work.on_chip_bytes * technology.sram_byte * scale / PJ_PER_MJ,
        dram=technology.dram_byte(device.need_name("memory")) * work.bytes / PJ_PER_MJ,
        static=device.need("static_power").span * latency,
    )
