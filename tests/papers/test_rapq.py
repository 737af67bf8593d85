"""The card of RAPQ: what is counted is judged by the code's own figures, printed accuracies stay open."""

import pytest
import torch

from lib.cnn import rapq_checks as checks
from lib.engine.cards import Card, load_card
from lib.engine.claims import Claim, PropertyClaim, ValueClaim
from lib.engine.verdicts import Observations, State, judge
from lib.project import REPOSITORY


@pytest.fixture(scope="module")
def card() -> Card:
    return load_card(REPOSITORY.card("rapq"))


def claim_of(card: Card, name: str) -> Claim:
    return next(claim for claim in card.claims if claim.id == name)


def state(card: Card, name: str, value: float) -> State:
    claim = claim_of(card, name)
    unit = claim.paper.unit if isinstance(claim, ValueClaim) and claim.paper else ""
    if isinstance(claim, PropertyClaim):
        unit = claim.unit or ""
    metric = claim.metrics[0]
    return judge(claim, Observations("smoke", "run", {metric: {0: value}}, {metric: unit}), card.slug).state


@pytest.mark.parametrize("name", checks.COUNTED)
def test_counts_are_reproduced(card: Card, name: str) -> None:
    counts = checks.counts(name)
    for what in ("params", "macs", "layers"):
        assert state(card, f"{what}_{name}", getattr(counts, what)) is State.REPRODUCED
        assert state(card, f"{what}_{name}", getattr(counts, what) + 1) is State.NOT_REPRODUCED


def test_the_rule_for_exponents_is_as_the_card_says(card: Card) -> None:
    for c, name in ((0.1, "quick"), (0.9, "long")):
        low, high = checks.exponent_range(c)
        assert state(card, f"{name}_exponent_low", low) is State.REPRODUCED
        assert state(card, f"{name}_exponent_high", high) is State.REPRODUCED


def test_defects_are_judged_on_what_the_released_steps_do(card: Card) -> None:
    weights = checks.channels(torch.Generator().manual_seed(11))
    assert state(card, "released_scales", checks.power_of_two_share(weights)["released"]) is State.REPRODUCED
    assert state(card, "released_scales", checks.power_of_two_share(weights)["ours"]) is State.NOT_REPRODUCED
    levels = checks.levels(weights)
    assert state(card, "released_levels", levels["released"]) is State.REPRODUCED
    assert state(card, "released_levels", levels["ours"]) is State.NOT_REPRODUCED


def test_one_differing_bit_is_a_miss(card: Card) -> None:
    assert state(card, "shift_only", 0.0) is State.REPRODUCED
    assert state(card, "shift_only", 2.0**-20) is State.NOT_REPRODUCED


def test_what_the_abstract_and_the_log_print_stays_open(card: Card) -> None:
    printed = [claim for claim in card.claims if claim.id.split("_")[0] in {f"c{n}" for n in range(1, 26)}]
    assert {claim.id.split("_")[0] for claim in printed} == {f"c{n}" for n in range(1, 26)}
    assert not any(claim.can_settle for claim in printed)


def test_every_profile_that_settles_orderings_runs_their_arms(card: Card) -> None:
    for name in ("small", "paper"):
        parameters = card.profiles[name].parameters
        assert parameters["methods"] == ["float", "nearest", "local", "rapq"]
        assert parameters["extra"] == ["rounded", "learned", "rapq_quarter"]
        assert parameters["widths"] == ["w8a8", "w4a4", "w2a4"]
        assert parameters["contrast"] is True
