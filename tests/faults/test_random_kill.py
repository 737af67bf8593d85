"""Kernel, child or parent killed at random times: never a false result, and a plain run ends the work."""

import random
import time
from pathlib import Path

import psutil
import pytest

from lib.engine.store import Store
from lib.project import Project
from tests.faults.driver import PATIENCE_S, child_of, kernel_of, start
from tests.toy import toy_project

KILLS = 21


def undisturbed_s(project: Project, seed: int) -> float:
    """Seconds that the driver and one toy run take on this machine now: kills are drawn from this span."""
    started = time.perf_counter()
    start(project, seeds=[seed], grid={"pause_s": [0.5]}).wait(PATIENCE_S)
    return time.perf_counter() - started


def tells_the_truth(project: Project) -> bool:
    """Every run that claims to be good has the toy's metrics, and nothing is running."""
    for run in Store(project).runs("toy"):
        if run.state == "ok" and run.metrics["kept"].value != 70.0:
            return False
        if run.state not in ("ok", "failed", "interrupted"):
            return False
    return True


@pytest.mark.slow
def test_random_kill(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    dice = random.Random(20)
    undisturbed_s(project, KILLS)  # the first run also fills the caches of the disk
    whole_s = undisturbed_s(project, KILLS + 1)
    killed = 0
    for number in range(KILLS):
        parent = start(project, seeds=[number], grid={"pause_s": [0.5]})
        time.sleep(dice.uniform(0.1, 0.9) * whole_s)
        victim = (kernel_of(parent), child_of(parent), None)[number % 3]
        if parent.poll() is None:
            (victim or psutil.Process(parent.pid)).kill()
            killed += 1
        parent.wait(PATIENCE_S)
        assert tells_the_truth(project), [(run.state, run.reason) for run in Store(project).runs()]
    final = start(project, seeds=list(range(KILLS + 2)), grid={"pause_s": [0.5]}, jobs=2)
    output, _ = final.communicate(timeout=3 * PATIENCE_S)
    assert final.returncode == 0, output
    assert [run.state for run in Store(project).runs()] == ["ok"] * (KILLS + 2)
    assert killed >= KILLS // 2
