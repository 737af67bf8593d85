"""Verdicts: each rule of judging, on claims and observations made by hand."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from lib.engine.claims import Claim
from lib.engine.verdicts import Observations, State, Verdict, judge, judge_without_runs

SEEN = {"url": "https://example.org/paper", "confidence": "seen"}
COMMON = {"id": "c1", "statement": "It is so.", "where": "abstract", "source": SEEN, "evidence": "analytic"}
VALUE = {
    "kind": "value",
    "metric": "gmacs",
    "paper": {"value": 2.0, "unit": "GMAC"},
    "tolerance": {"absolute": 0.1, "why": "two digits"},
}
ORDERING = {"kind": "ordering", "better": "soft", "worse": "hard", "evidence": "measured"}
TREND = {"kind": "trend", "metrics": ["low", "mid", "top"], "direction": "increasing", "evidence": "measured"}


def make(**fields: Any) -> Claim:
    claim: Claim = TypeAdapter(Claim).validate_python({**COMMON, **fields})
    return claim


def seen(profile: str = "paper", unit: str = "", **metrics: float | list[float]) -> Observations:
    """Observations with one value per seed and one unit for all."""
    lists = {name: value if isinstance(value, list) else [value] for name, value in metrics.items()}
    values = {name: dict(enumerate(values)) for name, values in lists.items()}
    return Observations(profile=profile, origin="run", values=values, units=dict.fromkeys(lists, unit))


def verdict_of(fields: dict[str, Any], observations: Observations) -> Verdict:
    return judge(make(**fields), observations, "toy")


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (2.0, State.REPRODUCED),
        (2.1, State.REPRODUCED),
        (1.9, State.REPRODUCED),
        (2.11, State.NOT_REPRODUCED),
        (1.0, State.NOT_REPRODUCED),
    ],
)
def test_a_value_is_compared_with_its_tolerance(value: float, state: State) -> None:
    assert verdict_of(VALUE, seen(unit="GMAC", gmacs=value)).state is state


def test_a_value_whose_floor_reaches_across_the_edge_is_inconclusive() -> None:
    assert verdict_of({**VALUE, "floor": 0.05}, seen(unit="GMAC", gmacs=2.08)).state is State.INCONCLUSIVE


def test_a_value_whose_seeds_scatter_across_the_edge_is_inconclusive() -> None:
    verdict = verdict_of(VALUE, seen(unit="GMAC", gmacs=[1.7, 2.0, 2.3, 2.1, 1.9]))
    assert verdict.state is State.INCONCLUSIVE
    assert verdict.seeds == (0, 1, 2, 3, 4)


def test_a_range_with_relative_tolerance_is_widened_at_both_ends() -> None:
    fields = {**VALUE, "paper": {"low": 26, "high": 41, "unit": "percent"}}
    fields["tolerance"] = {"relative": 0.1, "why": "rounding"}
    assert verdict_of(fields, seen(unit="percent", gmacs=45.0)).state is State.REPRODUCED
    assert verdict_of(fields, seen(unit="percent", gmacs=23.0)).state is State.NOT_REPRODUCED


def test_a_reason_has_numbers_and_units() -> None:
    reason = verdict_of(VALUE, seen(unit="GMAC", gmacs=2.6)).reason
    assert reason == "Counted 2.6 GMAC, 0.5 GMAC above what the paper's 2 ± 0.1 GMAC allows."


def test_whole_numbers_are_shown_in_full() -> None:
    fields = {**VALUE, "paper": {"value": 22071454}, "tolerance": {"absolute": 0, "why": "a count"}}
    verdict = verdict_of(fields, seen(gmacs=22071455))
    assert (verdict.measured, verdict.state) == ("22,071,455", State.NOT_REPRODUCED)


def test_a_recalled_figure_settles_nothing_but_shows_the_measurement() -> None:
    verdict = verdict_of({**VALUE, "source": {"confidence": "recalled"}}, seen(unit="GMAC", gmacs=2.0))
    assert (verdict.state, verdict.measured) == (State.NOT_ASSESSED, "2 GMAC")
    assert "recalled" in verdict.reason


def test_an_unsettled_claim_gives_its_own_reason() -> None:
    verdict = verdict_of({**VALUE, "unsettled": "needs the phone"}, seen(unit="GMAC", gmacs=2.0))
    assert verdict.state is State.NOT_ASSESSED
    assert verdict.reason == "No run can settle this: needs the phone."
    assert verdict.command == ""


def test_an_unsettled_claim_needs_no_metric() -> None:
    assert verdict_of({**VALUE, "unsettled": "needs the phone"}, seen()).state is State.NOT_ASSESSED


def test_a_smaller_profile_answers_with_the_command_that_settles() -> None:
    verdict = verdict_of(
        {**VALUE, "needs": {"profile": "paper", "seeds": 1}}, seen("small", "GMAC", gmacs=2.0)
    )
    assert verdict.state is State.NOT_ASSESSED
    assert verdict.command == "./repro audit toy --profile paper"


def test_a_missing_metric_is_an_error_that_says_why() -> None:
    observations = Observations("smoke", "run", {}, {}, trouble="seed 0: kernel died")
    verdict = verdict_of(VALUE, observations)
    assert verdict.state is State.ERROR
    assert verdict.reason == "Metric gmacs is missing: seed 0: kernel died."


def test_another_unit_is_an_error() -> None:
    verdict = verdict_of(VALUE, seen(unit="MMAC", gmacs=2.0))
    assert (verdict.state, verdict.reason) == (State.ERROR, "Metric gmacs is in MMAC, the card in GMAC.")


def test_two_units_in_one_comparison_are_an_error() -> None:
    values = {"soft": {0: 1.0}, "hard": {0: 1.0}}
    observations = Observations("paper", "run", values, {"soft": "percent", "hard": ""})
    assert verdict_of({**ORDERING, "evidence": "modelled"}, observations).state is State.ERROR


def test_a_value_that_is_not_finite_is_an_error() -> None:
    assert verdict_of(VALUE, seen(unit="GMAC", gmacs=float("nan"))).state is State.ERROR


def test_a_ratio_is_paired_per_seed() -> None:
    fields = {**VALUE, "kind": "ratio", "baseline": "dense", "paper": {"value": 2.0}}
    verdict = verdict_of(fields, seen(gmacs=[2.0, 20.0, 6.0], dense=[1.0, 10.0, 3.0]))
    assert verdict.state is State.REPRODUCED
    assert verdict.interval is not None
    assert verdict.interval.low == verdict.interval.high == 2.0


def test_a_ratio_over_zero_is_an_error() -> None:
    fields = {**VALUE, "kind": "ratio", "baseline": "dense", "paper": {"value": 2.0}}
    assert verdict_of(fields, seen(gmacs=1.0, dense=0.0)).state is State.ERROR


BASE = [70.0, 75.0, 60.0, 72.0, 66.0]


def plus(*gains: float) -> list[float]:
    return [value + gain for value, gain in zip(BASE, gains, strict=True)]


@pytest.mark.parametrize(
    ("gains", "state"),
    [
        ((1.0, 1.5, 0.8, 1.2, 2.0), State.REPRODUCED),
        ((-1.0, -1.5, -0.8, -1.2, -2.0), State.NOT_REPRODUCED),
        ((1.0, -1.5, 0.8, -1.2, 2.0), State.INCONCLUSIVE),
        ((0.0, 0.0, 0.0, 0.0, 0.0), State.NOT_REPRODUCED),
    ],
)
def test_an_ordering_is_decided_by_paired_differences(gains: tuple[float, ...], state: State) -> None:
    assert verdict_of(ORDERING, seen("small", "percent", soft=plus(*gains), hard=BASE)).state is state


def test_an_ordering_says_its_gain_in_points_with_the_interval() -> None:
    gains = (1.0, 1.5, 0.8, 1.2, 2.0)
    verdict = verdict_of(ORDERING, seen("small", "percent", soft=plus(*gains), hard=BASE))
    assert verdict.measured.startswith("+1.3 points [")
    assert verdict.measured.endswith(", 5 seeds")


def test_lower_can_be_better() -> None:
    fields = {**ORDERING, "higher_is_better": False, "evidence": "modelled"}
    assert verdict_of(fields, seen(unit="ms", soft=1.0, hard=2.0)).state is State.REPRODUCED


def test_a_margin_must_be_exceeded() -> None:
    fields = {**ORDERING, "margin": 3.0, "why": "the paper's gap", "evidence": "modelled"}
    assert verdict_of(fields, seen(soft=2.0, hard=0.0)).state is State.NOT_REPRODUCED
    assert verdict_of(fields, seen(soft=4.0, hard=0.0)).state is State.REPRODUCED


def test_an_ordering_within_the_floor_is_inconclusive_though_the_seeds_agree() -> None:
    observations = seen("small", soft=[1.1] * 5, hard=[1.0] * 5)
    assert verdict_of({**ORDERING, "floor": 0.5}, observations).state is State.INCONCLUSIVE


def test_a_measured_ordering_with_four_seeds_is_not_assessed() -> None:
    verdict = verdict_of(ORDERING, seen("small", soft=plus(1, 1, 1, 1, 1)[:4], hard=BASE[:4]))
    assert verdict.state is State.NOT_ASSESSED
    assert verdict.reason == "Needs 5 seeds; only 4 recorded it."
    assert verdict.command == "./repro audit toy --profile small"


def test_seeds_that_recorded_only_one_side_do_not_count() -> None:
    values = {"soft": dict(enumerate(BASE)), "hard": {7: 1.0}}
    assert verdict_of(ORDERING, Observations("small", "run", values)).state is State.ERROR


STEP = [1.0, 1.1, 0.9, 1.05, 0.95]


@pytest.mark.parametrize(
    ("top", "state"),
    [
        ([value + 1.0 for value in STEP], State.REPRODUCED),
        ([value - 0.9 for value in STEP], State.NOT_REPRODUCED),
        ([2.0, 0.5, 1.4, 0.6, 1.2], State.INCONCLUSIVE),
    ],
)
def test_a_trend_needs_every_step(top: list[float], state: State) -> None:
    observations = seen("small", low=[value - 0.5 for value in STEP], mid=STEP, top=top)
    assert verdict_of(TREND, observations).state is state


def test_a_falling_trend() -> None:
    fields = {**TREND, "direction": "decreasing", "evidence": "modelled"}
    assert verdict_of(fields, seen(low=3.0, mid=2.0, top=1.0)).state is State.REPRODUCED
    assert verdict_of(fields, seen(low=3.0, mid=1.0, top=2.0)).state is State.NOT_REPRODUCED


def test_slack_forgives_a_small_step_back() -> None:
    fields = {**TREND, "evidence": "modelled", "slack": 0.2, "why": "noise of the model"}
    assert verdict_of(fields, seen(low=1.0, mid=0.9, top=2.0)).state is State.REPRODUCED
    assert verdict_of(fields, seen(low=1.0, mid=0.7, top=2.0)).state is State.NOT_REPRODUCED


@pytest.mark.parametrize(
    ("condition", "good", "bad"),
    [
        ({"equals": True}, 1.0, 0.0),
        ({"equals": 0}, 0.0, 1.0),
        ({"equals": 0.5, "tolerance": {"absolute": 0.01, "why": "float"}}, 0.505, 0.52),
        ({"at_most": 1.0e-5}, 1.0e-5, 2.0e-5),
        ({"at_least": 0.9}, 0.9, 0.89),
        ({"at_most": 0}, 0.0, 1.0e-9),
    ],
)
def test_a_property_holds_or_not(condition: dict[str, Any], good: float, bad: float) -> None:
    fields = {"kind": "property", "metric": "m", **condition}
    assert verdict_of(fields, seen(m=good)).state is State.REPRODUCED
    assert verdict_of(fields, seen(m=bad)).state is State.NOT_REPRODUCED


def test_a_property_must_hold_for_every_seed() -> None:
    verdict = verdict_of({"kind": "property", "metric": "m", "equals": True}, seen(m=[1.0, 1.0, 0.0]))
    assert verdict.state is State.NOT_REPRODUCED
    assert "seed 2" in verdict.reason


def test_a_property_with_a_unit_refuses_another() -> None:
    fields = {"kind": "property", "metric": "m", "at_most": 1.0, "unit": "percent"}
    assert verdict_of(fields, seen(unit="ms", m=0.5)).state is State.ERROR


def test_judging_twice_gives_the_same_verdict() -> None:
    observations = seen("small", soft=plus(1, -1, 2, -2, 3), hard=BASE)
    assert verdict_of(ORDERING, observations) == verdict_of(ORDERING, observations)


def test_without_runs_a_claim_is_not_assessed() -> None:
    verdict = judge_without_runs(make(**VALUE), "smoke", "toy")
    assert (verdict.state, verdict.reason) == (
        State.NOT_ASSESSED,
        "There is no current run of the smoke profile.",
    )
    assert verdict.command == "./repro audit toy --profile smoke"


def test_without_runs_an_unsettled_claim_keeps_its_reason() -> None:
    verdict = judge_without_runs(make(**VALUE, unsettled="needs the phone"), "smoke", "toy")
    assert "needs the phone" in verdict.reason


def test_a_derived_figure_is_not_called_the_papers() -> None:
    derived = {**VALUE, "source": {**SEEN, "directness": "derived"}}
    verdict = verdict_of(derived, seen(unit="GMAC", gmacs=2.0))
    assert verdict.reason == "Counted 2 GMAC, within the derived 2 ± 0.1 GMAC."
    assert verdict.derived
