"""The whole estimate: sums, rates, energy, what it rests on, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from hw_models import (
    Device,
    DeviceError,
    HardwareModelError,
    Workload,
    best_design,
    device_names,
    estimate,
    load_device,
    trace,
)
from hw_models.design import Design
from hw_models.device import Number
from hw_models.energy import Energy
from hw_models.estimate import compare, fpga_power
from hw_models.search import COARSE, Grid
from hw_models.span import Span
from tests.hw.toys import board, gemm, other, processor, quantity, workload

POWER: dict[str, Any] = {
    "technology": "cmos_45nm",
    "memory": "ddr4",
    "energy_scale": quantity(0.5, "fraction"),
    "static_power": quantity(2, "W", 1, 4),
}
LOADED = processor(power=quantity(3, "W", 2, 6), lanes=quantity(4, "count"), **POWER)
GRID = Grid(inputs=(4, 8), outputs=(2,), heads=(1, 2), rows=(16,), depths=(1, 3), widths=(1, 2))
NEEDED: tuple[Number, ...] = ("clock", "bandwidth", "launch", "usable")


@pytest.fixture(scope="module")
def network() -> Workload:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
    )
    return trace(module, torch.empty(1, 3, 8, 8))


def design(network: Workload, device: Device, bits: int = 16, **changes: Any) -> Design:
    return replace(best_design(network, device, bits=bits, grid=GRID), **changes)


def complete() -> list[str]:
    """Shipped devices whose files give what a network needs."""
    found = []
    for name in device_names():
        device = load_device(name)
        if device.kind != "fpga" or all(getattr(device, field) for field in NEEDED):
            found.append(name)
    return found


def test_total_is_the_sum_of_the_layers(network: Workload) -> None:
    found = estimate(network, processor())
    assert [layer.name for layer in found.layers] == [layer.name for layer in network.layers]
    assert found.latency_ms == pytest.approx(sum(layer.latency_ms for layer in found.layers))
    assert found.macs == network.macs


@pytest.mark.parametrize("device", complete())
def test_total_lies_inside_its_range(device: str, network: Workload) -> None:
    found = estimate(network, load_device(device), batch=3, bits=16)
    assert 0 < found.low_ms <= found.latency_ms <= found.high_ms
    assert found.macs == 3 * network.macs


def test_bits_replace_those_of_the_workload(network: Workload) -> None:
    assert estimate(network, processor(), bits=16) == estimate(network.at_bits(16), processor())


@pytest.mark.parametrize(("batch", "bits"), [(0, 32), (-1, 32), (1, 0), (1, -8)])
@pytest.mark.parametrize("device", [processor(), board()])
def test_impossible_request_is_refused(network: Workload, device: Device, batch: int, bits: int) -> None:
    with pytest.raises(HardwareModelError, match=r"(batch|bits?).* must be"):
        estimate(network, device, batch=batch, bits=bits)


def test_missing_peak_is_named(network: Workload) -> None:
    with pytest.raises(DeviceError, match=r"toy: peak\.4 is not given"):
        estimate(network, processor(), bits=4)


@pytest.mark.parametrize("device", [processor(), board()])
def test_an_empty_workload_takes_no_time(device: Device) -> None:
    assert estimate(trace(nn.Identity(), torch.empty(1)), device).latency_ms == 0


def test_frames_a_second() -> None:
    found = estimate(workload(gemm(100, 200, 300)), processor(launch=quantity(2, "us", 1, 4)), batch=4)
    assert found.frames_per_s.value == pytest.approx(4e3 / found.latency_ms)
    assert found.frames_per_s.low == pytest.approx(4e3 / found.high_ms)
    assert found.frames_per_s.high == pytest.approx(4e3 / found.low_ms)


def test_energy_under_load_is_power_times_time_for_an_image() -> None:
    found = estimate(workload(gemm(100, 200, 300)), LOADED, batch=4)
    assert found.load_energy_mj.value == pytest.approx(3 * found.latency_ms / 4)
    assert found.load_energy_mj.low == pytest.approx(2 * found.low_ms / 4)
    assert found.load_energy_mj.high == pytest.approx(6 * found.high_ms / 4)


def test_images_a_joule() -> None:
    found = estimate(workload(gemm(100, 200, 300)), LOADED, batch=4)
    assert found.frames_per_s_per_w.value == pytest.approx(found.frames_per_s.value / 3)


def test_operations_a_second_and_watt_are_two_a_multiplication() -> None:
    found = estimate(workload(gemm(100, 200, 300)), LOADED, batch=4)
    operations = 2 * 100 * 200 * 300
    assert found.gops_per_w.value == pytest.approx(found.frames_per_s.value * operations / 1e9 / 3)


def test_unknown_power_says_what_to_give(network: Workload) -> None:
    with pytest.raises(HardwareModelError, match="toy: no power under load is known; give `power`"):
        _ = estimate(network, processor()).load_energy_mj


def test_energy_is_the_sum_of_the_layers(network: Workload) -> None:
    found = estimate(network, LOADED)
    assert len(found.layer_energies) == len(network.layers)
    assert found.energy == Energy.sum(found.layer_energies)
    assert found.energy.static.value == pytest.approx(2 * found.latency_ms)
    assert found.energy.total.value > found.energy.compute.value > 0


def test_energy_of_a_device_without_numbers_for_it_names_the_first(network: Workload) -> None:
    with pytest.raises(DeviceError, match="toy: technology is not given"):
        _ = estimate(network, processor()).energy


def test_an_engine_is_chosen_from_the_coarse_grid_for_the_widest_numbers() -> None:
    mixed = workload(gemm(20, 30, 40, bits=8), gemm(20, 30, 40, bits=16, name="wide"))
    found = estimate(mixed, board(), batch=2)
    assert found.design == best_design(mixed, board(), bits=16, grid=COARSE, images=2)
    assert found.latency_ms == pytest.approx(1e3 * found.design.latency_s)


def test_a_given_engine_is_used(network: Workload) -> None:
    small = design(network, board(), bits=16)
    found = estimate(network, board(), bits=8, design=small)
    assert found.design == small
    assert found.constants["engine"] == str(small)


def test_an_engine_of_narrower_numbers_is_refused(network: Workload) -> None:
    narrow = design(network, board(), bits=8)
    with pytest.raises(HardwareModelError, match="multiplies 8-bit numbers, the workload holds 16-bit"):
        estimate(network, board(), bits=16, design=narrow)


def test_an_engine_for_a_processor_is_refused(network: Workload) -> None:
    given = design(network, board())
    with pytest.raises(HardwareModelError, match="a design belongs to an FPGA; toy is a cpu"):
        estimate(network, processor(), design=given)


def test_a_network_without_normalisation_needs_no_processor_beside_the_fabric(network: Workload) -> None:
    alone = board(host_element=None, host_call=None)
    assert estimate(network, alone, bits=8).latency_ms > 0
    normed = workload(other("normalisation", 10, operation="aten.native_layer_norm"))
    with pytest.raises(DeviceError, match="host_element is not given"):
        estimate(normed, alone)


def test_variants_are_compared_on_the_engine_of_the_first() -> None:
    variants = [workload(gemm(200, 300, 40)), workload(gemm(3, 5, 7)), workload(gemm(1, 1, 999))]
    found = compare(variants, board(), batch=2)
    assert [each.design for each in found] == [found[0].design] * 3
    assert found[0] == estimate(variants[0], board(), batch=2)


def test_variants_on_a_processor_are_estimated_each_alone() -> None:
    variants = [workload(gemm(200, 300, 40)), workload(gemm(3, 5, 7))]
    assert compare(variants, processor(), bits=16) == [estimate(w, processor(), bits=16) for w in variants]


def test_comparing_nothing_gives_nothing() -> None:
    assert compare([], board()) == []


def test_power_of_an_engine_by_hand(network: Workload) -> None:
    device = board(static_power=quantity(1, "W", 0.5, 2), dsp_energy=quantity(50, "pJ", 20, 100))
    found = fpga_power(device, design(network, device))
    assert found is not None
    slices = design(network, device).resources.dsp
    assert found.value == pytest.approx(1 + 50e-12 * 100e6 * slices)
    assert (found.low, found.high) == pytest.approx(
        (0.5 + 20e-12 * 100e6 * slices, 2 + 100e-12 * 100e6 * slices)
    )


def test_power_of_an_engine_without_slices_is_less_but_not_none(network: Workload) -> None:
    device = board(dsp_energy=quantity(50, "pJ"), **POWER)
    multiplying = design(network, device, bits=8)
    adding = replace(multiplying, arithmetic="binary", resources=replace(multiplying.resources, dsp=0.0))
    more, less = fpga_power(device, multiplying), fpga_power(device, adding)
    assert more is not None
    assert less is not None
    assert 2 < less.value < more.value


@pytest.mark.parametrize("missing", ["static_power", "dsp_energy"])
def test_power_is_unknown_where_a_number_is_missing(network: Workload, missing: str) -> None:
    numbers = {"static_power": quantity(1, "W"), "dsp_energy": quantity(50, "pJ")} | {missing: None}
    device = board(**numbers)
    assert fpga_power(device, design(network, device)) is None
    assert estimate(network, device, bits=8).power is None


def test_estimate_tells_what_it_rests_on_and_what_it_lacks() -> None:
    with pytest.warns(UserWarning, match="not counted"):
        uncounted = trace(nn.Bilinear(3, 4, 5), torch.empty(2, 3), torch.empty(2, 4))
    text = str(estimate(uncounted, LOADED))
    assert "ARITHMETIC NOT COUNTED: aten._trilinear" in text
    assert "peak at 32 bits: 10 GOP/s, derived" in text
    assert "utilisation: 0.5 fraction, derived" in text
    assert "energy an example, power times time: " in text


def test_constants_of_an_fpga_are_its_clock_and_its_processors_only_where_used(network: Workload) -> None:
    assert list(estimate(network, board(), bits=8).constants) == ["engine", "clock", "bandwidth", "launch"]
    normed = workload(gemm(1, 1, 1), other("normalisation", 10, operation="aten.native_layer_norm"))
    assert list(estimate(normed, board()).constants)[-2:] == ["host_element", "host_call"]


def test_table_has_a_row_per_operation(network: Workload) -> None:
    rows = estimate(network, processor()).table()
    assert [row["name"] for row in rows] == [layer.name for layer in network.layers]
    assert {row["bound"] for row in rows} <= {"compute", "memory", "overhead"}
    for row in rows:
        assert row["low_ms"] <= row["latency_ms"] <= row["high_ms"]


def test_text_groups_by_kind_and_bound(network: Workload) -> None:
    lines = str(estimate(network, processor())).splitlines()
    assert lines[0].split() == ["kind", "bound", "operations", "GMAC", "MB", "ms", "low", "high"]
    assert any(line.startswith("convolution") for line in lines)
    assert any(line.startswith("Sequential on toy, batch 1: ") for line in lines)


def test_power_of_a_processor_is_that_of_its_file(network: Workload) -> None:
    assert estimate(network, LOADED).power == Span(3, 2, 6)
    assert estimate(network, processor()).power is None


@pytest.mark.parametrize("batch", [0, 1.5, float("nan"), float("inf"), "2", True])
def test_a_batch_that_is_no_whole_number_is_refused(network: Workload, batch: Any) -> None:
    with pytest.raises(HardwareModelError, match="batch must be a whole number"):
        estimate(network, processor(), batch=batch)


def test_energy_of_an_example_does_not_grow_with_the_batch(network: Workload) -> None:
    one, eight = (estimate(network, LOADED, batch=batch) for batch in (1, 8))
    assert eight.load_energy_mj.value <= one.load_energy_mj.value
    assert eight.energy.compute.value == pytest.approx(one.energy.compute.value)


def test_energy_on_an_fpga_is_stated_at_the_clock_as_given(network: Workload) -> None:
    """Power goes with the clock and time against it: the clock's range must not enter both ways."""
    numbers = {"static_power": quantity(1, "W"), "dsp_energy": quantity(10, "pJ")}
    ranging = estimate(network, board(clock=quantity(100, "MHz", 50, 200), **numbers), bits=8)
    given = estimate(network, board(**numbers), bits=8)
    assert ranging.latency != given.latency
    assert ranging.load_energy_mj == given.load_energy_mj


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_multipliers_in_tables_take_power_too(network: Workload, bits: int) -> None:
    device = load_device("zcu102")
    found = estimate(network.at_bits(bits), device)
    assert found.power is not None
    assert found.power.value > 1.5 * device.need("static_power").value
