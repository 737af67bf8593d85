"""The `./repro` command: every verb in one list, and the way errors reach the user."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lib.engine.cli import authoring, data, environment, judging, papers, runs, work
from lib.engine.cli.console import complain
from lib.errors import ReproError, WrongUse
from lib.project import REPOSITORY, Project

PROGRAM = "./repro"
EPILOG = "Exit codes: 0 good, 1 something failed, 2 wrong use."


def build_app() -> typer.Typer:
    """The command with all its verbs, in the order in which its help lists them."""
    app = typer.Typer(
        help="Read, rerun and audit papers on efficient deep learning for the edge.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(choose_project)
    for group in (papers, work, runs, judging, authoring, data, environment):
        app.add_typer(group.build())
    return app


def choose_project(
    context: typer.Context,
    project: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Use the project in DIR, not this repository."),
    ] = None,
) -> None:
    """Put the project every verb works on into the context."""
    if project is not None and not project.is_dir():
        raise WrongUse(f"--project {project}: there is no such folder")
    context.obj = REPOSITORY if project is None else Project(project.resolve())


def main(arguments: Sequence[str]) -> int:
    """Run one command line; an error of ours becomes one message on stderr and its exit code.

    Everything else ends in SystemExit, as is typer's way.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows "?", no traceback
            stream.reconfigure(errors="replace")
    try:
        build_app()(args=list(arguments), prog_name=PROGRAM)
    except ReproError as error:
        complain(str(error))
        return error.exit_code
    return 0
