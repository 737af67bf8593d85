"""Plans say what will run and why; a batch runs it; a table holds what came out."""

import csv
from pathlib import Path

import pytest

from lib.engine import provenance
from lib.engine.batch import Event, plan_runs, results_table, run_all, write_csv
from lib.engine.store import Metric, Run
from lib.errors import WrongUse
from lib.project import Project
from tests.toy import CELLS, toy_project, write_toy_notebook

QUICK = {"pause_s": [0.0]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    # Somebody may edit the repository while its tests run; the toy does not depend on it.
    monkeypatch.setattr(provenance, "source_hash", lambda: "unchanging")
    return toy_project(tmp_path)


def reasons(project: Project, **grid: list[object]) -> list[str]:
    """What the plan of the toy at smoke says of each run."""
    return [
        f"{plan.action}: {plan.reason}" for plan in plan_runs(project, ["toy"], "smoke", {**QUICK, **grid})
    ]


def a_run(seed: int, **metrics: float) -> Run:
    """A run as the store would read it."""
    return Run(
        path=Path("runs/toy/abc"),
        slug="toy",
        key="abc",
        state="ok",
        reason="",
        seconds=1.5,
        profile="smoke",
        seed=seed,
        parameters={"profile": "smoke", "seed": seed, "keep_ratio": 0.7},
        metrics={name: Metric(name, value, "GMAC", seed) for name, value in metrics.items()},
        components={},
    )


def test_plan_is_the_product_of_grid_and_seeds(project: Project) -> None:
    plans = plan_runs(
        project, ["toy"], "smoke", {"keep_ratio": ["0.5", 0.7], "flag": ["yes", "no"]}, [0, 1, 2]
    )
    assert len({plan.key for plan in plans}) == 12
    assert plans[0].parameters["keep_ratio"] == 0.5
    assert [plan.seed for plan in plans[:3]] == [0, 1, 2]


def test_seeds_default_to_those_of_the_profile(project: Project) -> None:
    assert [plan.seed for plan in plan_runs(project, ["toy"], "small", {})] == [0, 1, 2, 3, 4]


def test_same_run_asked_for_twice_is_planned_once(project: Project) -> None:
    assert len(plan_runs(project, ["toy", "toy"], "smoke", {"keep_ratio": [0.5, "0.50"]}, [1, 1])) == 1


def test_errors_of_all_runs_are_listed_once_each(project: Project) -> None:
    with pytest.raises(WrongUse) as error:
        plan_runs(project, ["toy", "toi"], "smok", {"keep_ratio": ["abc", 1.7], "kep": [1]}, [0, 1])
    assert sorted(line.split(";")[0] for line in str(error.value).splitlines()) == [
        "no paper 'toi'",
        "no profile 'smok'",
        "toy: keep_ratio=1.7 is above its maximum 1",
        "toy: keep_ratio=abc is not a valid float",
        "toy: no parameter 'kep'",
    ]


@pytest.mark.parametrize(
    ("grid", "seeds", "complaint"),
    [({"keep_ratio": []}, None, "no values"), ({"seed": [1]}, [2], "twice"), ({}, [], "empty")],
)
def test_grid_that_makes_no_sense_is_refused(
    project: Project, grid: dict[str, list[object]], seeds: list[int] | None, complaint: str
) -> None:
    with pytest.raises(WrongUse, match=complaint):
        plan_runs(project, ["toy"], "smoke", grid, seeds)


def test_planning_leaves_nothing_behind(project: Project) -> None:
    plan_runs(project, ["toy"], "smoke", {})
    assert not project.runs.exists()


def test_plan_says_why_each_run_will_or_will_not_start(project: Project) -> None:
    assert reasons(project) == ["run: never run"]
    run_all(project, plan_runs(project, ["toy"], "smoke", QUICK))
    assert reasons(project) == ["skip: already done"]
    assert reasons(project, keep_ratio=[0.5]) == ["run: new parameters"]
    write_toy_notebook(project, (*CELLS, "1 / 0"))
    assert reasons(project) == ["run: notebook changed"]
    run_all(project, plan_runs(project, ["toy"], "smoke", QUICK))
    assert reasons(project) == ["run: failed before: cell error: cell 9: ZeroDivisionError: division by zero"]


def test_batch_returns_its_runs_in_order_and_tells_what_happens(project: Project) -> None:
    events: list[Event] = []
    plans = plan_runs(project, ["toy"], "smoke", QUICK, [3, 1])
    runs = run_all(project, plans, jobs=2, on_event=events.append)
    assert [run.seed for run in runs] == [3, 1]
    assert [run.state for run in runs] == ["ok", "ok"]
    assert [event.kind for event in events].count("finished") == 2
    assert all(0 < event.cell <= event.cells for event in events if event.kind == "cell")


def test_batch_with_nothing_to_run_starts_nothing(project: Project) -> None:
    assert run_all(project, []) == []
    assert not project.runs.exists()


def test_table_has_a_row_a_run_with_units_in_its_columns() -> None:
    rows = results_table([a_run(0, macs=1.2), a_run(1, macs=1.3)])
    assert [row["macs [GMAC]"] for row in rows] == [1.2, 1.3]
    assert [row["seed"] for row in rows] == [0, 1]
    assert rows[0]["keep_ratio"] == 0.7


def test_columns_are_the_run_then_parameters_then_metrics_of_all_runs() -> None:
    first, second = a_run(0, macs=1.2), a_run(1, share=0.5)
    second.parameters["width"] = 3
    rows = results_table([first, second])
    names = "slug key state profile seed keep_ratio width macs_[GMAC] share_[GMAC] seconds reason"
    assert [list(row) for row in rows] == [[name.replace("_[", " [") for name in names.split()]] * 2
    assert rows[0]["width"] is None


def test_names_that_are_columns_already_lose_nothing() -> None:
    run = a_run(0, macs=1.2)
    run.parameters["state"] = "wet"
    run.metrics["keep_ratio"] = Metric("keep_ratio", 0.6, "", 0)
    (row,) = results_table([run])
    assert (row["state"], row["parameter state"]) == ("ok", "wet")
    assert (row["keep_ratio"], row["metric keep_ratio"]) == (0.7, 0.6)


def test_csv_has_every_column_of_every_run(tmp_path: Path) -> None:
    path = tmp_path / "tables" / "runs.csv"
    write_csv([a_run(0, macs=1.2), a_run(1, share=0.5)], path)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["macs [GMAC]"], row["share [GMAC]"]) for row in rows] == [("1.2", ""), ("", "0.5")]


def test_csv_of_no_run_has_a_header(tmp_path: Path) -> None:
    write_csv([], tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").read_text().strip() == "slug,key,state,profile,seed,seconds,reason"
