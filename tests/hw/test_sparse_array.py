"""Cycles of sparse PE arrays: by hand, against an exact solver, and in the directions they may never err."""

import csv
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models.block_speedup import ArrayDesign, ConvLayer, block_speedup, resnet18
from hw_models.csb import KernelGrid, dense, project
from hw_models.csb_sharing import Sharing, share
from hw_models.errors import HardwareModelError
from hw_models.reference_points import points
from hw_models.sparse_array import PEArray, SparseCycles, check_constraints, cycles
from hw_models.unstructured_array import bank_balanced_cycles, ese_cycles, row_balanced_cycles

SHARINGS: tuple[Sharing, ...] = get_args(Sharing)
TWO = PEArray(2, 2, 4, 4)
BASE = PEArray(4, 4, 4, 4)


def grid(rows: list[list[int]], columns: list[list[int]]) -> KernelGrid:
    return KernelGrid(np.array(rows), np.array(columns))


@st.composite
def grids(draw: st.DrawFn) -> KernelGrid:
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    high, wide = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    return KernelGrid(rng.integers(0, high + 1, shape), rng.integers(0, wide + 1, shape))


@st.composite
def arrays(draw: st.DrawFn) -> PEArray:
    return PEArray(*(draw(st.integers(1, 4)) for _ in range(4)))


# One big kernel of 2 x 2 tiles beside three of one tile.
UNEVEN = grid([[8, 4], [4, 4]], [[8, 4], [4, 4]])


@pytest.mark.parametrize(
    ("sharing", "taken"),
    [
        ("none", 4),
        ("horizontal", 3),  # gives one of two tile rows: 2 and 3
        ("vertical", 3),  # gives one of two tile columns: 2 and 3
        ("2d", 2),  # gives 2 right and 1 down; the right one gives its own tile on around the torus
    ],
)
def test_four_groups_by_hand(sharing: Sharing, taken: int) -> None:
    result = cycles(UNEVEN, TWO, sharing)
    assert result.cycles == taken
    assert result.macs == 64 + 3 * 16
    assert result.utilisation == pytest.approx(112 / (taken * 64))
    assert result.ideal == 2
    assert result.balance == result.utilisation  # all sizes are whole passes


def test_edges_cost_whole_passes() -> None:
    result = cycles(grid([[5, 1], [4, 4]], [[5, 1], [4, 4]]), TWO, "none")
    assert result.cycles == 4  # ceil(5 / 4) squared
    assert result.macs == 25 + 1 + 32
    assert result.utilisation == pytest.approx(58 / (4 * 64))
    assert result.balance == pytest.approx(7 / (4 * 4))


def test_rows_go_with_pe_rows_and_columns_with_pe_columns() -> None:
    kernels = grid([[6]], [[9]])
    assert cycles(kernels, PEArray(1, 1, 6, 3), "none").cycles == 3
    assert cycles(kernels, PEArray(1, 1, 3, 6), "none").cycles == 4


def test_iterations_add_up() -> None:
    rows = np.array([[8, 4, 4, 12]])
    kernels = KernelGrid(rows, np.full_like(rows, 4))
    assert cycles(kernels, PEArray(1, 2, 4, 4), "none").cycles == 2 + 3
    assert cycles(kernels, PEArray(1, 3, 4, 4), "none").cycles == 2 + 3  # the second one has two empty groups


