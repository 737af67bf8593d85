"""What an engine occupies, by hand."""

import numpy as np
import pytest

from hw_models import DeviceError, HardwareModelError
from hw_models.engine import Tiling, Tilings
from hw_models.resources import (
    BLOCK_RAM_DEPTH,
    BLOCK_RAM_WIDTH,
    WIDEST_OPERAND,
    Arithmetic,
    Resources,
    available,
    resources,
)
from hw_models.rtl.structure import MULTIPLIER_LUTS, datapath
from tests.hw.toys import board, fabric, quantity

SMALL = Tiling(inputs=4, outputs=2, heads=2, rows=8, depth=16, columns=8)
ODD = Tiling(inputs=3, outputs=1, heads=1, rows=5, depth=6, columns=7)
TALL = Tiling(inputs=4, outputs=2, heads=2, rows=1024, depth=16, columns=8)


def of(
    tiling: Tiling, bits: int = 8, *, packing: bool = False, arithmetic: Arithmetic = "fixed"
) -> Resources:
    found = resources(Tilings.of([tiling]), bits, packing=packing, arithmetic=arithmetic)
    return Resources(
        *(float(counts[0]) for counts in (found.dsp, found.block_rams, found.luts, found.flip_flops))
    )


def test_a_slice_for_each_multiplier() -> None:
    assert of(SMALL).dsp == 4 * 2 * 2
    assert of(ODD).dsp == 3


def test_packing_halves_the_slices() -> None:
    assert of(SMALL, packing=True).dsp == 8
    assert of(ODD, packing=True).dsp == 2


def test_block_rams_by_hand() -> None:
    # Inputs: 64 bits a cycle; weights: 128 bits, two wide; results: 4 x 32 bits, two wide. None is deep.
    assert of(SMALL).block_rams == 1 + 2 + 2


def test_deep_buffers_take_more_block_rams_by_hand() -> None:
    # 2 pages x 1024 rows x 2 words of inputs, and as many of results: eight memories deep, one and two wide.
    assert of(TALL).block_rams == 8 + 2 + 8 * 2


def test_wider_operands_take_wider_memories() -> None:
    # 128 bits of inputs and 256 of weights: two and four wide; results stay as they are.
    assert of(SMALL, bits=16).block_rams == 2 + 4 + 2


@pytest.mark.parametrize("tiling", [SMALL, ODD, TALL, Tiling(5, 3, 4, 100, 40, 36)])
@pytest.mark.parametrize("bits", [5, 8, 16])
def test_block_rams_hold_both_pages_of_all_buffers(tiling: Tiling, bits: int) -> None:
    operands = (tiling.rows + tiling.columns) * tiling.depth * bits
    results = tiling.rows * tiling.columns * 32
    assert of(tiling, bits).block_rams * BLOCK_RAM_WIDTH * BLOCK_RAM_DEPTH >= 2 * (operands + results)


@pytest.mark.parametrize("bits", [8, 16])
def test_look_up_tables_and_flip_flops_are_those_of_the_verilog(bits: int) -> None:
    _, luts, flip_flops = datapath((4, 2, 2), bits)
    assert (of(SMALL, bits).luts, of(SMALL, bits).flip_flops) == (luts, flip_flops)


@pytest.mark.parametrize("bits", range(2, 17))
def test_no_multiplier_is_both_a_slice_and_look_up_tables(bits: int) -> None:
    _, luts, _ = datapath((4, 2, 2), bits)
    without_multipliers = luts - 16 * MULTIPLIER_LUTS.get(bits, 0)
    found = of(SMALL, bits)
    assert (found.dsp > 0) == (found.luts == without_multipliers)


@pytest.mark.parametrize(("arithmetic", "per_multiplier"), [("power_of_two", 8 * 2 * 2), ("binary", 8)])
def test_multiplication_in_look_up_tables_by_hand(arithmetic: Arithmetic, per_multiplier: int) -> None:
    """Two levels of 4-to-1 multiplexers, 16 bits wide, shift 8 bits; 8 adder bits add or subtract them."""
    fixed, found = of(SMALL), of(SMALL, arithmetic=arithmetic)
    assert found.dsp == 0
    assert found.luts == fixed.luts + 16 * per_multiplier
    assert (found.block_rams, found.flip_flops) == (fixed.block_rams, fixed.flip_flops)


