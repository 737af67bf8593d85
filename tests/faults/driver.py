"""Runs the toy's plan in a process of its own, so that a test can kill it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from lib.engine import provenance
from lib.engine.batch import Event, plan_runs, run_all
from lib.engine.runner import Limits
from lib.errors import ReproError
from lib.project import REPOSITORY, Project

INTERRUPTED = 130
PATIENCE_S = 60.0

T = TypeVar("T")


def main() -> None:
    """Plans and runs what the request on the command line says; its output is one line an event."""
    request = json.loads(sys.argv[1])

    def tell(event: Event) -> None:
        print(event.kind, event.message, flush=True)

    project = Project(Path(request["root"]))
    try:
        # Somebody may edit the repository while its tests run; the toy does not depend on it.
        provenance.source_hash = lambda: "unchanging"
        planned = plan_runs(project, ["toy"], "smoke", request["grid"], request["seeds"])
        runs = run_all(project, planned, request["jobs"], Limits(), tell)
    except ReproError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    print("states", *(run.state for run in runs), flush=True)


def start(
    project: Project,
    grid: Mapping[str, Sequence[object]] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 1,
) -> "subprocess.Popen[str]":
    """The process of a batch, started."""
    request = {"root": str(project.root), "grid": dict(grid or {}), "seeds": seeds, "jobs": jobs}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.driver", json.dumps(request)],
        cwd=REPOSITORY.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def child_of(parent: "subprocess.Popen[str]") -> psutil.Process | None:
    """The process that executes the notebook, if there is one now."""
    return _first(parent.pid, "lib.engine.child")


def kernel_of(parent: "subprocess.Popen[str]") -> psutil.Process | None:
    """The kernel in which the notebook's cells run, if there is one now."""
    return _first(parent.pid, "ipykernel_launcher")


def wait_for(what: Callable[[], T | None]) -> T:
    """What `what` returns as soon as it returns something true."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError("what the test waits for did not happen")


def gone(process: psutil.Process) -> bool:
    """Whether the process has ended (a zombie has)."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _first(pid: int, word: str) -> psutil.Process | None:
    try:
        for process in psutil.Process(pid).children(recursive=True):
            if word in process.cmdline():
                return process
    except psutil.Error:
        return None
    return None


if __name__ == "__main__":
    main()
