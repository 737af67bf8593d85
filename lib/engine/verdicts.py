"""Verdicts: one claim of a card, judged on what runs observed.

`judge` is a pure function. It never guesses: a figure that was only recalled, a profile too small, too few
seeds and a metric that is not there each have their own answer, and the command that would settle the claim.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from lib.engine.claims import (
    Claim,
    OrderingClaim,
    PropertyClaim,
    RatioClaim,
    TrendClaim,
    ValueClaim,
    profile_rank,
)
from lib.engine.statistics import CONFIDENCE, Interval, mean_interval
from lib.engine.wording import (
    attributed,
    difference_unit,
    figure,
    paper_text,
    quantity,
    seeds_text,
    with_unit,
)

BOOTSTRAP_SEED = 0
_VERB = {"analytic": "Counted", "modelled": "Modelled", "measured": "Measured"}


class State(StrEnum):
    """What is known of a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not_reproduced"
    INCONCLUSIVE = "inconclusive"
    NOT_ASSESSED = "not_assessed"
    ERROR = "error"


@dataclass(frozen=True)
class Observations:
    """What runs of one profile recorded: metric -> seed -> value, and metric -> unit.

    `trouble` says in words which runs failed, so that a missing metric can be explained.
    """

    profile: str
    origin: Literal["run", "recorded"]
    values: Mapping[str, Mapping[int, float]]
    units: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True)
class Verdict:
    """The answer for one claim; `reason` is one sentence, `command` what would settle the claim, or empty.

    `paper` is what was claimed, in signs; `derived` says that the claim is a check of ours, not the paper's.
    """

    claim: str
    state: State
    reason: str
    paper: str
    profile: str
    origin: Literal["run", "recorded"]
    measured: str = ""
    command: str = ""
    interval: Interval | None = None
    seeds: tuple[int, ...] = ()
    derived: bool = False


@dataclass(frozen=True)
class _Finding:
    """What the numbers alone say, before asking whether they may settle the claim."""

    state: State
    reason: str
    measured: str
    interval: Interval
    seeds: tuple[int, ...]


class _CannotCompare(Exception):
    """The observations hold no comparable numbers for the claim; the text says why."""


def judge(
    claim: Claim, observations: Observations, slug: str, bootstrap_seed: int = BOOTSTRAP_SEED
) -> Verdict:
    """The verdict of `claim` of the paper `slug`. Raises WrongUse for an unknown profile."""
    try:
        finding, obstacle = _compare(claim, observations, bootstrap_seed), ""
    except _CannotCompare as problem:
        finding, obstacle = None, str(problem)

    def verdict(state: State, reason: str, command: str = "") -> Verdict:
        return Verdict(
            claim=claim.id,
            state=state,
            reason=reason,
            paper=paper_text(claim),
            profile=observations.profile,
            origin=observations.origin,
            measured=finding.measured if finding else "",
            command=command,
            interval=finding.interval if finding else None,
            seeds=finding.seeds if finding else (),
            derived=claim.derived,
        )

    if claim.unsettled is not None:
        return verdict(State.NOT_ASSESSED, _sentence(f"No run can settle this: {claim.unsettled}"))
    if not claim.can_settle:
        return verdict(
            State.NOT_ASSESSED,
            "The figure is recalled, not confirmed in a source, so it settles nothing.",
        )
    if profile_rank(observations.profile) < profile_rank(claim.needs.profile):
        return verdict(
            State.NOT_ASSESSED,
            f"Needs the {claim.needs.profile} profile; {observations.profile} is too small to settle it.",
            settling_command(claim, slug),
        )
    if finding is None:
        return verdict(State.ERROR, obstacle)
    if len(finding.seeds) < claim.needs.seeds:
        return verdict(
            State.NOT_ASSESSED,
            f"Needs {seeds_text(claim.needs.seeds)}; only {len(finding.seeds)} recorded it.",
            settling_command(claim, slug),
        )
    return verdict(finding.state, finding.reason)


def judge_without_runs(claim: Claim, profile: str, slug: str) -> Verdict:
    """The verdict when no run of `profile` exists: not assessed, with the command that would start one."""
    verdict = judge(claim, Observations(profile=profile, origin="run", values={}), slug)
    if verdict.state is not State.ERROR:
        return verdict
    return Verdict(
        claim=claim.id,
        state=State.NOT_ASSESSED,
        reason=f"There is no current run of the {profile} profile.",
        paper=verdict.paper,
        profile=profile,
        origin="run",
        command=settling_command(claim, slug),
        derived=claim.derived,
    )


def settling_command(claim: Claim, slug: str) -> str:
    """The command whose runs would settle `claim`."""
    return f"./repro audit {slug} --profile {claim.needs.profile}"


