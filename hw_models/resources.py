"""What an engine occupies on an FPGA: DSP slices, block RAM, look-up tables and flip-flops."""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from hw_models.device import Device
from hw_models.engine import Tilings
from hw_models.errors import HardwareModelError
from hw_models.products import Ints
from hw_models.rtl.structure import ACCUMULATOR_BITS, MULTIPLIER_LUTS, datapath

Arithmetic = Literal["fixed", "float", "power_of_two", "binary"]
ADDING: tuple[Arithmetic, ...] = ("power_of_two", "binary")
"""Arithmetic that only shifts and adds: in look-up tables, without a DSP slice."""

BLOCK_RAM_WIDTH = 72
"""Bits that a 36 Kb block RAM delivers in a cycle while its other port writes (simple dual port)."""
BLOCK_RAM_DEPTH = 512
"""Words of that width in it."""
NARROWEST_OPERAND, WIDEST_OPERAND = 2, 16
"""Bits of the operands that the engine was simulated and synthesised with."""
PACKED_BITS = 8
"""Widest operands of which one DSP48 multiplies two pairs with a common factor (Xilinx WP486)."""
FLOAT_SLICES, FLOAT_LUTS = {16: 2, 32: 4}, {16: 200, 32: 400}
"""DSP slices and tables of a floating-point multiplier with adder, as vendors' cores take (recalled)."""


@dataclass(frozen=True)
class Resources:
    """Counts of one design, or arrays of counts of many."""

    dsp: Any
    block_rams: Any
    luts: Any
    flip_flops: Any

    def fits(self, available: "Resources") -> Any:
        """Whether no resource exceeds what is available."""
        within = [getattr(self, f.name) <= getattr(available, f.name) for f in fields(self)]
        return np.logical_and.reduce(within)


def available(device: Device, share: float | None = None) -> Resources:
    """`share` of the resources of a device, or as much as a routable design may use.

    Raises DeviceError if the device file lacks one of them."""
    share = device.need("usable").value if share is None else share
    return Resources(*(share * device.need_fabric(f.name).value for f in fields(Resources)))


def resources(
    tilings: Tilings, bits: int, *, packing: bool = False, arithmetic: Arithmetic = "fixed"
) -> Resources:
    """Resources of the engine under every tiling, for operands of `bits` bits.

    DSP slices follow from the multipliers: one each, or one for two with `packing` (operands of at most 8
    bits); floating-point ones take several. Powers of two are shifted and binary weights added or subtracted,
    in look-up tables instead; `bits` is then the width of the activations.
    Block RAM follows from the width that the array reads in a cycle and from the depth of the buffers.
    The control of the engine is included; DMA, the processor's bus and function units are not.

    Raises HardwareModelError for operands wider than a DSP's, and for packing that does not apply."""
    if arithmetic not in get_args(Arithmetic):
        known = ", ".join(get_args(Arithmetic))
        raise HardwareModelError(f"unknown arithmetic {arithmetic!r}; choose from {known}")
    if arithmetic == "float" and bits not in FLOAT_SLICES:
        raise HardwareModelError(f"floating-point numbers have 16 or 32 bits here, not {bits}")
    if arithmetic != "float" and not NARROWEST_OPERAND <= bits <= WIDEST_OPERAND:
        raise HardwareModelError(f"bits must be {NARROWEST_OPERAND} to {WIDEST_OPERAND}, got {bits}")
    if packing and (bits > PACKED_BITS or arithmetic != "fixed"):
        raise HardwareModelError(
            f"packing takes fixed-point operands of at most {PACKED_BITS} bits, not {bits}-bit {arithmetic}"
        )
    multipliers = tilings.inputs * tilings.outputs * tilings.heads
    dsp, luts, flip_flops = _datapaths(tilings, min(bits, WIDEST_OPERAND))
    match arithmetic:
        case "fixed":
            dsp = np.ceil(dsp / 2) if packing else dsp
        case "float":
            dsp, luts = multipliers * FLOAT_SLICES[bits], luts + multipliers * FLOAT_LUTS[bits]
        case "power_of_two" | "binary":
            instead = _shifter_luts(bits) if arithmetic == "power_of_two" else bits
            dsp = np.zeros_like(multipliers)
            luts = luts + multipliers * (instead - MULTIPLIER_LUTS.get(bits, 0))
    banks, width = tilings.heads, tilings.outputs * tilings.heads
    input_words = tilings.rows * (tilings.depth // (tilings.inputs * banks))
    weight_words = (tilings.depth // (tilings.inputs * banks)) * (tilings.columns // width) * banks
    result_words = tilings.rows * (tilings.columns // width)
    block_rams = (
        _block_rams(tilings.inputs * banks * bits, 2 * input_words)
        + _block_rams(tilings.inputs * width * bits, 2 * weight_words)
        + _block_rams(width * ACCUMULATOR_BITS, 2 * result_words)
    )
    return Resources(dsp, block_rams, luts, flip_flops)


def _datapaths(tilings: Tilings, bits: int) -> tuple[Ints, Ints, Ints]:
    """`rtl.structure.datapath` of every tiling: DSP slices, look-up tables, flip-flops."""
    arrays = np.stack([tilings.inputs, tilings.outputs, tilings.heads])
    distinct, where = np.unique(arrays, axis=1, return_inverse=True)
    costs = np.array([datapath((int(i), int(o), int(h)), bits) for i, o, h in distinct.T]).T
    dsp, luts, flip_flops = costs[:, where.reshape(-1)]
    return dsp, luts, flip_flops


def _block_rams(width: Any, words: Any) -> Any:
    """36 Kb memories that hold `words` words of `width` bits and read one of them every cycle."""
    return np.ceil(width / BLOCK_RAM_WIDTH) * np.ceil(words / BLOCK_RAM_DEPTH)


def _shifter_luts(bits: int) -> float:
    """Look-up tables of a shifter for a `bits`-bit operand: a 4-to-1 multiplexer per bit and two levels."""
    levels = max(1, int(np.ceil(np.log2(bits) / 2)))
    return 2.0 * bits * levels
