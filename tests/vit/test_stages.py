"""Latency tables and the choice of stages under a budget, by hand."""

from collections.abc import Mapping

import pytest
import torch

from lib.errors import WrongUse
from lib.vit.stages import LatencyTable, choose_stages, latency_tables, merge
from tests.vit.parts import network

TABLE = LatencyTable("bench", (1.0, 0.5), (10.0, 6.0))


def test_latency_between_the_ratios_is_interpolated() -> None:
    assert [TABLE.block(ratio) for ratio in (1.0, 0.75, 0.5)] == [10.0, 8.0, 6.0]


@pytest.mark.parametrize("ratio", [0.49, 0.0, 1.01])
def test_latency_outside_the_table_is_refused(ratio: float) -> None:
    with pytest.raises(WrongUse, match="bench covers keep ratios from"):
        TABLE.block(ratio)
    with pytest.raises(WrongUse, match="bench covers"):
        TABLE.network({2: ratio}, 5)


def test_rounding_of_float32_does_not_leave_the_table() -> None:
    table = LatencyTable("bench", (1.0, 0.7), (10.0, 6.0))
    assert table.block(torch.tensor(0.7).item()) == pytest.approx(6.0)  # 0.69999999


def test_network_latency_adds_blocks_at_their_ratios() -> None:
    # blocks 0, 1 dense; 2, 3 at 0.75; 4 at 0.5
    assert TABLE.network({2: 0.75, 4: 0.5}, 5) == 10 + 10 + 8 + 8 + 6
    assert TABLE.network({}, 3) == 30


@pytest.mark.parametrize(
    ("ratios", "latencies"),
    [((1.0,), (10.0,)), ((1.0, 0.5), (10.0,)), ((0.5, 1.0), (6.0, 10.0)), ((0.9, 0.5), (9.0, 6.0))],
)
def test_table_that_does_not_fall_from_one_is_refused(
    ratios: tuple[float, ...], latencies: tuple[float, ...]
) -> None:
    with pytest.raises(WrongUse, match="keep ratio"):
        LatencyTable("bench", ratios, latencies)


def test_merge_drops_stages_that_hardly_tighten_the_one_before() -> None:
    # 0.95 is within 0.085 of 1; 0.66 within 0.085 of 0.7; 0.60 is not
    assert merge({3: 0.95, 5: 0.7, 7: 0.66, 9: 0.60}, 0.085) == {5: 0.7, 9: 0.60}


def test_merge_compares_with_the_stage_that_stayed() -> None:
    assert merge({3: 0.7, 4: 0.65, 5: 0.6}, 0.085) == {3: 0.7, 5: 0.6}


def test_stages_are_inserted_from_the_back_until_the_budget_is_met() -> None:
    # six blocks cost 60 ms dense; blocks 4 and 5 at one half save 8 ms
    plan = choose_stages(TABLE, 6, 53.0, lambda stages: 0.9, ratios=(0.5, 0.8))
    assert plan.stages == {4: 0.5}
    assert plan.latency_ms == 10 * 4 + 6 * 2
    assert plan.accuracy == 0.9
    assert plan.met


def test_ratio_is_the_smallest_that_accuracy_allows() -> None:
    def accuracy(stages: Mapping[int, float]) -> float:
        return 0.9 - (0.1 if any(ratio < 0.7 for ratio in stages.values()) else 0.0)

    # one block at 0.75 saves 2 ms
    plan = choose_stages(TABLE, 6, 58.0, accuracy, ratios=(0.5, 0.75))
    assert plan.stages == {5: 0.75}
    assert plan.latency_ms == 58
    assert plan.met


def test_budget_that_accuracy_does_not_allow_is_said_not_forced() -> None:
    def accuracy(stages: Mapping[int, float]) -> float:
        return 0.9 if not stages else 0.5

    plan = choose_stages(TABLE, 6, 50.0, accuracy, ratios=(0.5,))
    assert plan.stages == {}
    assert plan.latency_ms == 60
    assert not plan.met


def test_no_stage_goes_in_front_of_the_first_blocks() -> None:
    plan = choose_stages(TABLE, 6, 1.0, lambda stages: 0.9, ratios=(0.5,), first_block=3)
    assert plan.stages == {3: 0.5}
    assert not plan.met


def test_stages_behind_a_stricter_one_keep_no_more_than_it() -> None:
    def accuracy(stages: Mapping[int, float]) -> float:
        return 0.5 if stages.get(5, 1.0) < 0.75 and 4 not in stages else 0.9

    plan = choose_stages(TABLE, 6, 1.0, accuracy, ratios=(0.5, 0.75), first_block=4)
    assert plan.stages == {4: 0.5}


@pytest.mark.parametrize("budget", [0.0, -1.0])
def test_budget_must_be_positive(budget: float) -> None:
    with pytest.raises(WrongUse, match="budget"):
        choose_stages(TABLE, 6, budget, lambda stages: 0.9, ratios=(0.5,))


def test_tables_of_a_block_measured_and_modelled_never_rise() -> None:
    tables = latency_tables(network().blocks[0], 64, 49, (1.0, 0.7, 0.4), ("adreno_640", "zcu102"))
    assert set(tables) == {"this machine", "adreno_640", "zcu102"}
    for table in tables.values():
        assert list(table.block_ms) == sorted(table.block_ms, reverse=True)
        assert table.block_ms[-1] > 0