def _compare(claim: Claim, observations: Observations, bootstrap_seed: int) -> _Finding:
    match claim:
        case ValueClaim():
            return _compare_value(claim, observations, bootstrap_seed)
        case RatioClaim():
            return _compare_ratio(claim, observations, bootstrap_seed)
        case OrderingClaim():
            return _compare_ordering(claim, observations, bootstrap_seed)
        case TrendClaim():
            return _compare_trend(claim, observations, bootstrap_seed)
        case PropertyClaim():
            return _compare_property(claim, observations)


def _compare_value(claim: ValueClaim, observations: Observations, bootstrap_seed: int) -> _Finding:
    rows = _paired(claim, observations)
    unit = _common_unit(claim, observations, claim.paper.unit if claim.paper else None)
    values = [value for (value,) in rows.values()]
    return _against_figure(claim, mean_interval(values, bootstrap_seed, claim.floor), unit, tuple(rows))


def _compare_ratio(claim: RatioClaim, observations: Observations, bootstrap_seed: int) -> _Finding:
    rows = _paired(claim, observations)
    _common_unit(claim, observations, None)
    if any(baseline == 0 for _, baseline in rows.values()):
        raise _CannotCompare(f"Metric {claim.baseline} is 0, so {claim.metric} cannot be divided by it.")
    values = [value / baseline for value, baseline in rows.values()]
    unit = claim.paper.unit if claim.paper else ""
    return _against_figure(claim, mean_interval(values, bootstrap_seed, claim.floor), unit, tuple(rows))


def _against_figure(
    claim: ValueClaim | RatioClaim, interval: Interval, unit: str, seeds: tuple[int, ...]
) -> _Finding:
    """Compare an interval with the claimed figure and its tolerance."""
    measured = quantity(interval, unit, len(seeds))
    if claim.paper is None or claim.tolerance is None:
        return _Finding(State.NOT_ASSESSED, "", measured, interval, seeds)
    low, high = claim.tolerance.around(*claim.paper.ends)
    allowed = attributed(claim)
    lead = f"{_VERB[claim.evidence]} {with_unit(interval.estimate, unit)}"
    if interval.inside(low, high):
        return _Finding(
            State.REPRODUCED,
            f"{lead}, {'exactly' if low == high else 'within'} {allowed}.",
            measured,
            interval,
            seeds,
        )
    if interval.outside(low, high):
        gap = low - interval.estimate if interval.estimate < low else interval.estimate - high
        side = "below" if interval.estimate < low else "above"
        reason = f"{lead}, {with_unit(gap, difference_unit(unit))} {side} what {allowed} allows."
        return _Finding(State.NOT_REPRODUCED, reason, measured, interval, seeds)
    reason = f"{lead}, but its interval {_ends(interval, unit)} reaches across the edge of {allowed}."
    return _Finding(State.INCONCLUSIVE, reason, measured, interval, seeds)


def _compare_ordering(claim: OrderingClaim, observations: Observations, bootstrap_seed: int) -> _Finding:
    rows = _paired(claim, observations)
    unit = difference_unit(_common_unit(claim, observations, None))
    sign = 1 if claim.higher_is_better else -1
    gains = [sign * (better - worse) for better, worse in rows.values()]
    interval = mean_interval(gains, bootstrap_seed, claim.floor)
    measured = quantity(interval, unit, len(rows), signed=True)
    direction = "ahead of" if interval.estimate > 0 else "behind"
    gap = with_unit(abs(interval.estimate), unit)
    lead = f"{claim.better} is {gap} {direction} {claim.worse} over {seeds_text(len(rows))}"
    if interval.estimate == 0:
        lead = f"{claim.better} and {claim.worse} are equal over {seeds_text(len(rows))}"
    bound = f" (needed: more than {with_unit(claim.margin, unit)})" if claim.margin else ""
    if interval.above(claim.margin):
        return _Finding(State.REPRODUCED, f"{lead}{bound}.", measured, interval, tuple(rows))
    if interval.not_above(claim.margin):
        return _Finding(State.NOT_REPRODUCED, f"{lead}{bound}.", measured, interval, tuple(rows))
    reason = f"{lead}{bound}, but the interval {_ends(interval, unit)} leaves the order open."
    return _Finding(State.INCONCLUSIVE, reason, measured, interval, tuple(rows))


