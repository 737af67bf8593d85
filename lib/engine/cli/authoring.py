"""Verbs for those who add a paper: new, nb check, nb fix."""

from pathlib import Path
from typing import Annotated

import typer

from lib.engine.cli.choices import AsJson
from lib.engine.cli.console import Column, count, say, show_json, show_rows
from lib.errors import WrongUse

PANEL = "Authoring"

Notebooks = Annotated[
    list[str] | None, typer.Argument(metavar="SLUG|FILE", help="Notebooks; all of them without any.")
]


def build() -> typer.Typer:
    """The verbs of this group."""
    app = typer.Typer()
    app.command("new", rich_help_panel=PANEL)(new_paper)
    notebooks = typer.Typer(no_args_is_help=True, help="Check notebooks and bring them into normal form.")
    notebooks.command("check")(check_notebooks)
    notebooks.command("fix")(fix_notebooks)
    app.add_typer(notebooks, name="nb", rich_help_panel=PANEL)
    return app


def new_paper(
    context: typer.Context,
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="Its short name: lower case, digits and _.")],
    title: Annotated[str, typer.Option(metavar="TEXT", help="The title of the paper.")],
    family: Annotated[
        str, typer.Option(metavar="FAMILY", help="vit, cnn, finegrained, rnn, quantum or hardware.")
    ],
) -> None:
    """Begin a paper: card, notebook, method and test to fill in."""
    from lib.engine.scaffold import create_paper

    for path in create_paper(context.obj, slug, title, family):
        print(path)
    say("fill in the card first, claims before all; CONTRIBUTING.md has the five steps")


def check_notebooks(context: typer.Context, notebooks: Notebooks = None, as_json: AsJson = False) -> None:
    """Say what is wrong with notebooks."""
    from lib.engine import hygiene

    paths = _paths(context, notebooks)
    problems = hygiene.check_notebooks(context.obj, paths)
    rows = [{"notebook": p.notebook, "cell": p.cell, "message": p.message} for p in problems]
    if as_json:
        show_json(rows)
    elif rows:
        columns = [Column("notebook", "notebook", style="bold"), Column("cell", "cell", right=True)]
        show_rows(rows, [*columns, Column("problem", "message")])
    say(f"{count(len(paths), 'notebook')}, {count(len(rows), 'problem')}" if rows else _all_well(len(paths)))
    if rows:
        raise typer.Exit(1)


def fix_notebooks(context: typer.Context, notebooks: Notebooks = None) -> None:
    """Bring notebooks into their normal form; prints those that changed."""
    from lib.engine import hygiene

    paths = _paths(context, notebooks)
    changed = hygiene.fix_notebooks(context.obj, paths)
    for path in changed:
        print(path)
    say(f"{count(len(paths), 'notebook')}, {len(changed)} changed")


def _all_well(notebooks: int) -> str:
    return f"{count(notebooks, 'notebook')}, no problem"


def _paths(context: typer.Context, names: list[str] | None) -> list[Path]:
    """The notebooks meant: slugs or files; all of the project's if none is named."""
    from lib.engine.hygiene import all_notebooks
    from lib.engine.parameters import nearest

    known = {path.stem: path for path in all_notebooks(context.obj)}
    paths, unknown = [], []
    for name in names or known:
        path = known.get(name, Path(name))
        if path.is_file():
            paths.append(path)
        else:
            unknown.append(f"no notebook {name!r}{nearest(name, known)}")
    if unknown:
        raise WrongUse("\n".join(unknown))
    return paths
