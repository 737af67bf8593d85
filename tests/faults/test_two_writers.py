"""Two processes want the same run: one makes it, the other waits and then finds it done."""

from pathlib import Path

import pytest

from lib.engine import provenance
from lib.engine.batch import plan_runs
from lib.engine.store import Store
from lib.project import Project
from tests.faults.driver import PATIENCE_S, kernel_of, start, wait_for
from tests.toy import toy_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return toy_project(tmp_path)


def test_same_run_at_once_is_made_only_once(project: Project) -> None:
    counter = project.root / "counter"
    grid = {"trouble": [f"open({str(counter)!r}, 'a').write('x')"]}
    both = [start(project, grid), start(project, grid)]
    outputs = [process.communicate(timeout=PATIENCE_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert all(output.endswith("states ok\n") for output in outputs)
    assert counter.read_text() == "x"


def test_plan_says_who_runs_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "source_hash", lambda: "unchanging")
    parent = start(project)
    wait_for(lambda: kernel_of(parent))
    (plan,) = plan_runs(project, ["toy"], "smoke", {})
    parent.communicate(timeout=PATIENCE_S)
    assert plan.reason == f"being run by process {parent.pid}: will wait for it"


def test_waiting_process_takes_over_when_the_other_is_killed(project: Project) -> None:
    grid = {"pause_s": [3.0]}
    first = start(project, grid)
    wait_for(lambda: kernel_of(first))
    second = start(project, grid)
    first.kill()
    first.wait()
    output, _ = second.communicate(timeout=PATIENCE_S)
    assert output.endswith("states ok\n")
    assert [run.state for run in Store(project).runs()] == ["ok"]
