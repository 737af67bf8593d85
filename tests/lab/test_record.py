"""What a notebook records, and what it may not record."""

import json
from pathlib import Path

import pytest

from lib.engine.child import PROJECT_VARIABLE
from lib.errors import ReproError
from lib.lab.record import OpenRun, open_run
from tests.toy import toy_project


@pytest.fixture
def run(tmp_path: Path) -> OpenRun:
    return open_run("toy", run_dir=str(tmp_path / "run"), seed=3, profile="smoke")


def written(folder: Path) -> dict[str, dict[str, object]]:
    """The metrics.json in a run's folder."""
    return json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))


def test_recorded_value_is_written_at_once_with_unit_and_seed(run: OpenRun, tmp_path: Path) -> None:
    run.record("gmacs", 1.25, unit="GMAC")
    assert written(tmp_path) == {"gmacs": {"value": 1.25, "unit": "GMAC", "seed": 3}}


def test_run_that_records_nothing_says_so(run: OpenRun, tmp_path: Path) -> None:
    assert written(tmp_path) == {}


def test_numpy_scalars_and_bools_become_plain(run: OpenRun, tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    run.record("share", numpy.float32(0.5))
    run.record("holds", numpy.bool_(True))
    run.record("count", numpy.array(7))
    assert [entry["value"] for entry in written(tmp_path).values()] == [0.5, True, 7]
    assert written(tmp_path)["holds"]["value"] is True


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1.0", None, [1.0]])
def test_value_that_is_no_finite_number_is_refused(run: OpenRun, tmp_path: Path, value: object) -> None:
    with pytest.raises(ReproError, match="metric 'x' is "):
        run.record("x", value)  # type: ignore[arg-type]
    assert written(tmp_path) == {}


def test_same_name_twice_is_refused(run: OpenRun, tmp_path: Path) -> None:
    run.record("x", 1)
    with pytest.raises(ReproError, match="already recorded"):
        run.record("x", 2)
    assert written(tmp_path)["x"]["value"] == 1


@pytest.mark.parametrize("name", ["", "../x", "a b", "a/b"])
def test_name_that_could_leave_the_folder_is_refused(run: OpenRun, name: str) -> None:
    with pytest.raises(ReproError, match="name"):
        run.record(name, 1)
    with pytest.raises(ReproError, match="name"):
        run.figure(None, name)  # type: ignore[arg-type]


def test_reader_without_a_run_dir_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = open_run("toy", run_dir="", seed=0, profile="smoke")
    run.record("x", 1.0)
    assert list(tmp_path.iterdir()) == []


def test_figure_is_saved_as_png(run: OpenRun, tmp_path: Path) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    run.figure(figure, "curve")
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_claims_and_verdicts_are_tables_of_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = toy_project(tmp_path)
    monkeypatch.setenv(PROJECT_VARIABLE, str(project.root))
    run = open_run("toy", run_dir="", seed=0, profile="smoke")
    assert [row[0] for row in run.claims().rows] == ["kept", "order"]
    run.record("kept", 70.0, unit="percent")
    verdicts = {row[0]: row[2] for row in run.verdicts().rows}
    assert verdicts == {"kept": "reproduced", "order": "not assessed"}


def test_table_is_html_with_its_text_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = toy_project(tmp_path)
    card = project.card("toy")
    card.write_text(card.read_text(encoding="utf-8").replace("Keeps 70 percent.", "Keeps < 71 & > 69."))
    monkeypatch.setenv(PROJECT_VARIABLE, str(project.root))
    text = open_run("toy", run_dir="", seed=0, profile="smoke").claims()._repr_html_()
    assert "Keeps &lt; 71 &amp; &gt; 69." in text
