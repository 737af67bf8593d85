"""Bisection: monotone cost, budgets kept, ends, and budgets that cannot be met."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.cnn.bisection import HALVINGS, bisect, largest_tau, proportional, rounded, widths_at
from lib.cnn.sites import Site
from lib.errors import ReproError, WrongUse

CHANNELS = {"a": 16, "b": 40, "c": 96}
BLOCKS = {name: (Site(f"{name}.0", width, (f"{name}.0",), (), (), ()),) for name, width in CHANNELS.items()}
ANY = st.fixed_dictionaries({name: st.floats(0.01, 10) for name in CHANNELS})


def cost(kept: Mapping[str, int]) -> int:
    return sum(weight * kept.get(f"{n}.0", CHANNELS[n]) for weight, n in ((7, "a"), (3, "b"), (1, "c")))


@settings(max_examples=50, deadline=None)
@given(importance=ANY, multiple=st.integers(1, 9), taus=st.lists(st.floats(0, 1000), min_size=2, max_size=8))
def test_cost_never_falls_with_tau(importance: dict[str, float], multiple: int, taus: list[float]) -> None:
    costs = [
        cost(widths_at(tau, BLOCKS, importance, multiple=multiple, least=0.1)[1]) for tau in sorted(taus)
    ]
    assert costs == sorted(costs)


@settings(max_examples=50, deadline=None)
@given(importance=ANY, share=st.floats(0.3, 1.2))
def test_budget_is_never_exceeded_and_nearly_used(importance: dict[str, float], share: float) -> None:
    budget = share * cost({})
    found = bisect(BLOCKS, importance, cost, budget, multiple=1)
    assert found.macs == cost(found.kept) <= budget
    assert found.halvings <= HALVINGS
    # one stair more of tau would be too much
    end = largest_tau(importance)
    more = widths_at(
        min(end, found.tau * 1.001 + 2 * end / 2**HALVINGS), BLOCKS, importance, multiple=1, least=0.1
    )[1]
    assert (budget - found.macs) / budget <= 0.005 or cost(more) > budget or found.kept == more


def test_whole_budget_keeps_everything() -> None:
    found = bisect(BLOCKS, {"a": 1, "b": 0.5, "c": 0.1}, cost, cost({}))
    assert found.kept == {f"{name}.0": width for name, width in CHANNELS.items()}
    assert found.halvings == 0


def test_equal_importances_are_one_keep_ratio() -> None:
    found = bisect(BLOCKS, dict.fromkeys(CHANNELS, 3.0), cost, 0.5 * cost({}), multiple=1)
    assert len(set(found.keep.values())) == 1


def test_more_important_blocks_keep_more() -> None:
    keep = bisect(BLOCKS, {"a": 1.0, "b": 0.5, "c": 0.25}, cost, 0.5 * cost({}), multiple=1).keep
    assert keep["a"] > keep["b"] > keep["c"]


def test_a_block_of_no_importance_goes_to_the_least() -> None:
    found = bisect(BLOCKS, {"a": 1.0, "b": 1.0, "c": 0.0}, cost, 0.8 * cost({}), multiple=1)
    assert found.keep["c"] == 0.1


def test_another_map_can_be_used() -> None:
    def root(importance: Mapping[str, float], tau: float) -> dict[str, float]:
        return {name: value**0.5 for name, value in proportional(importance, tau).items()}

    found = bisect(BLOCKS, {"a": 1, "b": 0.5, "c": 0.1}, cost, 0.6 * cost({}), keep_map=root, multiple=1)
    assert cost({}) * 0.5 < found.macs <= 0.6 * cost({})


@pytest.mark.parametrize(
    ("keep", "channels", "multiple", "width"),
    [(0.5, 16, 8, 8), (0.75, 16, 8, 16), (0.0, 16, 8, 8), (1.0, 20, 8, 20), (0.9, 20, 8, 16), (0.1, 5, 8, 5)],
)
def test_rounding_by_hand(keep: float, channels: int, multiple: int, width: int) -> None:
    assert rounded(keep, channels, multiple) == width


def test_impossible_budget_says_what_would_be_possible() -> None:
    with pytest.raises(ReproError, match=r"budget of 0\.000 MMACs is impossible: .* costs 0\.000"):
        bisect(BLOCKS, dict.fromkeys(CHANNELS, 1.0), cost, 20)


@pytest.mark.parametrize(("multiple", "least"), [(0, 0.1), (8, -0.1), (8, 1.5)])
def test_senseless_settings_are_refused(multiple: int, least: float) -> None:
    with pytest.raises(WrongUse, match="multiple must be"):
        bisect(BLOCKS, dict.fromkeys(CHANNELS, 1.0), cost, 100, multiple=multiple, least=least)
