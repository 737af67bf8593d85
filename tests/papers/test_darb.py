"""The card of DARB: figures that follow from its equations are judged by them, the rest stays open."""

import pytest
import torch

from lib.engine.cards import Card, load_card
from lib.engine.claims import Claim, ValueClaim
from lib.engine.verdicts import Observations, State, judge
from lib.project import REPOSITORY
from lib.rnn import darb_checks as checks


@pytest.fixture(scope="module")
def card() -> Card:
    return load_card(REPOSITORY.card("darb"))


def claim_of(card: Card, name: str) -> Claim:
    return next(claim for claim in card.claims if claim.id == name)


def state(card: Card, name: str, value: float) -> State:
    claim = claim_of(card, name)
    assert isinstance(claim, ValueClaim)
    assert claim.paper is not None
    units = {claim.metric: claim.paper.unit}
    return judge(claim, Observations("smoke", "run", {claim.metric: {0: value}}, units), card.slug).state


@pytest.mark.parametrize("k", checks.BLOCKS)
def test_bits_are_reproduced(card: Card, k: int) -> None:
    assert state(card, f"position_bits_{k}", checks.index_bits(k)["bmwm"]) is State.REPRODUCED
    for scheme, bits in checks.stored_bits(k).items():
        assert state(card, f"stored_bits_{scheme}_{k}", bits) is State.REPRODUCED


def test_weights_are_reproduced(card: Card) -> None:
    for name, count in checks.network_weights().items():
        assert state(card, f"weights_{name}", count) is State.REPRODUCED


@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
def test_energies_are_reproduced_on_another_draw(card: Card, distribution: checks.Distribution) -> None:
    found = checks.energies(distribution, torch.Generator().manual_seed(123))
    for k, kept in found.items():
        for name, value in kept.items():
            assert state(card, f"energy_{distribution}_{name}_{k}", value) is State.REPRODUCED


def test_what_the_abstract_prints_stays_open(card: Card) -> None:
    for name in ("c1", "c2", "c3", "c4", "c7", "c8", "c9", "c10"):
        assert not claim_of(card, name).can_settle
    assert "cycle counts" in (claim_of(card, "c3").unsettled or "")


def test_all_profiles_that_settle_an_ordering_train_its_arms(card: Card) -> None:
    for name in ("small", "paper"):
        parameters = card.profiles[name].parameters
        assert {"darb", "unstructured", "bmwm", "columns", "random", "blocks"} == set(
            parameters["structures"]  # type: ignore[arg-type]
        )
        assert parameters["rates"] == [4.0, 40.0]
