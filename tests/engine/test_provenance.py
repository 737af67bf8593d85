"""The key of a run changes with what the run depends on, and with nothing else."""

import getpass
import json
import platform
from pathlib import Path

import pytest

from lib.engine import provenance
from lib.engine.cards import load_card
from lib.engine.parameters import resolve
from lib.engine.provenance import Fingerprints, changed, code_cells, describe, git_state, run_key
from lib.project import Project
from tests.toy import CELLS, PARAMETERS, toy_project, write_toy_notebook


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return toy_project(tmp_path)


def components(project: Project, **overrides: object) -> dict[str, str]:
    """The toy's components at smoke with these parameters."""
    card = load_card(project.card("toy"))
    return Fingerprints(project).components(card, resolve(project, "toy", "smoke", overrides))


def edit(path: Path, old: str, new: str) -> None:
    """Replaces a text that must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_same_inputs_give_the_same_key(project: Project) -> None:
    assert run_key(components(project)) == run_key(components(project))


def test_code_of_the_notebook_counts(project: Project) -> None:
    before = components(project)
    write_toy_notebook(project, (*CELLS, "1 + 1"))
    assert changed(before, components(project)) == ["notebook"]


def test_prose_of_the_notebook_does_not_count(project: Project) -> None:
    before = components(project)
    edit(project.notebook("toy"), "# A toy", "# A better toy")
    assert changed(before, components(project)) == []


def test_parameters_count_but_not_where_results_go(project: Project) -> None:
    assert changed(components(project), components(project, keep_ratio=0.5)) == ["parameters"]
    card = load_card(project.card("toy"))
    parameters = resolve(project, "toy", "smoke", {})
    elsewhere = Fingerprints(project).components(card, {**parameters, "run_dir": "elsewhere"})
    assert changed(components(project), elsewhere) == []


def test_metrics_that_the_card_wants_count_but_not_its_prose(project: Project) -> None:
    before = components(project)
    edit(project.card("toy"), "Keeps 70 percent.", "It keeps 70 percent.")
    assert changed(before, components(project)) == []
    edit(project.card("toy"), "metric: kept", "metric: left")
    assert changed(before, components(project)) == ["card"]


def test_sources_count(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = tmp_path / "house"
    for folder in ("lib/vit", "lib/engine", "hw_models"):
        (root / folder).mkdir(parents=True)
    monkeypatch.setattr(provenance, "REPOSITORY", Project(root))
    (root / "lib/vit/method.py").write_text("x = 1")
    before = provenance.source_hash()
    (root / "lib/engine/report.py").write_text("x = 1")
    assert provenance.source_hash() == before
    (root / "lib/vit/method.py").write_text("x = 2")
    after = provenance.source_hash()
    assert after != before
    (root / "hw_models/device.yaml").write_text("x: 1")
    assert provenance.source_hash() != after


def test_files_of_the_users_data_count(project: Project, tmp_path: Path) -> None:
    write_toy_notebook(project, CELLS, PARAMETERS + 'data_root: str = ""\n')
    data = tmp_path / "images"
    data.mkdir()
    before = components(project, data_root=str(data))
    (data / "a.png").write_bytes(b"a")
    assert changed(before, components(project, data_root=str(data))) == ["data"]


def test_blank_and_text_cells_are_no_code(project: Project) -> None:
    write_toy_notebook(project, ("1", "  \n"))
    assert code_cells(project.notebook("toy"))[1:] == ["1"]


def test_description_names_no_user_and_no_host() -> None:
    text = json.dumps(describe(threads=2, device="cpu"))
    for secret in (str(Path.home()), platform.node(), f"/{getpass.getuser()}/"):
        assert secret not in text
    assert json.loads(text)["packages"]["papermill"]


def test_folder_without_git_has_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
