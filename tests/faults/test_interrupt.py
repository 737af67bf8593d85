"""Ctrl-C once finishes what runs and begins nothing new; twice stops at once and leaves no process."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from lib.engine.store import Store
from lib.project import Project
from tests.faults.driver import INTERRUPTED, PATIENCE_S, child_of, gone, kernel_of, start, wait_for
from tests.toy import toy_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return toy_project(tmp_path)


def read_until(process: "subprocess.Popen[str]", word: str) -> None:
    """Reads the driver's output up to the line that begins with `word`."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith(word):
            return
    raise AssertionError(f"the driver ended without saying {word}")


def test_once_finishes_what_runs_and_begins_nothing_new(project: Project) -> None:
    parent = start(project, {"pause_s": [2.0]}, seeds=[0, 1, 2])
    read_until(parent, "started")
    os.kill(parent.pid, signal.SIGINT)
    output, _ = parent.communicate(timeout=PATIENCE_S)
    assert parent.returncode == 0
    assert output.endswith("states ok\n")
    assert [run.state for run in Store(project).runs()] == ["ok"]


def test_twice_kills_what_runs_and_says_so(project: Project) -> None:
    parent = start(project, {"pause_s": [120.0]}, seeds=[0, 1])
    read_until(parent, "started")
    child, kernel = wait_for(lambda: child_of(parent)), wait_for(lambda: kernel_of(parent))
    os.kill(parent.pid, signal.SIGINT)
    read_until(parent, "stopping")
    os.kill(parent.pid, signal.SIGINT)
    assert parent.wait(PATIENCE_S) == INTERRUPTED
    assert [run.reason.split(" (")[0] for run in Store(project).runs()] == ["cancelled"]
    assert gone(child)
    assert gone(kernel)


def test_run_that_was_cancelled_is_made_by_the_next_command(project: Project) -> None:
    parent = start(project, {"pause_s": [3.0]})
    read_until(parent, "started")
    os.kill(parent.pid, signal.SIGINT)
    read_until(parent, "stopping")
    os.kill(parent.pid, signal.SIGINT)
    parent.communicate(timeout=PATIENCE_S)
    assert start(project, {"pause_s": [3.0]}).wait(PATIENCE_S) == 0
    assert [run.state for run in Store(project).runs()] == ["ok"]
