"""One run from plan to published folder."""

import getpass
import json
import pickle
import platform
from pathlib import Path

import pytest

from lib.engine import runner
from lib.engine.batch import PlannedRun, plan_runs
from lib.engine.runner import Ending, Limits, Stop, execute
from lib.engine.store import LOG, METRICS, NOTEBOOK, PROVENANCE, STATUS, WORK, Run, Store
from lib.project import Project
from tests.toy import CELLS, toy_project


def plan(project: Project, force: bool = False, **values: object) -> PlannedRun:
    """The toy's one planned run, without a pause."""
    grid = {name: [value] for name, value in {"pause_s": 0.0, **values}.items()}
    (planned,) = plan_runs(project, ["toy"], "smoke", grid, [0], force)
    return planned


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A toy run that went well, on three threads, and printed something."""
    report = "import os\nprint('threads', os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY'])"
    bar = "import sys\nfor n in range(5): print(f'\\r{n}/4', end='', file=sys.stderr, flush=True)"
    project = toy_project(tmp_path_factory.mktemp("toy"), (*CELLS, report, bar))
    run = execute(project, plan(project), Limits(threads=3))
    assert run
    return run


def test_good_run_holds_exactly_what_a_run_holds(done: Run) -> None:
    assert done.state == "ok"
    names = sorted(path.name for path in done.path.iterdir())
    assert names == sorted([LOG, METRICS, NOTEBOOK, PROVENANCE, STATUS])


def test_recorded_metrics_come_back(done: Run) -> None:
    assert done.metrics["kept"].value == 70.0
    assert done.metrics["kept"].unit == "percent"


def test_provenance_says_how_the_run_was_made(done: Run) -> None:
    record = json.loads((done.path / PROVENANCE).read_text(encoding="utf-8"))
    assert (record["threads"], record["omp_wait_policy"]) == (3, "PASSIVE")
    assert record["parameters"]["keep_ratio"] == 0.7
    assert record["peak_memory_bytes"] > 10_000_000
    assert record["wall_s"] > 0
    assert record["git"].keys() == {"commit", "dirty"}
    assert "run_dir" not in record["parameters"]


def test_thread_settings_reach_the_kernel_and_its_output_the_log(done: Run) -> None:
    assert "threads 3 PASSIVE" in (done.path / LOG).read_text(encoding="utf-8")


def test_progress_bar_is_one_line_of_log_and_notebook(done: Run) -> None:
    log = (done.path / LOG).read_text(encoding="utf-8")
    last = json.loads((done.path / NOTEBOOK).read_text(encoding="utf-8"))["cells"][-1]
    assert (log.count("/4"), log.count("4/4")) == (1, 1)
    assert [output["text"] for output in last["outputs"]] == [["4/4"]]


def test_nothing_of_the_run_names_a_place_a_host_or_a_user(done: Run) -> None:
    for path in done.path.iterdir():
        text = path.read_text(encoding="utf-8")
        for secret in (
            str(done.path.parents[3]),
            str(Path.home()),
            platform.node(),
            f"/{getpass.getuser()}/",
        ):
            assert secret not in text, path.name


def test_run_that_is_done_is_not_made_again(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    planned = plan(project)
    first = execute(project, planned, Limits())
    assert execute(project, planned, Limits()) == first


def test_run_is_made_again_when_forced(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    first = execute(project, plan(project), Limits())
    again = execute(project, plan(project, force=True), Limits())
    assert first
    assert again
    assert again.finished > first.finished


def test_nothing_begins_after_a_stop(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    stop = Stop(tmp_path / "stop")
    stop.ask("finish")
    assert execute(project, plan(project), Limits(), stop) is None
    assert Store(project).runs() == []


def test_kernel_that_does_not_start_is_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = toy_project(tmp_path)
    attempts: list[Path] = []

    def refuses(project: Project, partial: Path, planned: PlannedRun, *_: object) -> Ending:
        attempts.append(partial)
        source = project.notebook("toy").read_text(encoding="utf-8")
        (partial / WORK / "source.ipynb").write_text(source, encoding="utf-8")
        (partial / LOG).touch()
        return Ending("kernel did not start", "address in use", 0.1, 0)

    monkeypatch.setattr(runner, "_attempt", refuses)
    run = execute(project, plan(project), Limits())
    assert run
    assert len(set(attempts)) == 2
    assert (run.state, run.reason) == ("failed", "kernel did not start: address in use")


def test_what_a_worker_needs_can_be_sent_to_it(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    sent = (execute, project, plan(project), Limits(threads=2), Stop(tmp_path))
    assert pickle.loads(pickle.dumps(sent)) == sent
