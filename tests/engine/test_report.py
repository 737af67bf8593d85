"""The site: what it shows, that it needs nothing from outside, and how it takes the old one's place."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from lib.engine.audit import audit
from lib.engine.batch import plan_runs
from lib.engine.report import build_site, readme_table, site, update_readme
from lib.engine.report.notebook import mathml, notebook_html
from lib.engine.report.site import MARKS
from lib.engine.verdicts import State
from lib.errors import ReproError
from lib.project import Project
from tests.engine.store_by_hand import publish, publish_profile, toy_metrics
from tests.toy import toy_card, toy_project

MARKDOWN = "The share $h$:\n\n$$P = \\frac{a}{b}$$\n"
OUTPUT = {"output_type": "stream", "name": "stdout", "text": "kept 70 percent\n"}
EXECUTED = {
    "cells": [
        {"cell_type": "markdown", "id": "m", "metadata": {}, "source": MARKDOWN},
        {
            "cell_type": "code",
            "id": "c",
            "metadata": {},
            "source": "print(1 < 2)",
            "outputs": [OUTPUT],
            "execution_count": 1,
        },
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


class Links(HTMLParser):
    """Collects what a page loads and where it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.anchors: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.anchors.append(str(found.get("href")))
        else:
            self.loads += [str(found[name]) for name in ("src", "href") if found.get(name)]


def links(page: Path) -> Links:
    parser = Links()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return toy_project(tmp_path)


@pytest.fixture
def audited(project: Project) -> Project:
    """A project whose toy was audited at `small`, with evidence, figures and an executed notebook."""
    for plan in plan_runs(project, ["toy"], "small", {}):
        metrics = toy_metrics(plan.seed)
        publish(project, plan, metrics, notebook=EXECUTED, figures=("cost_by_ratio",))
    audit(project, ["toy"], "small", run_missing=False, record="small")
    return project


def page(project: Project, name: str) -> str:
    return (project.site / name).read_text(encoding="utf-8")


def change_card(project: Project, **fields: Any) -> None:
    text = yaml.safe_dump({**toy_card(), **fields}, sort_keys=False, allow_unicode=True)
    project.card("toy").write_text(text, encoding="utf-8")


def test_the_matrix_has_a_mark_for_every_claim(audited: Project) -> None:
    anchors = links(audited.site / "index.html").anchors
    assert {"papers/toy.html#kept", "papers/toy.html#order"} <= set(anchors)


def test_a_state_is_told_by_a_sign_and_words_not_by_colour_alone(audited: Project) -> None:
    sign, words = MARKS[State.REPRODUCED]
    text = re.sub(r"<[^>]+>|\s+", " ", page(audited, "papers/toy.html"))
    assert re.search(rf"{sign} +{words}", text)
    assert len({mark[0] for mark in MARKS.values()}) == len(State)


def test_every_link_inside_the_site_leads_somewhere(audited: Project) -> None:
    for path in audited.site.rglob("*.html"):
        found = links(path)
        for target in [*found.anchors, *found.loads]:
            if target.startswith(("http", "data:")):
                continue
            file, _, anchor = target.partition("#")
            goal = (path.parent / file).resolve() if file else path
            assert goal.exists(), f"{path.name} -> {target}"
            assert not anchor or anchor in links(goal).ids, f"{path.name} -> {target}"


def test_no_page_loads_anything_from_outside(audited: Project) -> None:
    for path in audited.site.rglob("*.html"):
        assert [load for load in links(path).loads if "//" in load] == []
        assert "<script" not in path.read_text(encoding="utf-8")
    assert "url(" not in page(audited, "style.css")
    assert "@import" not in page(audited, "style.css")


def test_ids_of_a_page_are_unique(audited: Project) -> None:
    ids = links(audited.site / "papers" / "toy.html").ids
    assert len(ids) == len(set(ids))


def test_recorded_evidence_stands_apart_from_what_was_run(audited: Project) -> None:
    run, recorded = page(audited, "papers/toy.html").split('<section class="recorded"')
    assert 'id="kept"' in run
    assert "data/evidence/toy/small.json" not in run
    assert 'id="small.json-kept"' in recorded
    assert "c0ffee" in recorded


def test_figures_of_the_run_are_copied_and_described(audited: Project) -> None:
    assert (audited.site / "figures" / "toy" / "cost_by_ratio.png").exists()
    assert 'alt="Figure cost by ratio' in page(audited, "papers/toy.html")


def test_the_executed_notebook_has_its_page(audited: Project) -> None:
    text = page(audited, "notebooks/toy.html")
    assert "kept 70 percent" in text
    assert "<math" in text
    assert "$$" not in text


def test_the_verdicts_are_published_as_json(audited: Project) -> None:
    assert json.loads(page(audited, "verdicts/toy.json"))["slug"] == "toy"


def test_a_paper_without_audit_shows_the_command(project: Project) -> None:
    build_site(project)
    assert "./repro audit toy" in page(project, "index.html")
    assert "Not audited yet" in page(project, "papers/toy.html")


