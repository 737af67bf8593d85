"""A full disk ends a run with one clear error and leaves nothing behind."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib.engine import runner
from lib.engine.batch import plan_runs
from lib.engine.runner import Limits, execute
from lib.engine.store import PROVENANCE, DiskFull, Store, write_json
from lib.project import REPOSITORY, Project
from tests.toy import toy_project

SMALL_DISK = """
mount -t tmpfs -o size=2m small "$1" && shift || exit 77
"$@"; code=$?
echo left: $(find . -mindepth 1 -not -path '*/.locks*' -printf '%P ')
exit $code
"""
"""Runs a command with its first argument on a real file system of 2 MB, then lists what is left there."""

WHERE = {
    "a cell": "open('fill', 'wb').write(bytes(9_000_000))",
    "the notebook": "print('x' * 9_000_000)",
    "the metrics": """\
import contextlib
with contextlib.suppress(OSError), open('fill', 'wb') as fill:
    while True: fill.write(bytes(4096)); fill.flush()
""",
}


def on_a_small_disk(project: Project, trouble: str) -> "subprocess.CompletedProcess[str]":
    """The toy's batch with its runs on a small disk; skips the test where none may be mounted."""
    project.runs.mkdir(parents=True)
    grid = {"trouble": [trouble], "pause_s": [0.0]}
    request = {"root": str(project.root), "grid": grid, "seeds": [0], "jobs": 1}
    driver = [sys.executable, "-m", "tests.faults.driver", json.dumps(request)]
    script = SMALL_DISK.replace("find .", f"find {project.runs}")
    try:
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(project.runs), *driver],
            cwd=REPOSITORY.root,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no 'unshare' here")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no file system may be mounted here")
    return done


@pytest.mark.parametrize("where", WHERE)
def test_disk_that_fills_up_during_a_run(tmp_path: Path, where: str) -> None:
    done = on_a_small_disk(toy_project(tmp_path), WHERE[where])
    assert done.returncode == 1
    assert done.stderr.startswith("disk full: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout.splitlines()[-1] == "left: toy"


def test_disk_that_fills_up_while_the_run_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(path: Path, value: Any) -> None:
        if path.name == PROVENANCE:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_json(path, value)

    project = toy_project(tmp_path)
    (plan,) = plan_runs(project, ["toy"], "smoke", {"pause_s": [0.0]})
    monkeypatch.setattr(runner, "write_json", no_space)
    with pytest.raises(DiskFull, match="free some space"):
        execute(project, plan, Limits())
    assert Store(project).runs() == []
    assert [path.name for path in (project.runs / "toy").iterdir()] == [".locks"]