def test_vertical_sharing_gives_at_most_half_the_columns() -> None:
    column = PEArray(2, 1, 4, 4)
    assert cycles(grid([[4], [0]], [[16], [0]]), column, "vertical").cycles == 2
    assert cycles(grid([[4], [0]], [[12], [0]]), column, "vertical").cycles == 2  # 1 of 3
    # four rows of one tile: horizontally all of them could go, vertically none
    assert cycles(grid([[16], [0]], [[4], [0]]), column, "vertical").cycles == 4
    assert cycles(grid([[16, 0]], [[4, 0]]), PEArray(1, 2, 4, 4), "horizontal").cycles == 2


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_sharing_along_a_ring_is_optimal(seed: int, length: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 5, (2, 1, 1, length))
    best = min(
        (a * b - np.array(given) * b + np.roll(np.array(given) * b, 1)).max()
        for given in product(*(range(most + 1) for most in a.ravel()))
    )
    assert share(a, b, "horizontal").slowest(a, b).item() == best


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_sharing_both_ways_is_optimal_on_small_arrays(seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 4, (2, 1, 2, 2))

    def gifts(high: int, wide: int) -> set[tuple[int, int]]:
        cuts = list(product(range(high + 1), range(wide // 2 + 1)))
        by_rows = {(h * wide, v * (high - h)) for h, v in cuts}
        return by_rows | {(h * (wide - v), v * high) for h, v in cuts}

    choices = [gifts(high, wide) for high, wide in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)]
    best = 10**9
    work = (a * b).ravel().tolist()
    for (r0, d0), (r1, d1), (r2, d2), (r3, d3) in product(*choices):
        loads = (
            work[0] - r0 - d0 + r1 + d2,
            work[1] - r1 - d1 + r0 + d3,
            work[2] - r2 - d2 + r3 + d0,
            work[3] - r3 - d3 + r2 + d1,
        )
        best = min(best, max(loads))
    assert share(a, b, "2d").slowest(a, b).item() == best


def z3_cases() -> list[dict[str, str]]:
    text = (files("hw_models") / "reference/csb_sharing_z3.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def on_case(case: dict[str, str]) -> tuple[PEArray, SparseCycles]:
    down, across, p, q = (int(case[key]) for key in ("group_rows", "group_columns", "pe_rows", "pe_columns"))
    rows, columns = (
        np.array(case[key].split(), dtype=int).reshape(down, across) for key in ("rows", "columns")
    )
    array = PEArray(down, across, p, q)
    return array, cycles(KernelGrid(rows, columns), array, "2d")


@pytest.mark.parametrize("case", z3_cases(), ids=lambda case: case["seed"])
def test_two_dimensional_sharing_against_z3(case: dict[str, str]) -> None:
    array, result = on_case(case)
    # a load is whole passes, so one cycle is the smallest step; Z3's least load is proven
    assert case["proven"] == "1"
    assert int(case["least_load"]) <= result.cycles <= int(case["least_load"]) + 1
    assert result.cycles <= int(case["margin_load"]) + 1
    check_constraints(result.assignment, array, margin=float(result.assignment.margin.max()))


def test_two_dimensional_sharing_is_as_good_as_z3_in_all() -> None:
    cases = z3_cases()
    assert len(cases) == 56
    ours = [on_case(case)[1].cycles for case in cases]
    # the limit on the search leaves one cycle in one case out of nineteen
    assert sum(one > int(case["least_load"]) for one, case in zip(ours, cases, strict=True)) <= 3
    assert sum(ours) <= 1.005 * sum(int(case["margin_load"]) for case in cases)


@settings(deadline=None, max_examples=60)
@given(grids(), arrays())
def test_what_holds_of_every_array(kernels: KernelGrid, array: PEArray) -> None:
    taken: dict[Sharing, int] = {}
    for sharing in SHARINGS:
        result = cycles(kernels, array, sharing)
        taken[sharing] = result.cycles
        check_constraints(result.assignment, array, margin=float(result.assignment.margin.max()))
        loads = result.assignment.loads
        assert loads.min() >= 0
        assert loads.sum() == (result.assignment.rows * result.assignment.columns).sum() >= result.macs
        assert loads.max(axis=(1, 2)).sum() == result.cycles * array.pe_rows * array.pe_columns
        assert result.cycles >= result.ideal >= result.macs / array.pes
        assert 0 <= result.utilisation <= result.balance <= 1
    assert taken["2d"] <= min(taken["horizontal"], taken["vertical"])
    assert max(taken["horizontal"], taken["vertical"]) <= taken["none"]


@pytest.mark.parametrize("sharing", SHARINGS)
def test_dense_kernels_take_the_dense_arrays_time(sharing: Sharing) -> None:
    result = cycles(dense((128, 256), 16).kernels, BASE, sharing)
    assert result.cycles == 128 * 256 // BASE.pes
    assert result.utilisation == result.balance == 1


@pytest.mark.parametrize("sharing", SHARINGS)
def test_one_group_shares_nothing(sharing: Sharing) -> None:
    assert cycles(UNEVEN, PEArray(1, 1, 4, 4), sharing).cycles == 7


@pytest.mark.parametrize("sharing", SHARINGS)
def test_nothing_to_do_takes_no_time(sharing: Sharing) -> None:
    result = cycles(grid([[0, 3]], [[5, 0]]), BASE, sharing)
    assert (result.cycles, result.macs, result.utilisation, result.ideal) == (0, 0, 0, 0)


@settings(deadline=None, max_examples=30)
@given(grids(), st.sampled_from(SHARINGS), st.integers(0, 99))
def test_order_of_block_rows_is_irrelevant_where_each_is_its_own_iteration(
    kernels: KernelGrid, sharing: Sharing, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(kernels.rows))
    shuffled = KernelGrid(kernels.rows[order], kernels.columns[order])
    array = PEArray(1, 3, 4, 4)
    assert cycles(shuffled, array, sharing).cycles == cycles(kernels, array, sharing).cycles


@settings(deadline=None, max_examples=30)
@given(grids(), st.integers(0, 99))
def test_order_within_an_iteration_is_irrelevant_without_sharing(kernels: KernelGrid, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(kernels.rows))
    shuffled = KernelGrid(kernels.rows[order], kernels.columns[order])
    array = PEArray(9, 2, 4, 4)  # all block rows in one iteration
    assert cycles(shuffled, array, "none").cycles == cycles(kernels, array, "none").cycles


def test_turning_around_the_torus_changes_nothing() -> None:
    kernels = project(np.random.default_rng(0).standard_normal((128, 128)), 8, 32).kernels
    turned = KernelGrid(np.roll(kernels.rows, 1, axis=1), np.roll(kernels.columns, 1, axis=1))
    for sharing in ("none", "horizontal", "vertical"):  # exact; the limited search may differ
        assert cycles(turned, BASE, sharing).cycles == cycles(kernels, BASE, sharing).cycles


def test_assignment_is_deterministic() -> None:
    kernels = project(np.random.default_rng(0).standard_normal((300, 170)), 8, 32).kernels
    first, second = (cycles(kernels, BASE, "2d").assignment for _ in range(2))
    assert np.array_equal(first.loads, second.loads)
    assert np.array_equal(first.horizontal_rows, second.horizontal_rows)
    assert np.array_equal(first.vertical_columns, second.vertical_columns)


@pytest.mark.parametrize(
    ("field", "change", "constraint"),
    [
        ("horizontal_rows", -4, "1"),
        ("vertical_columns", 400, "2"),
        ("vertical_rows", -4, "3 or 4"),
        ("horizontal_columns", -1, "3 or 4"),
    ],
)
def test_broken_assignment_is_noticed(field: str, change: int, constraint: str) -> None:
    kernels = project(np.random.default_rng(0).standard_normal((128, 128)), 2, 32).kernels
    assignment = cycles(kernels, BASE, "2d").assignment
    broken = replace(assignment, **{field: getattr(assignment, field) + change})
    with pytest.raises(HardwareModelError, match=f"constraint {constraint}"):
        check_constraints(broken, BASE, margin=1e9)


def test_partial_passes_and_narrow_margins_are_noticed() -> None:
    assignment = cycles(UNEVEN, TWO, "horizontal").assignment
    with pytest.raises(HardwareModelError, match="constraint 6"):
        check_constraints(assignment, PEArray(2, 2, 3, 4), margin=1e9)
    check_constraints(assignment, TWO, margin=20)  # loads of 2, 3, 1, 1 passes of 16 around a mean of 28
    with pytest.raises(HardwareModelError, match="constraint 7"):
        check_constraints(assignment, TWO, margin=19)


@pytest.mark.parametrize(("depth", "taken"), [(None, 3), (3, 3), (2, 3), (1, 5)])
def test_interleaved_rows_by_hand(depth: int | None, taken: int) -> None:
    # two PEs with rows 0 and 2, and rows 1 and 3: 2, 1, 0 and 0, 2, 1 weights in the three columns
    mask = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 1]])
    result = ese_cycles(mask, 2, depth)
    assert (result.macs, result.cycles) == (6, taken)
    assert result.utilisation == pytest.approx(6 / (2 * taken))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 6))
