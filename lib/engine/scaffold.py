"""The beginning of a new paper: a card, a notebook, a method and its tests that already run.

The four files are copies of templates in which the names below are replaced. Nothing is registered
anywhere: a card in data/papers is all it takes to be listed.
"""

import json
import keyword
import re
import textwrap
from pathlib import Path

from lib.errors import WrongUse
from lib.project import REPOSITORY, Project

LINE_LENGTH = 110
FAMILIES = ("vit", "cnn", "finegrained", "rnn", "quantum", "hardware")
_TEMPLATES = Path(__file__).parent / "templates"
_SLUG = re.compile(r"[a-z][a-z0-9_]*")


def create_paper(project: Project, slug: str, title: str, family: str) -> list[Path]:
    """Writes the four files of a new paper and returns their paths.

    Raises WrongUse, having written nothing, for a slug or title that cannot be used, an unknown family, and a
    file that is already there.
    """
    _check(slug, title, family)
    method = project.root / "lib" / family / f"{slug}.py"
    texts = {
        project.card(slug): _filled(
            (_TEMPLATES / "card.yaml.txt").read_text(), slug, json.dumps(title), family
        ),
        project.notebook(slug): _notebook(slug, title, family),
        method: _filled((_TEMPLATES / "method.py.txt").read_text(), slug, _in_docstring(title), family),
        project.root / "tests" / "papers" / f"test_{slug}.py": _filled(
            (_TEMPLATES / "test.py.txt").read_text(), slug, title, family
        ),
    }
    present = [str(path.relative_to(project.root)) for path in texts if path.exists()]
    if present:
        raise WrongUse(f"{', '.join(present)} is already there; nothing was written: choose another slug")
    package = method.parent / "__init__.py"
    if not package.exists():
        texts[package] = f'"""The {family} papers: one method a file, and what they share."""\n'
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return list(texts)


def _check(slug: str, title: str, family: str) -> None:
    problems = []
    if not _SLUG.fullmatch(slug) or keyword.iskeyword(slug):
        problems.append(
            f"slug {slug!r}: lower-case letters, digits and '_', a letter first, as in spvit or csb_rnn"
        )
    if not title.strip() or not title.isprintable():
        problems.append(f"title {title!r}: give the paper's title, on one line")
    if family not in FAMILIES:
        problems.append(f"family {family!r}: choose from {', '.join(FAMILIES)}")
    if problems:
        raise WrongUse("\n".join(problems))


def _filled(template: str, slug: str, title: str, family: str) -> str:
    names = {"PAPER_SLUG": slug, "PAPER_TITLE": title, "PAPER_FAMILY": family}
    return re.sub("|".join(names), lambda match: names[match[0]], template)


def _notebook(slug: str, title: str, family: str) -> str:
    """notebooks/_template.ipynb, filled in cell by cell so that any title is safe in JSON."""
    notebook = json.loads((REPOSITORY.notebooks / "_template.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = [_filled(line, slug, title, family) for line in cell["source"]]
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _in_docstring(title: str) -> str:
    """The title as the first words of a docstring that a full stop will follow."""
    return textwrap.fill(title.replace("\\", "/").replace('"', "'").removesuffix("."), LINE_LENGTH - 5)
