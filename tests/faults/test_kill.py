"""kill -9 of kernel, child or parent: the store tells the truth and the next run finishes the work."""

import subprocess
from pathlib import Path

import psutil
import pytest

from lib.engine.store import Store
from lib.project import Project
from tests.faults.driver import PATIENCE_S, child_of, gone, kernel_of, start, wait_for
from tests.toy import toy_project

LONG = {"pause_s": [120.0]}


def in_the_middle(project: Project) -> tuple["subprocess.Popen[str]", psutil.Process, psutil.Process]:
    """A batch whose notebook sleeps in a cell: parent, child and kernel."""
    parent = start(project, LONG)
    (run,) = wait_for(lambda: [run for run in Store(project).runs("toy") if run.state == "running"])
    wait_for(lambda: Store(project).progress("toy", run.key)[0] >= 6)
    child, kernel = child_of(parent), kernel_of(parent)
    assert child
    assert kernel
    return parent, child, kernel


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return toy_project(tmp_path)


def test_killed_kernel_is_a_failed_run(project: Project) -> None:
    parent, child, kernel = in_the_middle(project)
    kernel.kill()
    assert parent.wait(PATIENCE_S) == 0
    (run,) = Store(project).runs("toy")
    assert (run.state, run.reason) == ("failed", "kernel died (in cell 4 of 8)")
    assert gone(child)


def test_killed_child_is_a_failed_run_and_its_kernel_is_gone(project: Project) -> None:
    parent, child, kernel = in_the_middle(project)
    child.kill()
    assert parent.wait(PATIENCE_S) == 0
    (run,) = Store(project).runs("toy")
    assert (run.state, run.reason) == ("failed", "child died: killed by SIGKILL (in cell 4 of 8)")
    assert gone(kernel)


def test_killed_parent_leaves_an_interrupted_run_and_no_process(project: Project) -> None:
    parent, child, kernel = in_the_middle(project)
    parent.kill()
    parent.wait()
    (run,) = Store(project).runs("toy")
    assert run.state == "interrupted"
    wait_for(lambda: gone(child) and gone(kernel))


def test_killed_parent_and_child_leave_no_kernel(project: Project) -> None:
    parent, child, kernel = in_the_middle(project)
    parent.kill()
    child.kill()
    parent.wait()
    wait_for(lambda: gone(kernel))
    assert [run.state for run in Store(project).runs("toy")] == ["interrupted"]


def test_next_run_after_a_kill_cleans_up_and_finishes(project: Project) -> None:
    parent = start(project)
    wait_for(lambda: kernel_of(parent))
    parent.kill()
    parent.wait()
    assert start(project).wait(PATIENCE_S) == 0
    assert [(run.state, run.reason) for run in Store(project).runs()] == [("ok", "")]
    assert not list((project.runs / "toy").glob(".partial-*"))


def test_prune_removes_what_a_killed_run_left(project: Project) -> None:
    parent = start(project)
    wait_for(lambda: kernel_of(parent))
    parent.kill()
    parent.wait()
    removed = Store(project).prune()
    assert (len(removed.interrupted), len(removed.batches)) == (1, 1)
    assert [path.name for path in project.runs.rglob("*") if ".lock" not in path.as_posix()] == ["toy"]


def test_batch_killed_in_the_middle_goes_on_where_it_was(project: Project) -> None:
    grid = {"keep_ratio": [0.5, 0.7, 0.9], "pause_s": [0.2]}
    parent = start(project, grid, [0], jobs=1)
    wait_for(lambda: any(run.state == "ok" for run in Store(project).runs()))
    parent.kill()
    parent.wait()
    finished = {run.key: run.finished for run in Store(project).runs() if run.state == "ok"}
    assert start(project, grid, [0], jobs=2).wait(PATIENCE_S) == 0
    runs = Store(project).runs()
    assert [run.state for run in runs] == ["ok"] * 3
    assert {run.key: run.finished for run in runs if run.key in finished} == finished
