"""The audit: what it runs, judges, keeps and answers with, on a store filled by hand."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lib.engine import batch
from lib.engine.audit import FORMAT, as_json, audit, command_for, last_verdicts, read_audit
from lib.engine.batch import PlannedRun, plan_runs
from lib.engine.cards import load_card
from lib.engine.evidence import read_evidence, record_evidence
from lib.engine.store import Run
from lib.engine.verdicts import State
from lib.errors import ReproError, WrongUse
from lib.project import Project
from tests.engine.store_by_hand import publish, publish_profile, toy_metrics
from tests.toy import CELLS, PARAMETERS, toy_project, write_toy_notebook

Runner = Callable[..., list[Run]]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return toy_project(tmp_path)


def states(project: Project) -> dict[str, str]:
    return {verdict.claim: str(verdict.state) for verdict in last_verdicts(project, "toy")}


def let_runs(monkeypatch: pytest.MonkeyPatch, runner: Runner) -> None:
    monkeypatch.setattr(batch, "run_all", runner)


def finishing(metrics: Callable[[int], Any], state: str = "ok", reason: str = "") -> Runner:
    """A stand-in for `run_all` that publishes every planned run at once."""

    def run_all(project: Project, planned: Sequence[PlannedRun], *_: object) -> list[Run]:
        todo = [plan for plan in planned if plan.action == "run"]
        return [publish(project, plan, metrics(plan.seed), state, reason) for plan in todo]

    return run_all


def test_smoke_settles_what_it_may_and_names_the_command_for_the_rest(project: Project) -> None:
    publish_profile(project, "smoke")
    result = audit(project, ["toy"], run_missing=False, write_site=False)
    kept, order = result.papers[0].verdicts
    assert (kept.state, order.state) == (State.REPRODUCED, State.NOT_ASSESSED)
    assert order.command == "./repro audit toy --profile small"
    assert result.exit_code == 0


def test_small_settles_the_ordering(project: Project) -> None:
    publish_profile(project, "small")
    assert audit(project, ["toy"], "small", run_missing=False, write_site=False).exit_code == 0
    assert states(project) == {"kept": "reproduced", "order": "reproduced"}


def test_not_reproduced_is_an_honest_answer(project: Project) -> None:
    publish_profile(project, "small", gain=-0.1)
    assert audit(project, ["toy"], "small", run_missing=False, write_site=False).exit_code == 0
    assert states(project)["order"] == "not_reproduced"


def test_a_smoke_audit_keeps_what_current_small_runs_settled(project: Project) -> None:
    publish_profile(project, "smoke")
    publish_profile(project, "small")
    audit(project, ["toy"], "smoke", run_missing=False, write_site=False)
    order = last_verdicts(project, "toy")[1]
    assert (order.state, order.profile) == (State.REPRODUCED, "small")


def test_without_runs_and_without_running_nothing_is_assessed(project: Project) -> None:
    result = audit(project, ["toy"], run_missing=False, write_site=False)
    assert result.exit_code == 0
    assert set(states(project).values()) == {"not_assessed"}
    assert "no current run of the smoke profile" in result.papers[0].verdicts[0].reason


def test_missing_runs_are_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    let_runs(monkeypatch, finishing(toy_metrics))
    result = audit(project, [])
    assert result.exit_code == 0
    assert states(project)["kept"] == "reproduced"


def test_the_plan_is_told_before_anything_starts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    let_runs(monkeypatch, lambda *_: order.append("run") or [])  # type: ignore[func-returns-value]
    audit(project, [], on_plan=lambda plans: order.append(plans[0].reason))
    assert order == ["never run", "run"]


def test_a_metric_that_was_never_recorded_is_an_error_and_hides_no_other_claim(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def metrics(seed: int) -> Any:
        return {name: entry for name, entry in toy_metrics(seed).items() if name != "better"}

    let_runs(monkeypatch, finishing(metrics, "incomplete", "the notebook did not record better"))
    result = audit(project, [], "small")
    assert result.exit_code == 1
    assert states(project) == {"kept": "reproduced", "order": "error"}


def test_a_failed_run_is_named_in_the_reason(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    let_runs(monkeypatch, finishing(toy_metrics, "failed", "kernel died"))
    result = audit(project, [])
    assert result.exit_code == 1
    kept = result.papers[0].verdicts[0]
    assert kept.state is State.ERROR
    assert "the run of seed 0 failed (kernel died)" in kept.reason


def test_one_failed_seed_leaves_the_others_to_judge(project: Project) -> None:
    for plan in plan_runs(project, ["toy"], "small", {}):
        publish(project, plan, toy_metrics(plan.seed), "failed" if plan.seed == 3 else "ok", "timeout")
    result = audit(project, [], "small", run_missing=False, write_site=False)
    assert states(project) == {"kept": "reproduced", "order": "not_assessed"}
    assert [run.seed for run in result.papers[0].failures] == [3]
    assert result.exit_code == 1


def test_a_run_that_never_came_to_be_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    let_runs(monkeypatch, lambda *_: [])
    result = audit(project, [])
    assert result.exit_code == 1
    assert [plan.seed for plan in result.not_run] == [0]
    assert states(project)["kept"] == "error"


def test_recorded_evidence_is_judged_apart(project: Project) -> None:
    publish_profile(project, "small")
    audit(project, ["toy"], "small", run_missing=False, write_site=False, record="small")
    for run in project.runs.glob("toy/*"):
        run.rename(project.root / f"gone-{run.name}")
    paper = audit(project, ["toy"], run_missing=False, write_site=False).papers[0]
    assert {verdict.state for verdict in paper.verdicts} == {State.NOT_ASSESSED}
    assert [verdict.state for verdict in paper.recorded[0].verdicts] == [State.REPRODUCED] * 2
    assert {verdict.origin for verdict in paper.recorded[0].verdicts} == {"recorded"}


def test_evidence_keeps_what_made_it(project: Project) -> None:
    publish_profile(project, "smoke")
    (path,) = audit(project, ["toy"], run_missing=False, write_site=False, record="smoke").evidence_written
    entry = json.loads(path.read_text(encoding="utf-8"))
    assert path == project.evidence / "toy" / "smoke.json"
    assert (entry["commit"], entry["machine"]["processor"]) == ("c0ffee", "A Processor")
    assert {"name": "kept", "value": 70.0, "unit": "percent"} in entry["runs"][0]["metrics"]


def test_evidence_can_be_named_and_names_no_folder(project: Project) -> None:
    runs = [
        replace(run, parameters={**run.parameters, "data_root": "/home/somebody/data"})
        for run in publish_profile(project, "small")
    ]
    audit(project, ["toy"], "small", run_missing=False, write_site=False, record="small")
    path = record_evidence(project, "toy", "small", runs, "small-other")
    assert sorted(read_evidence(project, "toy")) == ["small-other.json", "small.json"]
    assert "somebody" not in path.read_text(encoding="utf-8")
    with pytest.raises(WrongUse, match="evidence cannot be called"):
        audit(project, ["toy"], "small", run_missing=False, write_site=False, record="../small")


def test_nothing_to_record_is_an_error(project: Project) -> None:
    with pytest.raises(ReproError, match="no finished run of profile smoke to record"):
        audit(project, ["toy"], run_missing=False, write_site=False, record="smoke")


def test_torn_evidence_is_refused_by_name_before_anything_runs(project: Project) -> None:
    path = project.evidence / "toy" / "smoke.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"slug": "toy"', encoding="utf-8")
    with pytest.raises(WrongUse, match=r"data/evidence/toy/smoke\.json"):
        audit(project, ["toy"], run_missing=False, write_site=False)


def test_the_kept_verdicts_can_be_read_back(project: Project) -> None:
    publish_profile(project, "small")
    paper = audit(project, ["toy"], "small", run_missing=False, write_site=False, record="small").papers[0]
    assert read_audit(project, "toy") == paper


def test_the_kept_json_has_the_documented_shape(project: Project) -> None:
    publish_profile(project, "smoke")
    paper = audit(project, ["toy"], run_missing=False, write_site=False, record="smoke").papers[0]
    kept = json.loads((project.runs / "verdicts" / "toy.json").read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(as_json(paper)))
    assert kept["format"] == FORMAT
    assert set(kept) == {"format", "slug", "profile", "audited", "verdicts", "recorded", "runs"}
    assert set(kept["verdicts"][0]) == {
        "claim",
        "state",
        "reason",
        "command",
        "measured",
        "paper",
        "profile",
        "origin",
        "interval",
        "seeds",
        "derived",
    }
    assert set(kept["recorded"][0]) == {"file", "profile", "commit", "recorded", "machine", "verdicts"}
    assert set(kept["runs"][0]) == {"run", "path", "state", "reason", "profile", "seed", "seconds"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 0}', '{"format": 1}'])
def test_verdicts_that_cannot_be_read_count_as_none(project: Project, text: str) -> None:
    path = project.runs / "verdicts" / "toy.json"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    assert last_verdicts(project, "toy") == []


@pytest.mark.parametrize(
    ("slugs", "profile", "message"),
    [(["tou"], "smoke", "tou"), (["toy"], "huge", "unknown profile 'huge'")],
)
def test_wrong_use_starts_nothing(project: Project, slugs: list[str], profile: str, message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        audit(project, slugs, profile)
    assert not project.runs.exists()


def test_a_project_without_papers_says_so(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="there is no paper"):
        audit(Project(tmp_path), [])


def test_a_real_run_is_audited_and_the_second_audit_runs_nothing(project: Project) -> None:
    plans: list[str] = []
    first = audit(project, ["toy"], on_plan=lambda planned: plans.append(planned[0].action))
    second = audit(project, ["toy"], on_plan=lambda planned: plans.append(planned[0].reason))
    assert plans == ["run", "already done"]
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.papers[0].verdicts == second.papers[0].verdicts


@pytest.fixture
def with_data_root(project: Project) -> Project:
    write_toy_notebook(project, CELLS, PARAMETERS + 'data_root: str = ""  # folder of data\n')
    return project


def test_a_profile_that_reads_a_folder_is_refused_without_it(with_data_root: Project) -> None:
    with pytest.raises(WrongUse, match="toy: profile paper needs data_root; give it as -p data_root=FOLDER"):
        audit(with_data_root, ["toy"], "paper")
    assert not with_data_root.runs.exists()


def test_a_folder_that_is_given_reaches_every_run(
    with_data_root: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "images")
    Path(folder).mkdir()
    let_runs(monkeypatch, finishing(toy_metrics))
    result = audit(with_data_root, ["toy"], "paper", overrides={"data_root": folder}, write_site=False)
    assert {plan.parameters["data_root"] for plan in result.planned} == {folder}


def test_an_override_that_no_notebook_has_is_refused(project: Project) -> None:
    with pytest.raises(WrongUse, match="no audited notebook has a parameter 'kep_ratio'; did you mean 'keep"):
        audit(project, ["toy"], overrides={"kep_ratio": "0.5"})
    assert not project.runs.exists()


def test_the_command_that_settles_a_claim_names_the_folder(with_data_root: Project) -> None:
    card = load_card(with_data_root.card("toy"))
    assert command_for(with_data_root, card, "small") == "./repro audit toy --profile small"
    assert (
        command_for(with_data_root, card, "paper") == "./repro audit toy --profile paper -p data_root=FOLDER"
    )
