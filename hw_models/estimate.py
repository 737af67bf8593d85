"""`estimate`: from a workload and a device to latency and energy, per operation and in all."""

from collections.abc import Sequence

from hw_models import fpga, mobile
from hw_models.design import Design
from hw_models.device import Device
from hw_models.energy import multiply_add
from hw_models.errors import HardwareModelError, check_count
from hw_models.resources import NARROWEST_OPERAND
from hw_models.result import Estimate
from hw_models.search import COARSE, best_design
from hw_models.span import Span
from hw_models.technology import load_technology
from hw_models.workload import Workload


def estimate(
    workload: Workload,
    device: Device,
    batch: int = 1,
    bits: int | None = None,
    *,
    design: Design | None = None,
) -> Estimate:
    """Latency and energy of `workload` on `device`.

    `batch` times the traced example is processed at once: arithmetic and activations grow with it, weights
    are read once per operation. `bits` replaces the bit widths of the workload; arithmetic runs at the wider
    of an operation's weights and activations. On an FPGA `design` is the engine; without one the fastest of a
    coarse grid is taken (`search.best_design` looks more closely, and packs two 8-bit products into a slice).

    Raises DeviceError if the device file lacks a number, HardwareModelError if `batch` or `bits` is below 1,
    or if a design is given for a processor or is narrower than the workload's numbers.
    """
    check_count("batch", batch)
    if bits is not None:
        workload = workload.at_bits(bits)
    uncounted = tuple(map(str, workload.uncounted))
    if device.kind != "fpga":
        if design is not None:
            raise HardwareModelError(f"a design belongs to an FPGA; {device.name} is a {device.kind}")
        layers = mobile.layer_estimates(workload, device, batch)
        power = device.power.span if device.power else None
        return Estimate(
            workload.network, device, batch, layers, _processor_constants(workload, device), uncounted, power
        )
    widest = max((max(x.weight_bits, x.activation_bits) for x in workload.layers), default=NARROWEST_OPERAND)
    if design is None:
        design = best_design(workload, device, bits=widest, grid=COARSE, images=batch)
    if design.bits < widest:
        raise HardwareModelError(
            f"the design multiplies {design.bits}-bit numbers, the workload holds {widest}-bit ones"
        )
    layers = fpga.layer_estimates(workload, device, batch, design.tiling)
    # Power goes with the clock and time against it, so that energy is stated at one clock, the given one.
    at_one_clock = device.model_copy(update={"clock": device.need("clock").without_range()})
    at_clock = fpga.layer_estimates(workload, at_one_clock, batch, design.tiling)
    host = ("host_element", "host_call") if any(map(fpga.on_host, workload.layers)) else ()
    return Estimate(
        workload.network,
        device,
        batch,
        layers,
        {"engine": str(design), **_constants(device, ("clock", "bandwidth", "launch", *host))},
        uncounted,
        fpga_power(device, design),
        design,
        Span.sum(layer.latency for layer in at_clock),
    )


def compare(
    workloads: Sequence[Workload], device: Device, batch: int = 1, bits: int | None = None
) -> list[Estimate]:
    """Estimates of several variants of a network, the first of which an FPGA's engine is chosen for.

    Hardware is not rebuilt for every variant; `estimate` alone would do so. Raises as `estimate` does."""
    if not workloads:
        return []
    first = estimate(workloads[0], device, batch, bits)
    rest = [estimate(workload, device, batch, bits, design=first.design) for workload in workloads[1:]]
    return [first, *rest]


def fpga_power(device: Device, design: Design) -> Span | None:
    """Watts of a design: static power and what its DSP slices take in every cycle; None if not known.

    A multiplier in look-up tables counts as the share of a slice that its operation has in the energy of a
    16-bit multiply-accumulate."""
    if device.static_power is None or device.dsp_energy is None:
        return None
    slices = Span.exact(float(design.resources.dsp))
    if not slices.value:
        technology = load_technology(device.need_name("technology"))
        whole = technology.multiply_add(16, floating=False)
        part = multiply_add(technology, design.bits, design.arithmetic)
        slices = part / whole * design.tiling.macs_per_cycle
    return device.static_power.span + device.dsp_energy.span * slices * device.need("clock").si


def _processor_constants(workload: Workload, device: Device) -> dict[str, str]:
    widths = sorted({max(layer.weight_bits, layer.activation_bits) for layer in workload.layers})
    peaks = {f"peak at {width} bits": str(device.need_peak(width)) for width in widths}
    return peaks | _constants(device, ("bandwidth", "utilisation", "launch"))


def _constants(device: Device, names: tuple[str, ...]) -> dict[str, str]:
    return {name: str(device.need(name)) for name in names}  # type: ignore[arg-type]
