"""The best engine: it fits, nothing in the grid beats it, and a larger device never has a worse one."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from hw_models import Device, DeviceError, HardwareModelError, Workload, best_design, estimate
from hw_models.engine import Tilings
from hw_models.fpga import layer_estimates
from hw_models.resources import Resources, available, resources
from hw_models.search import COARSE, FINE, Grid, sweep
from tests.hw.toys import attention, board, convolution, fabric, gemm, other, quantity, workload

GRID = Grid(
    inputs=(4, 6, 16), outputs=(2, 8), heads=(1, 3), rows=(16, 64), depths=(1, 3), widths=(1, 2)
)  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Workload:
    return workload(
        gemm(50, 64, 30, bits=8),
        convolution(6, 9, (12, 12), groups=3),
        attention(3, 17, 17, 8),
        other("normalisation", 500, operation="aten.native_layer_norm"),
    )


def chip(dsp: float = 100, block_rams: float = 60, luts: float = 2e4, flip_flops: float = 2e4) -> Device:
    return board(fabric=fabric(dsp, block_rams, luts, flip_flops))


def latency_ms(network: Workload, device: Device, tilings: Tilings, index: Any) -> float:
    return sum(layer.latency_ms for layer in layer_estimates(network, device, 1, tilings[index]))


def test_grid_holds_every_combination_once() -> None:
    tilings = GRID.tilings()
    each = {str(tilings[index]) for index in range(len(tilings))}
    assert len(each) == len(tilings) == 3 * 2 * 2 * 2 * 2 * 2


@pytest.mark.parametrize("grid", [COARSE, FINE])
def test_buffers_of_a_grid_hold_whole_array_tiles(grid: Grid) -> None:
    tilings = grid.tilings()
    assert not (tilings.depth % (tilings.inputs * tilings.heads)).any()
    assert not (tilings.columns % (tilings.outputs * tilings.heads)).any()


def test_best_design_fits(network: Workload) -> None:
    device = chip(dsp=100)
    design = best_design(network, device, bits=8, grid=GRID)
    assert design.resources.fits(available(device))
    assert design.resources.dsp == design.tiling.macs_per_cycle <= 100


def test_best_design_fits_given_limits(network: Workload) -> None:
    limits = Resources(30, 20, 1e5, 1e5)
    assert best_design(network, chip(), bits=8, grid=GRID, limits=limits).resources.fits(limits)


def test_only_the_usable_share_is_used(network: Workload) -> None:
    half = chip().model_copy(update={"usable": quantity(0.5, "fraction")})
    assert best_design(network, half, bits=8, grid=GRID).resources.dsp <= 50


def test_best_of_a_grid_is_that_of_trying_every_tiling(network: Workload) -> None:
    device, tilings = chip(), GRID.tilings()
    fits = resources(tilings, 8).fits(available(device))
    assert 0 < fits.sum() < len(tilings)
    best = min(latency_ms(network, device, tilings, index) for index in np.flatnonzero(fits))
    assert 1e3 * best_design(network, device, bits=8, grid=GRID).latency_s == pytest.approx(best)


def test_among_equally_fast_designs_the_smallest_is_taken() -> None:
    """A single multiplication takes as long on any number of outputs and heads."""
    grid = Grid(inputs=(4,), outputs=(8, 2, 4), heads=(3, 1), rows=(64, 16), depths=(1,), widths=(3, 1))
    design = best_design(workload(gemm(1, 1, 1)), chip(), bits=8, grid=grid)
    assert (design.tiling.outputs, design.tiling.heads) == (2, 1)
    smallest = sweep(workload(gemm(1, 1, 1)), chip(), bits=8, grid=grid)
    assert design.resources.block_rams == smallest.resources.block_rams[smallest.tilings.outputs == 2].min()


def test_sweep_tells_latency_and_resources_of_all_that_fits(network: Workload) -> None:
    device = chip()
    found = sweep(network, device, bits=8, grid=GRID)
    assert len(found.tilings) == len(found.latency_s) == len(found.resources.dsp)
    needed = resources(found.tilings, 8)
    for field in fields(Resources):
        assert (getattr(needed, field.name) == getattr(found.resources, field.name)).all()


def test_latency_of_the_design_is_that_of_its_estimate(network: Workload) -> None:
    device = chip()
    design = best_design(network, device, bits=8, grid=GRID, images=2)
    assert estimate(network, device, batch=2, design=design).latency_ms == pytest.approx(
        1e3 * design.latency_s
    )


def test_a_grid_of_more_than_a_chunk_is_searched_to_its_end(
    monkeypatch: pytest.MonkeyPatch, network: Workload
) -> None:
    whole = sweep(network, chip(), bits=8, grid=GRID).latency_s
    monkeypatch.setattr("hw_models.search.CHUNK", 7)
    assert sweep(network, chip(), bits=8, grid=GRID).latency_s == pytest.approx(whole)


def test_nothing_fits() -> None:
    with pytest.raises(HardwareModelError, match="no engine of the grid fits toy_board at 8 bits; widen"):
        best_design(workload(gemm(1, 1, 1)), chip(dsp=7), bits=8, grid=GRID)


@pytest.mark.parametrize("field", ["clock", "bandwidth", "launch", "usable", "host_element"])
def test_a_number_that_is_missing_is_named(network: Workload, field: str) -> None:
    with pytest.raises(DeviceError, match=f"toy_board: {field} is not given"):
        best_design(network, chip().model_copy(update={field: None}), bits=8, grid=GRID)


@pytest.mark.parametrize(
    "more",
    [
        {"dsp": 200}, {"block_rams": 120}, {"luts": 4e4}, {"flip_flops": 4e4},
        {"dsp": 1000, "block_rams": 1000, "luts": 1e6, "flip_flops": 1e6},
    ],
)  # fmt: skip
@pytest.mark.parametrize("start", [{}, {"dsp": 24}, {"block_rams": 12}, {"luts": 3e3}, {"flip_flops": 4e3}])
def test_a_larger_device_is_never_slower(
    network: Workload, start: dict[str, float], more: dict[str, float]
) -> None:
    large = {name: max(more.get(name, 0), start.get(name, 0)) for name in {*start, *more}}
    small_s, large_s = (
        best_design(network, chip(**sizes), bits=8, grid=GRID).latency_s for sizes in (start, large)
    )
    assert large_s <= small_s


def test_more_of_a_scarce_resource_is_faster(network: Workload) -> None:
    few, many = (best_design(network, chip(dsp=dsp), bits=8, grid=GRID) for dsp in (16, 100))
    assert many.latency_s < few.latency_s


def test_packing_never_makes_a_design_slower(network: Workload) -> None:
    alone, packed = (best_design(network, chip(24), bits=8, grid=GRID, packing=p) for p in (False, True))
    assert packed.latency_s < alone.latency_s
    assert packed.packing
    assert packed.resources.dsp <= 24


def test_packing_is_refused_above_eight_bits(network: Workload) -> None:
    with pytest.raises(HardwareModelError, match="at most 8 bits, not 9-bit fixed"):
        best_design(network, chip(), bits=9, grid=GRID, packing=True)


@pytest.mark.parametrize("arithmetic", ["power_of_two", "binary"])
def test_multiplication_in_look_up_tables_needs_no_slices(network: Workload, arithmetic: Any) -> None:
    design = best_design(network, chip(dsp=1), bits=8, grid=GRID, arithmetic=arithmetic)
    assert (design.resources.dsp, design.arithmetic) == (0, arithmetic)


def test_text_names_engine_arithmetic_and_resources(network: Workload) -> None:
    text = str(best_design(network, chip(), bits=8, grid=GRID, arithmetic="power_of_two"))
    assert "inputs a cycle" in text
    assert "8-bit power of two; 0 dsp, " in text
    assert " block rams, " in text
