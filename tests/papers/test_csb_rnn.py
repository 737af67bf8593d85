"""The card of CSB-RNN: what it prints is what the reference files hold, and known misses stay misses."""

import pytest

from hw_models.reference_points import points
from lib.engine.cards import Card, load_card
from lib.engine.claims import Claim, ValueClaim
from lib.engine.verdicts import Observations, State, judge
from lib.project import REPOSITORY
from lib.rnn import csb_checks as checks


@pytest.fixture(scope="module")
def card() -> Card:
    return load_card(REPOSITORY.card("csb_rnn"))


def claim_of(card: Card, name: str) -> Claim:
    return next(claim for claim in card.claims if claim.id == name)


def figure(card: Card, name: str) -> float:
    claim = claim_of(card, name)
    assert isinstance(claim, ValueClaim)
    assert claim.paper is not None
    assert claim.paper.value is not None
    return claim.paper.value


def state(card: Card, name: str, value: float) -> State:
    claim = claim_of(card, name)
    assert isinstance(claim, ValueClaim)
    assert claim.paper is not None
    units = {claim.metric: claim.paper.unit}
    return judge(claim, Observations("smoke", "run", {claim.metric: {0: value}}, units), card.slug).state


def test_every_bar_of_the_index_overheads_is_a_claim(card: Card) -> None:
    for name, value in checks.printed_index_overheads().items():
        assert figure(card, f"nio_{name}") == value


def test_every_row_of_the_pruning_table_is_a_claim(card: Card) -> None:
    for row in (point.model_dump() for point in points("csb_pruning")):
        name = f"table2_{row['model'].lower()}_{row['scheme']}"
        assert figure(card, name) == float(row["result"])
        assert not claim_of(card, name).can_settle


def test_every_row_of_the_latency_table_is_a_claim(card: Card) -> None:
    for row in checks.table3():
        key = f"{row.model.lower()}_{row.design}"
        assert figure(card, f"efficiency_{key}") == row.printed_kframes_per_s_per_w
        assert state(card, f"efficiency_{key}", row.kframes_per_s_per_w) is State.REPRODUCED


def test_index_overheads_split_into_reproduced_and_not(card: Card) -> None:
    states = [state(card, f"nio_{name}", value) for name, value in checks.index_overheads().items()]
    assert (states.count(State.REPRODUCED), states.count(State.NOT_REPRODUCED)) == (22, 18)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("c2_lowest", min(checks.rate_gains().values()), State.NOT_REPRODUCED),
        ("c2_highest", max(checks.rate_gains().values()), State.NOT_REPRODUCED),
        ("c4_lowest", min(checks.latency_gains().values()), State.REPRODUCED),
        ("c4_highest", max(checks.latency_gains().values()), State.REPRODUCED),
        ("c4_reduction_lowest", min(checks.latency_reductions().values()), State.NOT_REPRODUCED),
        ("c5_highest", checks.efficiency_gains()["sr1_csb_rnn"], State.REPRODUCED),
        ("c10_vertical", checks.sharing_overheads()["vertical"], State.REPRODUCED),
        ("c10_both", checks.sharing_overheads()["both"], State.NOT_REPRODUCED),
        ("ese_steps", checks.ese_step().steps, State.NOT_REPRODUCED),
        ("c13_lowest", min(checks.pe_shares().values()), State.REPRODUCED),
    ],
)
def test_arithmetic_is_judged_as_the_findings_say(
    card: Card, name: str, value: float, expected: State
) -> None:
    assert state(card, name, value) is expected


def test_implied_utilisation_is_that_of_the_engine(card: Card) -> None:
    for model, value in checks.implied_utilisations().items():
        assert state(card, f"implied_{model.lower()}", value) is State.REPRODUCED


def test_every_miss_of_the_arithmetic_has_a_finding(card: Card) -> None:
    titles = " ".join(finding.title for finding in card.findings)
    for word in ("ESE", "Table 2", "39 %", "15.4 %", "94 %", "SR3", "CSR"):
        assert word in titles


def test_all_profiles_that_settle_an_ordering_train_its_arms(card: Card) -> None:
    for name in ("small", "paper"):
        parameters = card.profiles[name].parameters
        assert {
            "csb",
            "unstructured",
            "columns",
            "random",
            "row_balanced",
            "bank_balanced",
            "circulant",
        } == set(
            parameters["structures"]  # type: ignore[arg-type]
        )
        assert parameters["rates"] == [4.0, 36.0]
        assert parameters["blocks"] == [4, 16, 32]