def test_queues_lie_between_their_bounds(seed: int, pes: int, depth: int) -> None:
    mask = np.random.default_rng(seed).random((17, 13)) < 0.3
    work = np.pad(mask, ((0, -17 % pes), (0, 0))).reshape(-1, pes, 13).sum(axis=0)
    endless, shallow = ese_cycles(mask, pes, None), ese_cycles(mask, pes, 1)
    assert endless.cycles == work.sum(axis=1).max()
    assert shallow.cycles == work.max(axis=0).sum()
    assert shallow.cycles >= ese_cycles(mask, pes, depth).cycles >= ese_cycles(mask, pes, depth + 1).cycles
    assert ese_cycles(mask, pes, depth).cycles >= endless.cycles >= mask.sum() / pes
    assert 0 <= shallow.utilisation <= endless.utilisation <= 1


def test_balanced_rows_use_every_pe_but_in_the_last_round() -> None:
    assert row_balanced_cycles(rows=64, nonzeros_per_row=5, pes=16).utilisation == 1
    assert row_balanced_cycles(rows=65, nonzeros_per_row=5, pes=16).cycles == 25
    balanced = bank_balanced_cycles(rows=30, banks=4, nonzeros_per_bank=3, lanes=8)
    assert (balanced.cycles, balanced.macs) == (12, 360)
    assert balanced.utilisation == pytest.approx(360 / (12 * 32))


