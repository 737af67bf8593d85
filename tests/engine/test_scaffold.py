"""A new paper is tried out in a copy of the repository, as its method becomes part of `lib`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lib.engine.cards import load_card
from lib.engine.hygiene import check_notebook
from lib.engine.parameters import read_parameters
from lib.engine.scaffold import FAMILIES, create_paper
from lib.errors import WrongUse
from lib.project import REPOSITORY, Project

TITLE = 'Sparse: a "new" idea, \\100 % faster'
LONG = "Long " * 40 + "title"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def files(project: Project) -> list[str]:
    return sorted(str(path.relative_to(project.root)) for path in project.root.rglob("*") if path.is_file())


def test_four_files_and_a_package_are_made(project: Project) -> None:
    made = create_paper(project, "new_idea", TITLE, "vit")
    assert sorted(made) == [project.root / name for name in files(project)]
    assert files(project) == [
        "data/papers/new_idea.yaml",
        "lib/vit/__init__.py",
        "lib/vit/new_idea.py",
        "notebooks/new_idea.ipynb",
        "tests/papers/test_new_idea.py",
    ]


@pytest.mark.parametrize("title", [TITLE, LONG])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_file_is_sound_at_once(project: Project, family: str, title: str) -> None:
    create_paper(project, "new_idea", title, family)
    card = load_card(project.card("new_idea"))
    assert (card.title, card.family) == (title, family)
    assert check_notebook(project.notebook("new_idea")) == []
    declared = {parameter.name for parameter in read_parameters(project.notebook("new_idea"))}
    assert card.parameters.keys() <= declared
    configured = ["--config", str(REPOSITORY.root / "pyproject.toml"), str(project.root)]
    for action in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *action, "--no-cache", *configured], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_new_card_settles_nothing_until_its_sources_are_read(project: Project) -> None:
    create_paper(project, "new_idea", TITLE, "cnn")
    assert load_card(project.card("new_idea")).required_metrics("paper") == set()


def test_no_template_name_is_left_over(project: Project) -> None:
    for path in create_paper(project, "new_idea", TITLE, "rnn"):
        assert "PAPER_" not in path.read_text()


@pytest.mark.parametrize("slug", ["", "New", "2fast", "a-b", "a b", "../x", "class", "ä", "new_idea.ipynb"])
def test_unusable_slug(project: Project, slug: str) -> None:
    with pytest.raises(WrongUse, match="slug"):
        create_paper(project, slug, TITLE, "vit")
    assert not project.root.exists()


@pytest.mark.parametrize("title", ["", "  ", "two\nlines"])
def test_unusable_title(project: Project, title: str) -> None:
    with pytest.raises(WrongUse, match="title"):
        create_paper(project, "new_idea", title, "vit")


def test_all_mistakes_are_told_at_once(project: Project) -> None:
    with pytest.raises(WrongUse, match=r"(?s)slug.*title.*family"):
        create_paper(project, "New", "", "fashion")


@pytest.mark.parametrize(
    "name", ["data/papers/x.yaml", "notebooks/x.ipynb", "lib/vit/x.py", "tests/papers/test_x.py"]
)
def test_nothing_is_overwritten(project: Project, name: str) -> None:
    mine = project.root / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(WrongUse, match="already there"):
        create_paper(project, "x", TITLE, "vit")
    assert files(project) == [name]


def test_families_are_those_of_the_cards(project: Project) -> None:
    create_paper(project, "x", TITLE, "vit")
    fields = yaml.safe_load(project.card("x").read_text())
    project.card("x").write_text(yaml.safe_dump(fields | {"family": "fashion"}))
    with pytest.raises(WrongUse) as caught:
        load_card(project.card("x"))
    assert all(family in str(caught.value) for family in FAMILIES)


@pytest.mark.slow
def test_new_paper_runs_and_passes_its_tests(tmp_path: Path) -> None:
    for folder in ("lib", "hw_models"):
        shutil.copytree(REPOSITORY.root / folder, tmp_path / folder)
    copy = Project(tmp_path)
    create_paper(copy, "new_idea", TITLE, "cnn")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for command in (
        ["pytest", "-q", "-p", "no:cacheprovider", "tests/papers"],
        ["lib", "run", "new_idea"],
        ["lib", "audit", "new_idea", "--no-run"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
