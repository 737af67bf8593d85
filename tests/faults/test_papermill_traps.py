"""papermill says "completed" where nothing was: each of its traps ends in a run that tells the truth."""

import json
from pathlib import Path

import pytest

from lib.engine.batch import plan_runs, run_all
from lib.engine.runner import Limits
from lib.engine.store import NOTEBOOK, Run, Store
from lib.errors import WrongUse
from lib.project import Project
from tests.toy import CELLS, toy_project, write_toy_notebook


def run_toy(project: Project, limits: Limits | None = None, **values: object) -> Run:
    """The one run of the toy with these parameters and no pause."""
    grid = {name: [value] for name, value in {"pause_s": 0.0, **values}.items()}
    (run,) = run_all(project, plan_runs(project, ["toy"], "smoke", grid, [0]), 1, limits)
    return run


def cell_states(run: Run) -> list[str]:
    """What papermill itself says of the cells."""
    cells = json.loads((run.path / NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    return [cell["metadata"]["papermill"]["status"] for cell in cells if "papermill" in cell["metadata"]]


def test_dead_kernel_is_a_failed_run_though_papermill_calls_its_cell_completed(tmp_path: Path) -> None:
    run = run_toy(toy_project(tmp_path), trouble="import os; os.kill(os.getpid(), 9)")
    assert (run.state, run.reason) == ("failed", "kernel died (in cell 5 of 8)")
    assert "completed" in cell_states(run)
    assert not run.metrics


def test_kernel_that_leaves_by_itself_is_a_failed_run(tmp_path: Path) -> None:
    run = run_toy(toy_project(tmp_path), trouble="import os; os._exit(0)")
    assert (run.state, run.reason) == ("failed", "kernel died (in cell 5 of 8)")


def test_cell_timeout_is_a_failed_run(tmp_path: Path) -> None:
    run = run_toy(toy_project(tmp_path), Limits(cell_timeout_s=1.0), trouble="sleep(60)")
    assert run.state == "failed"
    assert run.reason.startswith("timeout: a cell took too long (in cell 5")


def test_run_timeout_is_a_failed_run(tmp_path: Path) -> None:
    run = run_toy(toy_project(tmp_path), Limits(timeout_s=3.0), trouble="sleep(60)")
    assert run.state == "failed"
    assert run.reason.startswith("timeout: the run took longer than 3 s")


@pytest.mark.parametrize("way_out", ["import sys; sys.exit(0)", "raise SystemExit"])
def test_exit_in_a_cell_is_a_failed_run_though_papermill_takes_it_for_success(
    tmp_path: Path, way_out: str
) -> None:
    run = run_toy(toy_project(tmp_path), trouble=way_out)
    assert (run.state, run.reason) == (
        "failed",
        "stopped early: SystemExit in cell 5; 3 later cells never ran",
    )


def test_exit_in_the_last_cell_is_a_failed_run(tmp_path: Path) -> None:
    run = run_toy(toy_project(tmp_path, (*CELLS, "import sys\nsys.exit(0)")))
    assert (run.state, run.reason) == ("failed", "stopped early: SystemExit in cell 9")


def test_error_that_the_notebook_allows_itself_is_a_failed_run(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    path = project.notebook("toy")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"][5]["metadata"]["tags"] = ["raises-exception"]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    run = run_toy(project, trouble="1 / 0")
    assert (run.state, run.reason) == ("failed", "cell error: cell 5: ZeroDivisionError: division by zero")


def test_cell_tagged_to_be_skipped_is_a_failed_run(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    path = project.notebook("toy")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"][5]["metadata"]["tags"] = ["skip-execution"]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert run_toy(project).reason == "cell 5 of 8 did not run to its end"


def test_notebook_torn_while_it_was_written_is_no_result(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    run = run_toy(project)
    whole = (run.path / NOTEBOOK).read_bytes()
    (run.path / NOTEBOOK).write_bytes(whole[: len(whole) // 2])
    (read,) = Store(project).runs("toy")
    assert (read.state, read.reason) == ("failed", "torn: executed.ipynb is not what the run wrote")


AWKWARD = "a \"quoted\" 'word' with {braces}, a \\backslash\\n, a\ttab,\na line, and \N{SNOWMAN}"


def test_text_parameters_arrive_unmangled(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    echo = f"assert selector == {AWKWARD!r}, repr(selector)"
    write_toy_notebook(project, (*CELLS, echo))
    card = project.card("toy")
    card.write_text(
        card.read_text(encoding="utf-8").replace(
            "  selector:\n    choices:\n    - attention\n    - random\n", ""
        )
    )
    assert run_toy(project, selector=AWKWARD).state == "ok"


def test_numbers_keep_their_type_on_the_way_to_the_notebook(tmp_path: Path) -> None:
    check = "assert type(keep_ratio) is float and type(flag) is bool and sizes == [9007199254740993]"
    project = toy_project(tmp_path, (*CELLS, check))
    assert run_toy(project, keep_ratio=1, flag="no", sizes=[9007199254740993]).state == "ok"


def test_notebook_without_a_parameters_cell_is_refused_before_anything_starts(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    path = project.notebook("toy")
    path.write_text(path.read_text(encoding="utf-8").replace('"parameters"', '"elsewhere"'), encoding="utf-8")
    with pytest.raises(WrongUse, match=r"toy\.ipynb: no cell is tagged 'parameters'"):
        plan_runs(project, ["toy"], "smoke", {})
    assert not project.runs.exists()


def test_memory_limit_ends_the_run(tmp_path: Path) -> None:
    hungry = "block = bytearray(600_000_000)\nfor i in range(0, len(block), 4096): block[i] = 1\nsleep(60)"
    run = run_toy(toy_project(tmp_path), Limits(memory_bytes=500_000_000), trouble=hungry)
    assert run.state == "failed"
    assert run.reason.startswith("memory: 0.")


def test_notebook_that_forgets_a_required_metric_is_incomplete_and_names_it(tmp_path: Path) -> None:
    run = run_toy(toy_project(tmp_path, (*CELLS[:5], CELLS[6])))
    assert (run.state, run.missing) == ("incomplete", ("kept",))
    assert run.reason == "the notebook did not record kept"
