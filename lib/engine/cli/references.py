"""Finding the run that a user means by a folder, `slug/key` or the beginning of a key."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lib.errors import WrongUse
from lib.project import Project

if TYPE_CHECKING:
    from lib.engine.store import Run

Reference = Annotated[
    str, typer.Argument(metavar="RUN", help="A run: slug/key, the beginning of its key, or its folder.")
]
SHORT_KEY = 8
"""Digits of a key that tables show."""


def find_run(project: Project, reference: str) -> "Run":
    """The one run that `reference` means. Raises WrongUse if there is none or more than one."""
    from lib.engine.store import Store

    found = matching(Store(project).runs(), reference)
    if not found:
        raise WrongUse(f"there is no run {reference!r}; `./repro runs` lists them")
    if len(found) > 1:
        names = ", ".join(short_name(run) for run in found)
        raise WrongUse(f"{reference!r} can be any of {names}; give more of the key")
    return found[0]


def matching(runs: Sequence["Run"], reference: str) -> list["Run"]:
    """The runs that `reference` can mean."""
    folder = Path(reference)
    if folder.is_dir():
        here = [run for run in runs if run.path.resolve() == folder.resolve()]
        if here:
            return here
    slug, slash, key = reference.strip("/").rpartition("/")
    if not key:
        return []
    return [run for run in runs if run.key.startswith(key) and (not slash or run.slug == slug)]


def short_name(run: "Run") -> str:
    """The name by which tables and messages call a run: slug/key, the key cut short."""
    return f"{run.slug}/{run.key[:SHORT_KEY]}"
