import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lib.engine.hygiene import check_notebook, check_notebooks, fix_notebook, fix_notebooks
from lib.errors import WrongUse
from lib.project import REPOSITORY, Project

PARAMETERS = 'profile: str = "smoke"\nseed: int = 0\ndevice: str = "cpu"\nrun_dir: str = ""'
OPEN = 'run = open_run("paper", run_dir=run_dir, seed=seed, profile=profile)'


def code(source: str, *tags: str, **fields: Any) -> dict[str, Any]:
    metadata = {"tags": list(tags)} if tags else {}
    empty: dict[str, Any] = {"cell_type": "code", "execution_count": None, "outputs": [], "id": "x"}
    return {**empty, "metadata": metadata, "source": source, **fields}


def prose(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "x", "metadata": {}, "source": text}


def write(folder: Path, *cells: dict[str, Any], name: str = "paper", **metadata: Any) -> Path:
    """A sound paper's notebook with these cells added."""
    path = folder / f"{name}.ipynb"
    every = [prose("# A paper"), code(PARAMETERS, "parameters"), code(OPEN), *cells]
    path.write_text(json.dumps({"cells": every, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


def problems(path: Path) -> list[str]:
    """What is still wrong after `fix`."""
    fix_notebook(path)
    return [str(problem) for problem in check_notebook(path)]


def test_notebooks_of_the_repository_are_clean() -> None:
    assert [str(problem) for problem in check_notebooks(REPOSITORY)] == []


def test_sound_notebook_has_no_problem(tmp_path: Path) -> None:
    assert problems(write(tmp_path, code("x = 1"), prose("words"))) == []


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        (code("1", outputs=[{"output_type": "stream", "name": "stdout", "text": "1"}]), "has outputs"),
        (code("1", execution_count=3), "has an execution count"),
        (code("1", collapsed=True), "normal form"),
    ],
)
def test_form_is_checked_and_fixed(tmp_path: Path, cell: dict[str, Any], complaint: str) -> None:
    path = write(tmp_path, cell)
    (problem,) = check_notebook(path)
    assert complaint in problem.message
    assert problem.fixable
    assert fix_notebook(path)
    assert check_notebook(path) == []


def test_language_version_is_removed(tmp_path: Path) -> None:
    path = write(tmp_path, language_info={"name": "python", "version": "3.11.7"})
    assert "language version" in check_notebook(path)[0].message
    assert problems(path) == []


def test_fixed_notebook_is_valid_and_stays_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, code("x = 'é'\n\n", "keep"), prose(""))
    fix_notebook(path)
    nbformat.validate(nbformat.read(path, as_version=4))
    assert not fix_notebook(path)


def test_fix_keeps_sources_and_tags(tmp_path: Path) -> None:
    path = write(tmp_path, code("a = 1\nb = 2", "mine"))
    fix_notebook(path)
    cell = nbformat.read(path, as_version=4).cells[-1]
    assert (cell.source, cell.metadata.tags) == ("a = 1\nb = 2", ["mine"])


def test_fix_numbers_the_cell_ids(tmp_path: Path) -> None:
    path = write(tmp_path)
    fix_notebook(path)
    assert [cell.id for cell in nbformat.read(path, as_version=4).cells] == ["cell-01", "cell-02", "cell-03"]


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        (code("!pip install timm"), "installs packages"),
        (code("%pip install timm"), "installs packages"),
        (code("import sys\nsys.exit(0)"), "calls sys.exit"),
        (code("quit()"), "calls quit"),
        (code("open('/home/me/x')"), "absolute path"),
        (code("root = f'/mnt/{seed}'"), "absolute path"),
        (code("p = 'C:/data'"), "absolute path"),
        (prose("It lies in /home/me/data."), "somebody's own machine"),
        (code("x = 1", "raises-exception"), "raises-exception"),
        (code("x = = 1"), "not valid Python"),
        (code("x = 1\n" * 26), "has 26 lines"),
        (code("def long():\n" + "    x = 1\n" * 10), "long has 11 lines"),
    ],
)
def test_traps_are_found(tmp_path: Path, cell: dict[str, Any], complaint: str) -> None:
    (problem,) = problems(write(tmp_path, cell))
    assert complaint in problem
    assert "cell 4" in problem


@pytest.mark.parametrize(
    "source", ["rate = 'images/s'", "%matplotlib inline\nx = 1", "url = 'https://a.org/home/b'"]
)
def test_harmless_code_is_left_alone(tmp_path: Path, source: str) -> None:
    assert problems(write(tmp_path, code(source))) == []


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ([prose("x")] * 28, "has 31 cells"),
        ([prose("word " * 1200)], "words, at most 1200"),
        ([code("x = 1\n" * 25)] * 6, "lines of code, at most 130"),
        ([code(PARAMETERS, "parameters")], "2 cells are tagged"),
    ],
)
def test_size_and_parameters_of_the_whole(
    tmp_path: Path, cells: list[dict[str, Any]], complaint: str
) -> None:
    (problem,) = problems(write(tmp_path, *cells))
    assert complaint in problem


def test_notebook_must_record_under_its_own_name(tmp_path: Path) -> None:
    (problem,) = problems(write(tmp_path, name="other"))
    assert 'open_run("other"' in problem


def test_introduction_needs_no_parameters(tmp_path: Path) -> None:
    path = tmp_path / "00_start_here.ipynb"
    path.write_text(
        json.dumps({"cells": [prose("Hello")], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    assert problems(path) == []


@pytest.mark.parametrize(
    "text", ["", "{}", '{"nbformat": 3, "worksheets": []}', '{"nbformat": 4, "cells": [1]}']
)
def test_file_that_is_no_notebook(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.ipynb").write_text(text)
    with pytest.raises(WrongUse, match="is not a notebook"):
        check_notebook(tmp_path / "x.ipynb")


def test_fix_reports_the_changed_notebooks_only(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.notebooks.mkdir()
    path = write(project.notebooks)
    assert fix_notebooks(project) == [path]
    assert fix_notebooks(project) == []