STAGE = tuple(layer for layer in resnet18() if layer.name.startswith(("layer2", "layer3.0")))
DESIGN = ArrayDesign(BASE, copies=16, clock_mhz=200, bandwidth_gbs=17.1)
FIG9: tuple[tuple[int, int] | None, ...] = ((1, 1), (16, 16), (32, 32), None)


def speedup(
    block: tuple[int, int] | None, rate: float = 6.0, design: ArrayDesign = DESIGN, seed: int = 0
) -> float:
    return block_speedup(STAGE, block, rate, design, np.random.default_rng(seed)).compute_speedup


def fig9() -> list[dict[str, Any]]:
    return [point.model_dump() for point in points("block_speedup_zcu102")]


def test_resnet18_has_its_published_size() -> None:
    layers = resnet18()
    assert len(layers) == 21
    assert sum(layer.weights for layer in layers) == 11_689_512 - 9_600 - 1_000  # less normalisation and bias
    assert sum(layer.weights * layer.output_side**2 for layer in layers) == 1_814_073_344


@pytest.mark.parametrize("block", [(16, 16), (32, 32), None])
def test_rate_of_one_is_as_fast_as_dense(block: tuple[int, int] | None) -> None:
    assert speedup(block, rate=1) == pytest.approx(1)


def test_larger_blocks_gain_more_and_more_than_published() -> None:
    gains = [speedup(block) for block in FIG9]
    published = {row["block"] or "": float(row["speedup"]) for row in fig9()}
    assert gains == sorted(gains)
    assert gains[-1] <= 6.05  # the rate, but for rounding to whole columns
    # even a whole matrix gains 3.6 of 6 in the paper, so more than balance is lost there
    for block, gain in zip(FIG9[1:], gains[1:], strict=True):
        assert gain > published[str(block[0]) if block else ""] + 0.05


