"""Energies of one technology: which number is taken for what, and what a file must hold."""

from typing import Any

import pytest
from pydantic import ValidationError

from hw_models import DeviceError, device_names, load_device
from hw_models.quantity import Quantity
from hw_models.span import Span
from hw_models.technology import Technology, load_technology
from tests.hw.toys import quantity


def picojoules(value: float, low: float | None = None, high: float | None = None) -> Quantity:
    return quantity(value, "pJ", low, high)


def toy(**changes: Any) -> Technology:
    numbers: dict[str, Any] = {
        "add": {"int8": picojoules(1), "int32": picojoules(3), "fp16": picojoules(5)},
        "multiply": {"int8": picojoules(10), "fp16": picojoules(20, 10, 40)},
        "sram_read_64_bit": {32: picojoules(16), 8: picojoules(8), 1024: picojoules(80)},
        "dram": {"ddr": quantity(100, "pJ/B", 50, 200)},
        "instruction": picojoules(64),
    }
    return Technology(**{"name": "toy", "title": "A toy"} | numbers | changes)


def test_integers_accumulate_in_32_bits() -> None:
    assert toy().multiply_add(8, floating=False).value == pytest.approx(10 + 3)


def test_integers_accumulate_in_32_bits_on_processors_too() -> None:
    """Eight-bit numbers are integers there as well: there is no float of that width."""
    assert toy().multiply_add(8, floating=True).value == pytest.approx(10 + 3)


def test_floats_accumulate_in_their_own_format() -> None:
    found = toy().multiply_add(16, floating=True)
    assert (found.value, found.low, found.high) == pytest.approx((25, 15, 45))


def test_an_addition_is_of_the_operands_own_format() -> None:
    assert toy().addition(8, floating=False).value == pytest.approx(1)
    assert toy().addition(16, floating=True).value == pytest.approx(5)


def test_a_byte_on_the_chip_is_an_eighth_of_a_read_of_the_middle_size() -> None:
    found = toy().sram_byte
    assert (found.value, found.low, found.high) == pytest.approx((2, 1, 10))


def test_a_byte_of_main_memory() -> None:
    found = toy().dram_byte("ddr")
    assert (found.value, found.low, found.high) == pytest.approx((100, 50, 200))


def test_a_format_that_is_not_given_is_named() -> None:
    with pytest.raises(DeviceError, match=r"technology toy: multiply\.int16 is not given \(there are: int8"):
        toy().multiply_add(16, floating=False)


def test_numbers_between_two_widths_are_charged_as_the_wider() -> None:
    assert toy().multiply_add(5, floating=False) == toy().multiply_add(8, floating=False)
    assert toy().addition(12, floating=False) == toy().addition(32, floating=False)


def test_the_range_of_a_byte_on_the_chip_has_the_ranges_of_its_sizes() -> None:
    sizes = {8: picojoules(8, 4, 8), 32: picojoules(16), 1024: picojoules(80, 80, 160)}
    found = toy(sram_read_64_bit=sizes).sram_byte
    assert (found.low, found.high) == pytest.approx((0.5, 20))


def test_a_memory_that_is_not_given_is_named() -> None:
    with pytest.raises(DeviceError, match=r"technology toy: dram\.hbm is not given \(there are: ddr\)"):
        toy().dram_byte("hbm")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"add": {"int8": quantity(1, "W")}}, r"add\.int8: W measures power, need energy"),
        ({"dram": {"ddr": picojoules(1)}}, r"dram\.ddr: pJ measures energy, need energy per byte"),
        (
            {"sram_read_64_bit": {8: quantity(1, "pJ/B")}},
            r"sram_read_64_bit\.8: pJ/B measures energy per byte",
        ),
        ({"instruction": quantity(1, "ns")}, r"instruction: ns measures time, need energy"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_malformed_technology_names_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        toy(**changes)


def test_unknown_technology_names_those_there_are() -> None:
    with pytest.raises(DeviceError, match=r"unknown technology 'cmos_1nm'; known: cmos_45nm"):
        load_technology("cmos_1nm")


def test_shipped_technology_orders_its_energies() -> None:
    found = load_technology("cmos_45nm")
    assert found.addition(8, floating=False).value < found.multiply_add(8, floating=False).value
    assert found.multiply_add(8, floating=False).value < found.multiply_add(16, floating=False).value
    assert found.multiply_add(16, floating=True).value < found.multiply_add(32, floating=True).value
    assert found.sram_byte.low <= found.sram_byte.value <= found.sram_byte.high


@pytest.mark.parametrize("name", device_names())
def test_devices_name_a_technology_and_a_memory_that_exist(name: str) -> None:
    device = load_device(name)
    if device.technology is None:
        assert device.memory is None
    else:
        assert isinstance(load_technology(device.technology).dram_byte(device.need_name("memory")), Span)
