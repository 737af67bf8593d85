"""Every notebook of the repository runs from end to end; papers at smoke, through our own runner."""

from pathlib import Path

import pytest

from lib.engine.batch import plan_runs
from lib.engine.cards import load_card
from lib.engine.runner import Limits, execute
from lib.project import REPOSITORY, Project

START = "00_start_here"
NOTEBOOKS = sorted(
    path.stem for path in REPOSITORY.notebooks.glob("*.ipynb") if not path.name.startswith("_")
)
BUDGET_S = 600.0


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The repository's notebooks, cards and samples, with an empty store of its own."""
    project = Project(tmp_path / "project")
    for folder in ("notebooks", "cards", "samples"):
        place: Path = getattr(project, folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(getattr(REPOSITORY, folder), target_is_directory=True)
    return project


@pytest.mark.notebook
@pytest.mark.parametrize("slug", [name for name in NOTEBOOKS if name != START])
def test_paper_notebook_runs_and_records_what_its_card_requires(slug: str, project: Project) -> None:
    planned = plan_runs(project, [slug], "smoke", {}, [0])
    assert [plan.action for plan in planned] == ["run"]
    run = execute(project, planned[0], Limits(timeout_s=BUDGET_S))
    assert run is not None
    assert (run.state, run.reason) == ("ok", "")
    assert load_card(project.card(slug)).required_metrics("smoke") <= set(run.metrics)
    assert run.path.is_relative_to(project.runs)


@pytest.mark.notebook
@pytest.mark.skipif(START not in NOTEBOOKS, reason="this repository has no opening notebook")
def test_opening_notebook_runs(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(REPOSITORY.notebook(START), as_version=4)
    client = NotebookClient(notebook, timeout=BUDGET_S, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source)