def test_findings_and_deviations_are_shown_and_escaped(project: Project) -> None:
    change_card(
        project,
        findings=[{"title": "Sum", "arithmetic": "1 < 2 & 3", "consequence": "none"}],
        deviations=[{"what": "smaller", "why": "time", "effect": "faster"}],
    )
    build_site(project)
    text = page(project, "papers/toy.html")
    assert "1 &lt; 2 &amp; 3" in text
    assert "smaller" in text


def test_a_claim_added_since_the_audit_breaks_nothing(audited: Project) -> None:
    claims = toy_card()["claims"]
    assert isinstance(claims, list)
    change_card(audited, claims=[*claims, {**claims[0], "id": "new"}])
    build_site(audited)
    assert 'id="kept"' in page(audited, "papers/toy.html")


def test_a_run_that_is_gone_leaves_the_verdicts(audited: Project) -> None:
    for run in audited.runs.glob("toy/*"):
        run.rename(audited.root / f"gone-{run.name}")
    build_site(audited)
    assert 'id="kept"' in page(audited, "papers/toy.html")
    assert not (audited.site / "notebooks" / "toy.html").exists()


def test_a_site_without_papers_says_so(tmp_path: Path) -> None:
    index = build_site(Project(tmp_path))
    assert "There is no paper yet" in index.read_text(encoding="utf-8")


def test_a_failed_build_leaves_the_old_site(audited: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = page(audited, "index.html")

    def fail(*_: object) -> None:
        raise ReproError("no")

    monkeypatch.setattr(site, "_copy_figures", fail)
    with pytest.raises(ReproError):
        build_site(audited)
    assert page(audited, "index.html") == before
    assert not list(audited.root.glob(".site*"))


def test_what_a_killed_build_left_is_removed(audited: Project) -> None:
    (audited.root / ".site-draft-killed").mkdir()
    build_site(audited)
    assert not list(audited.root.glob(".site*"))


def test_pages_that_are_gone_do_not_linger(audited: Project) -> None:
    (audited.site / "papers" / "former.html").touch()
    build_site(audited)
    assert not (audited.site / "papers" / "former.html").exists()


def test_a_torn_notebook_gives_no_page(tmp_path: Path) -> None:
    path = tmp_path / "executed.ipynb"
    path.write_text('{"cells": [', encoding="utf-8")
    assert notebook_html(path) is None


def test_tex_that_cannot_be_converted_is_shown_as_it_is() -> None:
    assert mathml(r"a < \frac{", block=False) == r'<code class="tex">a &lt; \frac{</code>'


def test_aligned_equations_become_a_table() -> None:
    assert "<mtable" in mathml(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", block=True)


def test_the_readme_table_counts_the_verdicts(audited: Project) -> None:
    head, _, row = readme_table(audited).splitlines()
    assert "| reproduced | not reproduced |" in head
    assert "| 2 | 2 | · | · | · | · | · |" in row
    assert "[toy](notebooks/toy.ipynb)" in row


def test_checks_of_ours_stand_apart_in_the_readme_and_on_the_site(project: Project) -> None:
    claims: Any = toy_card()["claims"]
    source = {**claims[0]["source"], "directness": "derived"}
    change_card(project, claims=[{**claims[0], "source": source}, claims[1]])
    publish_profile(project, "small")
    audit(project, ["toy"], "small", run_missing=False)
    assert readme_table(project).endswith("| 1 | 1 | · | · | · | · | 1 of 1 hold |")
    text = " ".join(page(project, "papers/toy.html").split())
    assert "1 is a check of ours" in text
    assert "the paper's 70" not in text
    assert "the paper's own 1: 1 reproduced" in page(project, "index.html")


def test_the_readme_table_before_any_audit(project: Project) -> None:
    assert "not audited yet" in readme_table(project)


def test_the_readme_keeps_everything_outside_the_markers(project: Project) -> None:
    readme = project.root / "README.md"
    readme.write_text("# A\n<!-- verdicts:begin -->\nold\n<!-- verdicts:end -->\nend\n", encoding="utf-8")
    assert update_readme(project)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("# A\n<!-- verdicts:begin -->\n| paper")
    assert text.endswith("<!-- verdicts:end -->\nend\n")
    assert "old" not in text
    assert not update_readme(project)


@pytest.mark.parametrize("text", ["# A\n", "<!-- verdicts:end -->\n<!-- verdicts:begin -->\n"])
def test_a_readme_without_markers_is_an_error(project: Project, text: str) -> None:
    (project.root / "README.md").write_text(text, encoding="utf-8")
    with pytest.raises(ReproError, match="verdicts:begin"):
        update_readme(project)


def test_a_missing_readme_is_an_error(project: Project) -> None:
    with pytest.raises(ReproError, match=r"README\.md"):
        update_readme(project)


def test_two_audits_of_two_profiles_show_the_larger_run(audited: Project) -> None:
    publish_profile(audited, "smoke")
    audit(audited, ["toy"], "smoke", run_missing=False)
    assert "Executed notebook, small profile" in page(audited, "notebooks/toy.html")
