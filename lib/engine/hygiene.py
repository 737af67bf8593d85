"""Notebooks as they are committed: in one normal form, inside the size limits, free of traps.

The normal form has no outputs, execution counts, language version or editor metadata, and numbered cell ids,
so that a diff shows what a person changed. `fix_notebook` brings it about; what only a person can mend (a
cell too long, a path of one's own machine) is reported by `check_notebook`.
"""

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.errors import WrongUse
from lib.project import Project

MOST_CELLS = 30
MOST_WORDS = 1200
MOST_CODE_LINES = 130
MOST_CELL_LINES = 25
MOST_FUNCTION_LINES = 10

KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_FOREIGN_PATH = re.compile(
    r"(~|/(home|Users|root|tmp|var|mnt|media|opt|usr|data|work|workspace|scratch|content|kaggle|srv|dev|proc))(/|$)"
    r"|[A-Za-z]:[\\/]"
)
_HOME_IN_PROSE = re.compile(r"(?<![\w./:])/(home|Users|root)/\w|[A-Za-z]:\\Users")
_INSTALL = re.compile(r"^\s*[!%]?\s*(pip3?|conda|mamba|uv|apt(-get)?)\s+(pip\s+)?install\b", re.MULTILINE)
_MAGIC_LINE = re.compile(r"^(\s*)[!%].*$", re.MULTILINE)
_EXITS = {"sys.exit", "os._exit", "exit", "quit"}


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a notebook; `cell` counts from 1, None means the notebook as a whole."""

    notebook: str
    cell: int | None
    message: str
    fixable: bool = False

    def __str__(self) -> str:
        place = f"{self.notebook}: cell {self.cell}" if self.cell else self.notebook
        return f"{place}: {self.message}{' (`./repro nb fix` does it)' if self.fixable else ''}"


def all_notebooks(project: Project) -> list[Path]:
    """The notebooks of the project, sorted; checkpoints and other hidden files are none."""
    return sorted(path for path in project.notebooks.glob("*.ipynb") if not path.name.startswith("."))


def check_notebooks(project: Project, paths: Sequence[Path] | None = None) -> list[Problem]:
    """Everything wrong with these notebooks (all of the project's by default)."""
    chosen = all_notebooks(project) if paths is None else paths
    return [problem for path in chosen for problem in check_notebook(path)]


def fix_notebooks(project: Project, paths: Sequence[Path] | None = None) -> list[Path]:
    """Brings these notebooks (all by default) into the normal form; the paths of those that changed."""
    chosen = all_notebooks(project) if paths is None else paths
    return [path for path in chosen if fix_notebook(path)]


def check_notebook(path: Path) -> list[Problem]:
    """Everything wrong with one notebook. Raises WrongUse if the file is no notebook at all."""
    notebook = _load(path)
    found = [*_form(path, notebook), *_content(path.name, notebook)]
    if is_paper(path):
        found += _paper(path, notebook)
    return found


def fix_notebook(path: Path) -> bool:
    """Rewrites the notebook in its normal form; whether that changed the file."""
    before = path.read_text(encoding="utf-8")
    after = _normal_text(_load(path))
    if after == before:
        return False
    path.write_text(after, encoding="utf-8")
    return True


def is_paper(path: Path) -> bool:
    """Whether the notebook is a paper's, or the template of one; 00_start_here is not."""
    return not path.name[0].isdigit()


def _load(path: Path) -> dict[str, Any]:
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
        whole = notebook["nbformat"] == 4 and all(cell["cell_type"] and "source" in cell for cell in cells)
    except FileNotFoundError as error:
        raise WrongUse(f"there is no notebook {path}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WrongUse(f"{path} is not a notebook: {error!r}") from error
    if not whole:
        raise WrongUse(f"{path} is not a notebook of format 4: open it in JupyterLab and save it")
    for cell in cells:
        cell["source"] = "".join(cell["source"])
        cell.setdefault("metadata", {})
    return notebook


def _normal_text(notebook: dict[str, Any]) -> str:
    cells = [_normal_cell(cell, number) for number, cell in enumerate(notebook["cells"], start=1)]
    normal = {"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(normal, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _normal_cell(cell: dict[str, Any], number: int) -> dict[str, Any]:
    tags = cell["metadata"].get("tags")
    normal = {
        "cell_type": cell["cell_type"],
        "id": f"cell-{number:02d}",
        "metadata": {"tags": tags} if tags else {},
        "source": cell["source"].rstrip().splitlines(keepends=True),
    }
    if cell["cell_type"] == "code":
        normal |= {"execution_count": None, "outputs": []}
    return normal


def _form(path: Path, notebook: dict[str, Any]) -> Iterator[Problem]:
    """Deviations from the normal form, the frequent ones by name."""
    name, named = path.name, False
    for number, cell in enumerate(notebook["cells"], start=1):
        for field, complaint in (("outputs", "has outputs"), ("execution_count", "has an execution count")):
            if cell.get(field):
                named = True
                yield Problem(name, number, complaint, fixable=True)
    if "version" in notebook.get("metadata", {}).get("language_info", {}):
        named = True
        yield Problem(name, None, "names a language version", fixable=True)
    if not named and path.read_text(encoding="utf-8") != _normal_text(notebook):
        yield Problem(name, None, "is not in the normal form (cell ids, metadata or layout)", fixable=True)


def _content(name: str, notebook: dict[str, Any]) -> Iterator[Problem]:
    """Traps that no notebook may hold."""
    for number, cell in enumerate(notebook["cells"], start=1):
        source = cell["source"]
        if "raises-exception" in cell["metadata"].get("tags", []):
            yield Problem(name, number, "is tagged raises-exception, which hides failures: remove the tag")
        if cell["cell_type"] != "code":
            if _HOME_IN_PROSE.search(source):
                yield Problem(name, number, "names a folder of somebody's own machine")
            continue
        if _INSTALL.search(source):
            yield Problem(name, number, "installs packages: add them to pyproject.toml instead")
        try:
            tree = ast.parse(_MAGIC_LINE.sub(r"\1pass", source))
        except SyntaxError as error:
            yield Problem(name, number, f"is not valid Python (line {error.lineno}: {error.msg})")
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in _EXITS:
                yield Problem(name, number, f"calls {ast.unparse(node.func)}: raise an exception instead")
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and _FOREIGN_PATH.match(node.value)
            ):
                message = f"holds the absolute path {node.value!r}: take it from a parameter or the project"
                yield Problem(name, number, message)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_FUNCTION_LINES:
                    message = f"{node.name} has {lines} lines; past {MOST_FUNCTION_LINES} it belongs in lib/"
                    yield Problem(name, number, message)


def _paper(path: Path, notebook: dict[str, Any]) -> Iterator[Problem]:
    """What a paper's notebook needs beyond that: its parameters, its own record, a readable size."""
    from lib.engine.parameters import read_parameters

    name, cells = path.name, notebook["cells"]
    try:
        read_parameters(path)
    except WrongUse as error:
        yield Problem(name, None, str(error).removeprefix(f"{name}: "))
    code = [(number, cell["source"]) for number, cell in enumerate(cells, 1) if cell["cell_type"] == "code"]
    for number, source in code:
        lines = len(source.rstrip().splitlines())
        if lines > MOST_CELL_LINES:
            yield Problem(name, number, f"has {lines} lines, at most {MOST_CELL_LINES}: move code to lib/")
    if not path.name.startswith("_") and not any(_opens_run(source, path.stem) for _, source in code):
        yield Problem(name, None, f'never calls open_run("{path.stem}", ...): nothing would be recorded')
    lines = sum(_is_code(line) for _, source in code for line in source.splitlines())
    words = sum(len(cell["source"].split()) for cell in cells if cell["cell_type"] == "markdown")
    for size, most, what in (
        (len(cells), MOST_CELLS, "cells"),
        (words, MOST_WORDS, "words"),
        (lines, MOST_CODE_LINES, "lines of code"),
    ):
        if size > most:
            yield Problem(name, None, f"has {size} {what}, at most {most}")


def _opens_run(source: str, slug: str) -> bool:
    return re.search(rf"""open_run\(\s*(slug\s*=\s*)?["']{re.escape(slug)}["']""", source) is not None


def _is_code(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("#")
