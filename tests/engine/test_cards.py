"""Cards: what a good one gives, and that each mistake names its file and field."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lib.engine.cards import load_card, load_cards
from lib.errors import WrongUse
from lib.project import Project

SEEN = {"url": "https://example.org/paper", "confidence": "seen", "directness": "primary"}


def claim(**fields: Any) -> dict[str, Any]:
    common = {
        "id": "c1",
        "statement": "It is 2.",
        "where": "abstract",
        "source": SEEN,
        "evidence": "analytic",
    }
    return {**common, **fields}


VALUE = claim(
    kind="value",
    metric="gmacs",
    paper={"value": 2.0, "unit": "GMAC"},
    tolerance={"absolute": 0.1, "why": "two digits"},
)
ORDERING = claim(id="c2", kind="ordering", better="ours", worse="theirs", evidence="measured")
FIELDS: dict[str, Any] = {
    "slug": "toy",
    "title": "A toy",
    "authors": ["A. Author"],
    "venue": "Nowhere",
    "year": 2022,
    "family": "vit",
    "links": {"paper": "https://example.org/paper"},
    "summary": "A toy.",
    "profiles": {
        "smoke": {"minutes": 1, "seeds": [0], "data": "embedded", "parameters": {}},
        "small": {"minutes": 10, "seeds": [0, 1, 2, 3, 4], "data": "embedded", "parameters": {"epochs": 4}},
        "paper": {
            "minutes": 600,
            "seeds": [0],
            "data": "paper",
            "parameters": {"epochs": 30},
            "requires": "GPU",
        },
    },
    "claims": [VALUE, ORDERING],
}


def write(folder: Path, fields: dict[str, Any] | str, slug: str = "toy") -> Path:
    path = folder / "data" / "papers" / f"{slug}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(fields if isinstance(fields, str) else yaml.safe_dump(fields, sort_keys=False))
    return path


def changed(field: str, value: Any) -> dict[str, Any]:
    """FIELDS with the field at a path such as ``claims.0.metric`` set (None removes it)."""
    fields = deepcopy(FIELDS)
    *parents, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    place: Any = fields
    for part in parents:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return fields


def test_a_good_card_loads(tmp_path: Path) -> None:
    card = load_card(write(tmp_path, FIELDS))
    assert card.profiles["small"].seeds == [0, 1, 2, 3, 4]
    assert card.claims[0].metrics == ("gmacs",)
    assert card.claims[1].metrics == ("ours", "theirs")


def test_a_measured_ordering_needs_five_seeds_of_small_by_default(tmp_path: Path) -> None:
    needs = load_card(write(tmp_path, FIELDS)).claims[1].needs
    assert (needs.profile, needs.seeds) == ("small", 5)


def test_a_measured_value_needs_the_paper_profile_by_default(tmp_path: Path) -> None:
    card = load_card(write(tmp_path, changed("claims.0.evidence", "measured")))
    assert card.claims[0].needs.profile == "paper"


def test_an_analytic_claim_needs_one_smoke_run_by_default(tmp_path: Path) -> None:
    needs = load_card(write(tmp_path, FIELDS)).claims[0].needs
    assert (needs.profile, needs.seeds) == ("smoke", 1)


def test_required_metrics_grow_with_the_profile(tmp_path: Path) -> None:
    card = load_card(write(tmp_path, FIELDS))
    assert card.required_metrics("smoke") == {"gmacs"}
    assert card.required_metrics("small") == {"gmacs", "ours", "theirs"}


@pytest.mark.parametrize("change", [{"unsettled": "needs a phone"}, {"source": {"confidence": "recalled"}}])
def test_a_claim_that_nothing_settles_requires_no_metric(tmp_path: Path, change: dict[str, Any]) -> None:
    card = load_card(write(tmp_path, changed("claims.0", {**VALUE, **change})))
    assert card.required_metrics("smoke") == set()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("claims.0.tolerance.absolute", "1e-3", "claims[0].tolerance.absolute: '1e-3' is text"),
        ("claims.0.tolerance.absolute", "1e-3", "write 1.0e-3"),
        ("claims.0.tolerance.absolute", "2.5e9", "write 2.5e+9"),
        ("claims.0.tolerance.absolute", -1.0, "claims[0].tolerance.absolute:"),
        ("claims.0.tolerance.absolute", float("inf"), "not a finite number"),
        ("claims.0.tolerance.absolute", True, "True is not a number"),
        ("claims.0.tolerance.why", None, "claims[0].tolerance.why: Field required"),
        ("claims.0.tolerance.relative", 0.1, "exactly one of absolute and relative"),
        ("claims.0.tolerance", None, "claims[0]: tolerance is missing"),
        ("claims.0.paper", None, "claims[0]: paper is missing"),
        ("claims.0.paper.low", 1.0, "either value, or both low and high"),
        ("claims.0.paper", {"low": 3.0, "high": 2.0}, "low 3 is above high 2"),
        ("claims.0.kind", "guess", "claims[0]:"),
        ("claims.0.metric", "two words", "claims[0].metric:"),
        ("claims.0.tolerence", {}, "claims[0].tolerence: unknown field"),
        ("claims.0.needs", {"profile": "huge", "seeds": 1}, "claims[0].needs.profile:"),
        ("claims.0.needs", {"profile": "small", "seeds": 6}, "6 seeds of profile small, which runs only 5"),
        ("claims.0.source", {"confidence": "seen"}, "needs the url"),
        ("claims.0.source.confidence", "sure", "claims[0].source.confidence:"),
        ("claims.1.id", "c1", "id c1 stands twice"),
        ("claims.1.worse", "ours", "same metric 'ours'"),
        ("claims.1.margin", 0.5, "why is missing"),
        ("claims.1.needs", {"seeds": 2}, "needs.seeds is 2"),
        ("profiles.paper", None, "profiles are smoke, small"),
        ("profiles.smoke.seeds", [0, 0], "a seed stands twice"),
        ("profiles.smoke.seeds", [], "profiles.smoke.seeds:"),
        ("profiles.small.parameters.lr", "1e-3", "profiles.small.parameters.lr: '1e-3' is text"),
        (
            "parameters",
            {"lr": {"minimum": 1.0, "maximum": 0.1}},
            "parameters.lr: minimum 1 is above maximum 0.1",
        ),
        ("parameters", {"lr": {}}, "either minimum and/or maximum"),
        ("links.paper", "www.example.org", "links.paper: 'www.example.org' is not a web address"),
        ("slug", "other", "differs from the file name"),
        ("year", "2022", "year:"),
        ("venue", None, "venue: Field required"),
    ],
)
def test_each_mistake_names_file_and_field(tmp_path: Path, field: str, value: Any, message: str) -> None:
    with pytest.raises(WrongUse) as caught:
        load_card(write(tmp_path, changed(field, value)))
    assert "data/papers/toy.yaml: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "property", "metric": "m"}, "exactly one of equals, at_most and at_least"),
        ({"kind": "property", "metric": "m", "equals": 0.5}, "0.5 is no whole number"),
        ({"kind": "property", "metric": "m", "equals": "1e-3"}, "write 1.0e-3"),
        ({"kind": "property", "metric": "m", "at_most": 1.0, "at_least": 0.0}, "exactly one of equals"),
        ({"kind": "trend", "metrics": ["m"], "direction": "increasing"}, "claims[0].metrics:"),
        ({"kind": "trend", "metrics": ["m", "m"], "direction": "increasing"}, "a metric stands twice"),
        ({**VALUE, "kind": "ratio", "baseline": "b"}, "a ratio of two metrics has unit '' or 'x'"),
        (
            {**VALUE, "paper": {"value": 0}, "tolerance": {"relative": 0.1, "why": "w"}},
            "a relative tolerance around 0 is empty",
        ),
    ],
)
def test_mistakes_of_each_kind(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(WrongUse) as caught:
        load_card(write(tmp_path, changed("claims", [claim(**fields)])))
    assert message in str(caught.value)


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    fields = changed("year", "2022")
    fields["claims"][0]["tolerance"]["absolute"] = "1e-3"
    with pytest.raises(WrongUse) as caught:
        load_card(write(tmp_path, fields))
    assert len(str(caught.value).splitlines()) == 2


def test_a_key_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match=r"key 'slug' stands twice"):
        load_card(write(tmp_path, "slug: toy\nslug: toy\n"))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "slug: [", "\tslug: toy"])
def test_a_file_that_is_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(WrongUse, match=r"data/papers/toy\.yaml"):
        load_card(write(tmp_path, text))


def test_an_unknown_slug_suggests_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, FIELDS)
    with pytest.raises(WrongUse, match="did you mean 'toy'"):
        load_card(Project(tmp_path).card("tou"))


def test_load_cards_lists_the_mistakes_of_all_files(tmp_path: Path) -> None:
    write(tmp_path, changed("year", "2022"))
    write(tmp_path, {**FIELDS, "slug": "two", "venue": ""}, slug="two")
    with pytest.raises(WrongUse) as caught:
        load_cards(Project(tmp_path))
    assert "toy.yaml: year" in str(caught.value)
    assert "two.yaml: venue" in str(caught.value)
