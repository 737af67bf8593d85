"""Every claim of every card: numbers that fulfil it are reproduced, planted wrong ones are not."""

import ast
import json
import re
from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from lib.engine.cards import Card, load_cards
from lib.engine.claims import (
    PROFILES,
    Claim,
    OrderingClaim,
    PropertyClaim,
    RatioClaim,
    TrendClaim,
    ValueClaim,
)
from lib.engine.evidence import read_evidence
from lib.engine.verdicts import Observations, State, judge
from lib.project import REPOSITORY

CARDS = load_cards(REPOSITORY)
PAIRS = [(card, claim) for card in CARDS.values() for claim in card.claims]


def parameters(can_settle: bool) -> list[ParameterSet]:
    """The claims that some profile can settle, or those that none can."""
    return [
        pytest.param(card, claim, id=f"{card.slug}-{claim.id}")
        for card, claim in PAIRS
        if claim.can_settle is can_settle
    ]


SETTLED, OPEN = parameters(can_settle=True), parameters(can_settle=False)
BASELINE = 2.0


def fulfilling(claim: Claim) -> tuple[float, ...]:
    """One value a metric of the claim, with which it holds."""
    match claim:
        case ValueClaim() | RatioClaim():
            low, high = target(claim)
            value = (low + high) / 2
            return (value,) if isinstance(claim, ValueClaim) else (value * BASELINE, BASELINE)
        case OrderingClaim():
            sign = 1 if claim.higher_is_better else -1
            return BASELINE + sign * (claim.margin + 1 + claim.floor), BASELINE
        case TrendClaim():
            step = (1 + claim.floor) * (1 if claim.direction == "increasing" else -1)
            return tuple(step * index for index in range(len(claim.metrics)))
        case PropertyClaim():
            bounds = (claim.equals, claim.at_most, claim.at_least)
            return (float(next(bound for bound in bounds if bound is not None)),)


def violating(claim: Claim) -> tuple[float, ...]:
    """One value a metric of the claim, with which it plainly does not hold."""
    match claim:
        case ValueClaim() | RatioClaim():
            low, high = target(claim)
            value = high + 2 * claim.floor + max(0.1 * (high - low), 1e-6 * abs(high), 1e-9)
            return (value,) if isinstance(claim, ValueClaim) else (value * BASELINE, BASELINE)
        case OrderingClaim():
            sign = 1 if claim.higher_is_better else -1
            return BASELINE + sign * (claim.margin - 1 - claim.floor), BASELINE
        case TrendClaim():
            rest = fulfilling(claim)[:-1]
            back = (1 + claim.floor + claim.slack) * (1 if claim.direction == "increasing" else -1)
            return (*rest, rest[-1] - back)
        case PropertyClaim():
            if isinstance(claim.equals, bool):
                return (float(not claim.equals),)
            away = -1.0 if claim.at_least is not None else 1.0
            spread = claim.tolerance.absolute or 0.0 if claim.tolerance else 0.0
            return (fulfilling(claim)[0] + away * (1 + spread),)


def target(claim: ValueClaim | RatioClaim) -> tuple[float, float]:
    assert claim.paper is not None
    assert claim.tolerance is not None
    return claim.tolerance.around(*claim.paper.ends)


def observe(claim: Claim, values: tuple[float, ...]) -> Observations:
    """The values for as many seeds, in the profile and unit that the claim needs."""
    unit = ""
    if isinstance(claim, ValueClaim) and claim.paper:
        unit = claim.paper.unit
    if isinstance(claim, PropertyClaim):
        unit = claim.unit or ""
    seeds = range(claim.needs.seeds)
    found = {name: dict.fromkeys(seeds, value) for name, value in zip(claim.metrics, values, strict=True)}
    return Observations(claim.needs.profile, "run", found, dict.fromkeys(claim.metrics, unit))


def strings(card: Card) -> Iterator[re.Pattern[str]]:
    """Patterns of the strings in the notebook's code; a place filled in by an f-string matches anything."""
    notebook = json.loads(REPOSITORY.notebook(card.slug).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.compile(re.escape(node.value))
            if isinstance(node, ast.JoinedStr):
                parts = [
                    re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+"
                    for part in node.values
                ]
                if any(part != ".+" for part in parts):
                    yield re.compile("".join(parts))


@pytest.mark.parametrize(("card", "claim"), SETTLED)
def test_numbers_that_fulfil_the_claim_are_reproduced(card: Card, claim: Claim) -> None:
    verdict = judge(claim, observe(claim, fulfilling(claim)), card.slug)
    assert verdict.state is State.REPRODUCED, verdict.reason


@pytest.mark.parametrize(("card", "claim"), SETTLED)
def test_planted_wrong_numbers_are_not_reproduced(card: Card, claim: Claim) -> None:
    verdict = judge(claim, observe(claim, violating(claim)), card.slug)
    assert verdict.state is State.NOT_REPRODUCED, verdict.reason


@pytest.mark.parametrize(("card", "claim"), SETTLED)
def test_a_smaller_profile_does_not_settle_the_claim(card: Card, claim: Claim) -> None:
    full = observe(claim, fulfilling(claim))
    for profile in PROFILES[: PROFILES.index(claim.needs.profile)]:
        smaller = Observations(profile, "run", full.values, full.units)
        assert judge(claim, smaller, card.slug).state is State.NOT_ASSESSED


@pytest.mark.parametrize(("card", "claim"), OPEN)
def test_what_is_recalled_or_out_of_reach_is_never_settled(card: Card, claim: Claim) -> None:
    values = {name: dict.fromkeys(range(5), 1.0) for name in claim.metrics}
    verdict = judge(claim, Observations("paper", "run", values), card.slug)
    assert verdict.state is State.NOT_ASSESSED
    assert verdict.reason


@pytest.mark.parametrize("card", CARDS.values(), ids=list(CARDS))
def test_the_notebook_names_every_metric_that_a_claim_needs(card: Card) -> None:
    needed = set().union(*(card.required_metrics(profile) for profile in PROFILES))
    known = list(strings(card))
    assert [
        name for name in sorted(needed) if not any(known_name.fullmatch(name) for known_name in known)
    ] == []


@pytest.mark.parametrize("card", CARDS.values(), ids=list(CARDS))
def test_recorded_evidence_can_be_judged(card: Card) -> None:
    for evidence in read_evidence(REPOSITORY, card.slug).values():
        verdicts = [judge(claim, evidence.observations, card.slug) for claim in card.claims]
        assert [verdict.reason for verdict in verdicts if verdict.state is State.ERROR] == []