def test_unstructured_rows_use_one_row_of_pes() -> None:
    # rounding and imbalance keep the model below rate / P, which is what is published
    (published,) = (float(row["speedup"]) for row in fig9() if row["block"] == "1")
    assert published == pytest.approx(6 / BASE.pe_rows, abs=0.05)
    assert 0.8 * published < speedup((1, 1)) <= published


def test_memory_hides_part_of_the_gain() -> None:
    fast, slow = (
        block_speedup(STAGE, None, 6, replace(DESIGN, bandwidth_gbs=bandwidth), np.random.default_rng(0))
        for bandwidth in (1e6, 1.0)
    )
    assert fast.speedup == pytest.approx(fast.compute_speedup)
    assert fast.memory_bound == 0
    assert slow.memory_bound == 1
    assert slow.speedup < fast.speedup


def test_layers_kept_dense_gain_nothing() -> None:
    names = tuple(layer.name for layer in STAGE)
    kept = block_speedup(STAGE, (16, 16), 6, DESIGN, np.random.default_rng(0), dense_layers=names)
    assert kept.rate == kept.speedup == 1


def test_sharing_helps_block_pruning() -> None:
    assert speedup((16, 16)) > 1.5 * speedup((16, 16), design=replace(DESIGN, sharing="none"))


@pytest.mark.parametrize("layer", [ConvLayer("odd", 13, 37, 3, 9, 9), ConvLayer("point", 30, 50, 1, 1, 1)])
@pytest.mark.parametrize("block", [(16, 16), (5, 7), (1, 1), None])
def test_odd_layers_are_priced(layer: ConvLayer, block: tuple[int, int] | None) -> None:
    result = block_speedup((layer,), block, 4, DESIGN, np.random.default_rng(0))
    assert 2.5 < result.rate < 6
    assert 0 < result.compute_speedup <= 1.3 * result.rate


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: PEArray(0, 1, 1, 1), "group_rows"),
        (lambda: PEArray(1, -1, 1, 1), "group_columns"),
        (lambda: PEArray(1, 1, 0, 1), "pe_rows"),
        (lambda: PEArray(1, 1, 1, 1.5), "pe_columns"),  # type: ignore[arg-type]
        (lambda: cycles(UNEVEN, TWO, "diagonal"), "sharing"),  # type: ignore[arg-type]
        (lambda: ese_cycles(np.ones(3), 2, None), "mask"),
        (lambda: ese_cycles(np.ones((2, 2)), 0, None), "pes"),
        (lambda: ese_cycles(np.ones((2, 2)), 2, 0), "queue_depth"),
        (lambda: row_balanced_cycles(1, 0, 1), "nonzeros_per_row"),
        (lambda: bank_balanced_cycles(1, 1, 1, 0), "lanes"),
        (lambda: ArrayDesign(BASE, 0, 200, 17), "copies"),
        (lambda: ArrayDesign(BASE, 1, 0, 17), "clock_mhz"),
        (lambda: ArrayDesign(BASE, 1, 200, float("nan")), "bandwidth_gbs"),
        (lambda: speedup((0, 4)), "block"),
        (lambda: speedup((4, 4), rate=0.5), "rate"),
        (lambda: block_speedup((), None, 2, DESIGN, np.random.default_rng(0)), "layers"),
        (lambda: block_speedup(STAGE, None, 2, DESIGN, np.random.default_rng(0), ("x",)), "dense_layers"),
    ],
)
def test_malformed_arguments_are_named(call: Callable[[], object], field: str) -> None:
    with pytest.raises(HardwareModelError, match=field):
        call()
