"""Energy of one operation by hand, part by part."""

from dataclasses import replace
from typing import Any

import pytest

from hw_models import Device, DeviceError
from hw_models.energy import Energy, layer_energy
from hw_models.resources import Arithmetic
from hw_models.span import Span
from hw_models.technology import load_technology
from hw_models.traffic import LayerWork
from tests.hw.toys import board, processor, quantity

TECHNOLOGY = load_technology("cmos_45nm")
"""8-bit integers: multiply 0.2 pJ, add 0.03; 32-bit add 0.1; 32-bit floats: multiply 3.7, add 0.9."""
PRODUCT = LayerWork("product", "gemm", 10**6, 0, 8, 1e4, Span(2e4, 1e4, 4e4))
POINTWISE = LayerWork("pointwise", "elementwise", 0, 10**6, 32, 1e4, Span.exact(0))
NUMBERS: dict[str, Any] = {
    "technology": "cmos_45nm",
    "memory": "ddr4",
    "energy_scale": quantity(0.5, "fraction", 0.25, 1),
    "static_power": quantity(2, "W", 1, 4),
}
FPGA = board(**NUMBERS)
CPU = processor(lanes=quantity(4, "count"), **NUMBERS)
MJ = 1e-9
"""Millijoules of a picojoule."""


def of(work: LayerWork, device: Device = FPGA, latency_ms: float = 3) -> Energy:
    arithmetic: Arithmetic = "fixed" if device.kind == "fpga" else "float"
    return layer_energy(work, Span.exact(latency_ms), device, TECHNOLOGY, arithmetic)


def test_arithmetic_of_an_fpga_is_of_integers() -> None:
    assert of(PRODUCT).compute.value == pytest.approx(0.5 * (0.2 + 0.1) * 1e6 * MJ)


def test_arithmetic_of_a_processor_is_of_floats_from_16_bits() -> None:
    assert of(replace(PRODUCT, bits=32), CPU).compute.value == pytest.approx(0.5 * (3.7 + 0.9) * 1e6 * MJ)


def test_operations_that_are_no_products_are_additions() -> None:
    assert of(POINTWISE, CPU).compute.value == pytest.approx(0.5 * 0.9 * 1e6 * MJ)


def test_an_fpga_fetches_no_instructions() -> None:
    assert of(PRODUCT).control == Span.exact(0)


def test_instructions_of_a_processor_are_shared_by_its_lanes() -> None:
    instruction = TECHNOLOGY.instruction.si * 1e12
    found = of(replace(PRODUCT, bits=32), CPU).control.value
    assert found == pytest.approx(0.5 * instruction / 4 * 1e6 * MJ)


def test_narrower_numbers_share_instructions_in_larger_numbers() -> None:
    wide, narrow = (of(replace(PRODUCT, bits=bits), CPU).control.value for bits in (32, 8))
    assert narrow == pytest.approx(wide / 4)


def test_bytes_on_the_chip() -> None:
    byte = TECHNOLOGY.sram_byte
    found = of(PRODUCT).on_chip
    assert found.value == pytest.approx(0.5 * byte.value * 2e4 * MJ)
    assert (found.low, found.high) == pytest.approx((0.25 * byte.low * 1e4 * MJ, byte.high * 4e4 * MJ))


def test_bytes_of_main_memory_do_not_scale_with_the_chip() -> None:
    byte = TECHNOLOGY.dram_byte("ddr4")
    assert of(PRODUCT).dram.value == pytest.approx(byte.value * 1e4 * MJ)
    assert (of(PRODUCT).dram.low, of(PRODUCT).dram.high) == pytest.approx(
        (byte.low * 1e4 * MJ, byte.high * 1e4 * MJ)
    )


def test_static_power_is_drawn_for_the_whole_time() -> None:
    found = of(PRODUCT, latency_ms=3).static
    assert (found.value, found.low, found.high) == pytest.approx((6, 3, 12))


@pytest.mark.parametrize("device", [FPGA, CPU])
@pytest.mark.parametrize("work", [PRODUCT, replace(POINTWISE, bits=8)])
def test_total_is_the_sum_of_the_parts_and_at_least_each(work: LayerWork, device: Device) -> None:
    found = of(work, device)
    assert list(found.parts) == ["compute", "control", "on-chip", "dram", "static"]
    assert found.total == Span.sum(found.parts.values())
    for part in found.parts.values():
        assert 0 <= part.low <= part.value <= part.high
        assert found.total.value >= part.value


def test_energies_add_up_part_by_part() -> None:
    product, pointwise = of(PRODUCT), of(replace(POINTWISE, bits=8))
    both = Energy.sum([product, pointwise])
    assert both.compute == product.compute + pointwise.compute
    assert both.total.value == pytest.approx(product.total.value + pointwise.total.value)


def test_sum_of_no_energies_is_none() -> None:
    assert Energy.sum([]).total == Span.exact(0)


@pytest.mark.parametrize("field", ["energy_scale", "static_power", "memory"])
def test_a_number_that_the_device_lacks_is_named(field: str) -> None:
    with pytest.raises(DeviceError, match=f"toy_board: {field} is not given"):
        of(PRODUCT, board(**NUMBERS | {field: None}))


def test_lanes_are_needed_of_processors_alone() -> None:
    with pytest.raises(DeviceError, match="toy: lanes is not given"):
        of(PRODUCT, processor(**NUMBERS))


def test_a_width_that_the_technology_lacks_is_named() -> None:
    with pytest.raises(DeviceError, match=r"technology cmos_45nm: add\.int64 is not given"):
        of(replace(PRODUCT, bits=64))