@pytest.mark.parametrize(("bits", "slices"), [(16, 2), (32, 4)])
def test_a_floating_point_multiplier_takes_several_slices(bits: int, slices: int) -> None:
    assert of(SMALL, bits, arithmetic="float").dsp == 16 * slices


@pytest.mark.parametrize("bits", [8, 24])
def test_other_floating_point_numbers_are_refused(bits: int) -> None:
    with pytest.raises(HardwareModelError, match=f"16 or 32 bits here, not {bits}"):
        of(SMALL, bits, arithmetic="float")


@pytest.mark.parametrize(("arithmetic", "per_multiplier"), [("power_of_two", 8), ("binary", 4)])
def test_narrow_shifts_and_additions_bring_no_multipliers(
    arithmetic: Arithmetic, per_multiplier: int
) -> None:
    """Four bits take one level of 4-to-1 multiplexers, 8 bits wide, or four adder bits."""
    _, luts, _ = datapath((4, 2, 2), 4)
    adders = luts - 16 * MULTIPLIER_LUTS[4]
    assert of(SMALL, 4, arithmetic=arithmetic).luts == adders + 16 * per_multiplier


@pytest.mark.parametrize("bits", [-8, 0, 1, WIDEST_OPERAND + 1, 32])
def test_widths_that_the_engine_cannot_have_are_refused(bits: int) -> None:
    with pytest.raises(HardwareModelError, match=rf"bits must be 2 to {WIDEST_OPERAND}, got {bits}"):
        of(SMALL, bits)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 15, WIDEST_OPERAND])
def test_widths_within_the_stated_limits_are_accepted(bits: int) -> None:
    assert of(SMALL, bits).dsp >= 0


@pytest.mark.parametrize(
    ("bits", "arithmetic"), [(9, "fixed"), (16, "fixed"), (8, "binary"), (8, "power_of_two")]
)
def test_packing_where_it_does_not_apply_is_refused(bits: int, arithmetic: Arithmetic) -> None:
    with pytest.raises(HardwareModelError, match=f"at most 8 bits, not {bits}-bit {arithmetic}"):
        of(SMALL, bits, packing=True, arithmetic=arithmetic)


def test_many_tilings_at_once_equal_each_alone() -> None:
    together = resources(Tilings.of([SMALL, ODD, TALL, SMALL]), 8)
    for index, tiling in enumerate([SMALL, ODD, TALL, SMALL]):
        alone = of(tiling)
        found = (together.dsp, together.block_rams, together.luts, together.flip_flops)
        assert [float(counts[index]) for counts in found] == [
            alone.dsp, alone.block_rams, alone.luts, alone.flip_flops
        ]  # fmt: skip


def test_available_is_the_usable_share() -> None:
    device = board(fabric=fabric(100, 40, 2000, 4000), usable=quantity(0.5, "fraction"))
    assert available(device) == Resources(50, 20, 1000, 2000)


@pytest.mark.parametrize("missing", ["dsp", "block_rams", "luts", "flip_flops"])
def test_a_missing_resource_is_named(missing: str) -> None:
    part = {name: count for name, count in fabric(100).items() if name != missing}
    with pytest.raises(DeviceError, match=rf"toy_board: fabric\.{missing} is not given"):
        available(board(fabric=part))


def test_a_missing_usable_share_is_named() -> None:
    with pytest.raises(DeviceError, match="toy_board: usable is not given"):
        available(board(usable=None))


@pytest.mark.parametrize("short", ["dsp", "block_rams", "luts", "flip_flops"])
def test_a_design_fits_only_if_no_resource_is_short(short: str) -> None:
    needed = Resources(10, 10, 10, 10)
    limits = {"dsp": 10, "block_rams": 10, "luts": 10, "flip_flops": 10}
    assert needed.fits(Resources(**limits))
    assert not needed.fits(Resources(**limits | {short: 9.9}))


def test_fitting_is_told_for_each_of_many() -> None:
    needed = Resources(*(np.array([1, 2, 3]) for _ in range(4)))
    assert needed.fits(Resources(2, 9, 9, 9)).tolist() == [True, True, False]