def _compare_trend(claim: TrendClaim, observations: Observations, bootstrap_seed: int) -> _Finding:
    """Every step of the sweep must go the right way; all steps hold together at the stated confidence."""
    rows = _paired(claim, observations)
    unit = _common_unit(claim, observations, None)
    names, sign = claim.metrics, 1 if claim.direction == "increasing" else -1
    confidence = 1 - (1 - CONFIDENCE) / (len(names) - 1)
    steps = []
    for index in range(len(names) - 1):
        gains = [sign * (row[index + 1] - row[index]) for row in rows.values()]
        steps.append(mean_interval(gains, bootstrap_seed, claim.floor, confidence))
    means = [math.fsum(column) / len(rows) for column in zip(*rows.values(), strict=True)]
    seeds = f", {seeds_text(len(rows))}" if len(rows) > 1 else ""
    measured = f"{with_unit(' → '.join(figure(mean) for mean in means), unit)}{seeds}"
    weakest = min(range(len(steps)), key=lambda index: steps[index].low)
    step, bound = steps[weakest], -claim.slack
    gain = with_unit(figure(sign * step.estimate, signed=True), difference_unit(unit))
    where = f"its weakest step, {names[weakest]} to {names[weakest + 1]}, is {gain}"
    if all(step.above(bound) for step in steps):
        reason = f"The trend is {claim.direction} at every step; {where}."
        return _Finding(State.REPRODUCED, reason, measured, step, tuple(rows))
    if any(step.not_above(bound) for step in steps):
        reason = f"The trend is not {claim.direction}: {where}."
        return _Finding(State.NOT_REPRODUCED, reason, measured, step, tuple(rows))
    reason = f"The trend stays open: {where}, within the spread of the seeds."
    return _Finding(State.INCONCLUSIVE, reason, measured, step, tuple(rows))


def _compare_property(claim: PropertyClaim, observations: Observations) -> _Finding:
    rows = _paired(claim, observations)
    unit = _common_unit(claim, observations, claim.unit)
    values = {seed: value for seed, (value,) in rows.items()}
    failing = {seed: value for seed, value in values.items() if not _holds(claim, value)}
    interval = Interval(math.fsum(values.values()) / len(values), min(values.values()), max(values.values()))
    truth = isinstance(claim.equals, bool)

    def say(value: float) -> str:
        return ("yes" if value else "no") if truth else with_unit(value, unit)

    one = interval.low == interval.high
    said = say(interval.low) if one else f"{figure(interval.low)} to {with_unit(interval.high, unit)}"
    measured = f"{said}, {seeds_text(len(rows))}" if len(rows) > 1 else said
    if not failing:
        scope = f" for all {seeds_text(len(rows))}" if len(rows) > 1 else ""
        reason = f"{claim.metric} is {said}{scope}, as claimed ({paper_text(claim)})."
        return _Finding(State.REPRODUCED, reason, measured, interval, tuple(rows))
    seed, value = next(iter(failing.items()))
    reason = f"{claim.metric} is {say(value)} for seed {seed}, where {paper_text(claim)} was claimed."
    return _Finding(State.NOT_REPRODUCED, reason, measured, interval, tuple(rows))


def _holds(claim: PropertyClaim, value: float) -> bool:
    point = Interval(value, value, value)
    if claim.equals is not None:
        near = claim.tolerance.around(claim.equals, claim.equals) if claim.tolerance else (claim.equals,) * 2
        return point.inside(*near)
    if claim.at_most is not None:
        return point.inside(-math.inf, claim.at_most)
    assert claim.at_least is not None
    return point.inside(claim.at_least, math.inf)


def _paired(claim: Claim, observations: Observations) -> dict[int, tuple[float, ...]]:
    """Seed -> values of the claim's metrics, for the seeds that recorded all of them, sorted."""
    names = list(dict.fromkeys(claim.metrics))
    missing = [name for name in names if not observations.values.get(name)]
    if missing:
        what = f"Metric {missing[0]} is" if len(missing) == 1 else f"Metrics {', '.join(missing)} are"
        why = observations.trouble or "the notebook did not record it"
        raise _CannotCompare(_sentence(f"{what} missing: {why}"))
    for name in names:
        for seed, value in observations.values[name].items():
            if not math.isfinite(value):
                raise _CannotCompare(
                    f"Metric {name} is {value} for seed {seed}, which nothing can be compared with."
                )
    shared = set.intersection(*(set(observations.values[name]) for name in names))
    if not shared:
        raise _CannotCompare(f"No seed recorded all of {', '.join(names)}, so they cannot be paired.")
    return {
        seed: tuple(float(observations.values[name][seed]) for name in claim.metrics)
        for seed in sorted(shared)
    }


def _common_unit(claim: Claim, observations: Observations, expected: str | None) -> str:
    """The unit of the claim's metrics, which must be one, and `expected` where the card states it."""
    units = {name: observations.units.get(name, "") for name in claim.metrics}
    for name, unit in units.items():
        if expected is not None and unit != expected:
            raise _CannotCompare(
                f"Metric {name} is in {unit or 'no unit'}, the card in {expected or 'no unit'}."
            )
    if len(set(units.values())) > 1:
        listed = ", ".join(f"{name} in {unit or 'no unit'}" for name, unit in units.items())
        raise _CannotCompare(f"The metrics have different units ({listed}) and cannot be compared.")
    return next(iter(units.values()))


def _ends(interval: Interval, unit: str) -> str:
    return f"{figure(interval.low)} to {with_unit(interval.high, unit)}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
