"""Verbs that run notebooks and look at the runs, on real runs of the toy notebook."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lib.engine.batch import plan_runs
from lib.engine.provenance import Fingerprints
from lib.errors import ReproError
from lib.project import Project
from tests.commands import repro
from tests.engine.store_by_hand import publish, toy_metrics
from tests.toy import toy_card, toy_project, write_toy_notebook

GRID = ("batch", "toy", "-g", "keep_ratio=0.5,0.7", "-p", "pause_s=0")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the grid was run; tests only read it or add runs of their own."""
    project = toy_project(tmp_path_factory.mktemp("cli") / "toy")
    done = repro(project, *GRID, "--jobs", "2")
    assert done.code == 0, done.err
    return project


def test_a_batch_writes_one_row_a_run_with_units_in_the_header(project: Project) -> None:
    with (project.runs / "toy-results.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert list(table[0])[:5] == ["slug", "key", "state", "profile", "seed"]
    assert sorted(row["keep_ratio"] for row in table) == ["0.5", "0.7"]
    assert sorted(float(row["kept [percent]"]) for row in table) == [50.0, 70.0]


def test_the_same_batch_again_says_why_it_does_nothing(project: Project) -> None:
    done = repro(project, *GRID)
    assert done.code == 0
    assert done.err.count("already done") == 2
    assert done.last_line == str(project.runs / "toy-results.csv")


def test_a_run_prints_its_folder_last(project: Project) -> None:
    done = repro(project, "run", "toy", "-p", "keep_ratio=0.5", "-p", "pause_s=0")
    assert done.code == 0
    assert "already done" in done.err
    status = json.loads((Path(done.last_line) / "status.json").read_text())
    assert status["state"] == "ok"


def test_a_run_that_fails_says_why_and_exits_with_1(project: Project) -> None:
    done = repro(project, "run", "toy", "-p", "trouble=1/0", "-p", "pause_s=0")
    assert done.code == 1
    assert "ZeroDivisionError" in done.err
    assert Path(done.last_line).is_dir()
    pruned = repro(project, "runs", "--prune")
    assert "removed 1 failed run\n" in pruned.err
    assert not Path(done.last_line).exists()


def test_runs_are_listed_with_state_and_parameters(project: Project) -> None:
    listed = [run for run in repro(project, "runs", "--json").json if run["state"] == "ok"]
    assert {run["parameters"]["keep_ratio"] for run in listed} == {0.5, 0.7}
    assert all(Path(run["path"]).is_dir() for run in listed)


def test_an_interrupted_run_is_listed_and_pruned(project: Project) -> None:
    partial = project.runs / "toy" / ".partial-0123456789abcdef-x"
    partial.mkdir()
    listed = repro(project, "runs", "--json").json
    assert [run["state"] for run in listed if run["key"].startswith("0123")] == ["interrupted"]
    dead = project.runs / ".batch-dead"
    dead.mkdir()
    (dead / "holder.json").write_text('{"pid": 1, "started": 1.0}')
    assert "removed 1 interrupted run, 1 dead batch folder\n" in repro(project, "runs", "--prune").err
    assert not partial.exists()
    assert not dead.exists()
    assert "nothing to remove" in repro(project, "runs", "--prune").err


def test_a_diff_shows_what_differs(project: Project) -> None:
    first, second = (run["name"] for run in repro(project, "runs", "--json").json if run["state"] == "ok")
    difference = repro(project, "diff", first, second, "--json").json
    assert [row["name"] for row in difference["parameters"]] == ["keep_ratio"]
    assert [row["name"] for row in difference["provenance"]] == ["parameters"]
    kept = next(row for row in difference["metrics"] if row["name"] == "kept")
    assert abs(kept["difference"]) == pytest.approx(20)


def test_runs_show_what_sets_them_apart_from_their_profile(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    (plan,) = plan_runs(project, ["toy"], "small", {"keep_ratio": [0.5]}, [3])
    publish(project, plan, toy_metrics(3))
    out = repro(project, "runs").out
    assert "keep_ratio=0.5" in out
    assert "pause_s" not in out
    assert "seed=" not in out


def test_runs_tell_whether_they_are_current(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    publish(project, plan_runs(project, ["toy"], "smoke", {})[0], toy_metrics(0))
    assert "yes" in repro(project, "runs").out
    write_toy_notebook(project, ("pass",))
    assert "no: other notebook" in " ".join(repro(project, "runs").out.split())


def test_damaged_data_do_not_hide_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = toy_project(tmp_path)
    publish(project, plan_runs(project, ["toy"], "smoke", {})[0], toy_metrics(0))

    def damaged(*_: object) -> None:
        raise ReproError("the file is not the one that the manifest names")

    monkeypatch.setattr(Fingerprints, "components", damaged)
    done = repro(project, "runs")
    assert done.code == 0
    assert "toy/" in done.out


def test_the_list_names_the_profile_and_a_reason_is_told_once(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    card = toy_card()
    claims: Any = card["claims"]
    again = {**claims[1], "id": "again"}
    project.card("toy").write_text(yaml.safe_dump({**card, "claims": [*claims, again]}))
    out = repro(project, "audit", "--no-run").out
    assert out.count("as above") == 1
    assert "(smoke profile)" in " ".join(repro(project, "list").out.split())


def test_a_diff_calls_a_metric_that_one_run_lacks_absent(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    full, less = plan_runs(project, ["toy"], "small", {}, [0, 1])
    metrics = toy_metrics(0)
    publish(project, full, {**metrics, "worse": (0.1234567, "")})
    publish(project, less, {"worse": (0.1234567, "")})
    first, second = (run["name"] for run in repro(project, "runs", "--json").json)
    out = repro(project, "diff", first, second).out
    assert "absent" in out
    assert "0.1235" in out
    assert "0.12345" not in out


def test_runs_that_do_not_exist_are_told_together(project: Project) -> None:
    done = repro(project, "diff", "toy/zz", "toy/yy")
    assert done.code == 2
    assert "'toy/zz'" in done.err
    assert "'toy/yy'" in done.err


def test_the_beginning_of_several_keys_is_refused(project: Project) -> None:
    done = repro(project, "rerun", "toy/")
    assert done.code == 2
    assert "there is no run" in done.err


def test_a_rerun_gives_the_same_metrics(project: Project) -> None:
    name = repro(project, "runs", "--json").json[0]["name"]
    done = repro(project, "rerun", name)
    assert done.code == 0
    assert "all 3 metrics the same as before" in done.err
    assert repro(project, "runs", "toy", "--json").json[-1]["name"] == name


def test_a_rerun_that_fails_is_reported_and_leaves_the_good_run(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    once = f"from pathlib import Path; p = Path({str(tmp_path / 'mark')!r}); assert not p.exists(); p.touch()"
    first = repro(project, "run", "toy", "-p", "pause_s=0", "-p", f"trouble={once}")
    assert first.code == 0, first.err
    before = repro(project, "runs", "--json").json
    again = repro(project, "rerun", first.last_line)
    assert again.code == 1
    assert "AssertionError" in again.err
    assert f"stays: {first.last_line}" in again.err
    assert "AssertionError" in (Path(again.last_line) / "log.txt").read_text()
    assert repro(project, "runs", "--json").json == before


def test_an_audit_prints_every_verdict_and_the_front_page_last(project: Project) -> None:
    done = repro(project, "audit")
    assert done.code == 0, done.err
    assert "1 paper, 2 claims: 1 reproduced, 1 not assessed" in done.out
    assert "./repro audit toy --profile small" in " ".join(done.out.split())
    assert Path(done.last_line) == project.site / "index.html"
    assert (project.site / "index.html").is_file()


def test_an_audit_counts_checks_of_ours_apart(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    claims: Any = toy_card()["claims"]
    source = {**claims[0]["source"], "directness": "derived"}
    card = {**toy_card(), "claims": [{**claims[0], "source": source}, claims[1]]}
    project.card("toy").write_text(yaml.safe_dump(card))
    out = " ".join(repro(project, "audit", "--no-run").out.split())
    assert "2 not assessed (of the paper's own 1: 1 not assessed; the other is a check of ours)" in out


def test_an_audit_as_json_prints_nothing_else_on_stdout(project: Project) -> None:
    audited = repro(project, "audit", "--no-run", "--json").json
    assert [verdict["claim"] for verdict in audited["papers"][0]["verdicts"]] == ["kept", "order"]
