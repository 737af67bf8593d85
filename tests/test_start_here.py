"""The tour: its cells run, its verdict comes out as it says, its table names every paper."""

import json
from typing import Any

import pytest

from lib.engine.hygiene import check_notebook
from lib.project import REPOSITORY

TOUR = REPOSITORY.notebooks / "00_start_here.ipynb"


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the names of the tour are bound to once all its cells have run."""
    bound: dict[str, Any] = {}
    for cell in json.loads(TOUR.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), bound)
    return bound


def test_tour_is_in_its_committed_form() -> None:
    assert check_notebook(TOUR) == []


def test_arithmetic_of_the_tour_reproduces_the_claim(names: dict[str, Any]) -> None:
    assert {row[0]: row[2] for row in names["judged"].rows}["dense_costs"] == "reproduced"


def test_every_paper_is_in_the_table_and_those_to_come_are_told(names: dict[str, Any]) -> None:
    papers = {slug: title for slug, _, title, _ in names["rows"]}
    assert len(papers) == len(names["rows"]) >= 15
    assert {slug for slug, title in papers.items() if title != "to come"} == set(REPOSITORY.slugs())
