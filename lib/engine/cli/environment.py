"""Verbs about this machine: doctor, lab, test, bench."""

import ast
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from lib.engine.cli.choices import AsJson, processors
from lib.engine.cli.console import STATE_STYLES, Column, count, results, say, show_json, show_rows
from lib.errors import ReproError, WrongUse
from lib.project import Project

if TYPE_CHECKING:
    from lib.engine.doctor import Check

PANEL = "This machine"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
MOST_WORKERS = 4
"""Processes that run all tests; more would crowd the tests that start processes of their own."""

PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""Click settings of a verb that hands its arguments to another program."""

Passed = Annotated[list[str] | None, typer.Argument(metavar="ARGUMENT", help="Passed on as they are.")]


def build() -> typer.Typer:
    """The verbs of this group."""
    app = typer.Typer()
    app.command(rich_help_panel=PANEL)(doctor)
    app.command(rich_help_panel=PANEL, context_settings=PASSED_ON)(lab)
    app.command("test", rich_help_panel=PANEL, context_settings=PASSED_ON)(run_tests)
    app.command(rich_help_panel=PANEL, context_settings=PASSED_ON)(bench)
    return app


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Examine the installation and say how to mend it."""
    from lib.engine.doctor import examine

    checks = []
    for check in examine(context.obj):
        checks.append(check)
        if not as_json:
            _show_check(check)
    if as_json:
        show_json([check.as_dict() for check in checks])
    failed = sum(check.state == "failed" for check in checks)
    if failed:
        say(f"{count(failed, 'check')} of {len(checks)} failed", "red")
        raise typer.Exit(1)


def lab(context: typer.Context, arguments: Passed = None) -> None:
    """Open the notebooks in JupyterLab."""
    project: Project = context.obj
    environment = {"JUPYTER_PREFER_ENV_PATH": "1"}
    _become(
        "jupyterlab", [f"--ServerApp.root_dir={project.notebooks}", *(arguments or ())], project, environment
    )


def run_tests(context: typer.Context, arguments: Passed = None) -> None:
    """Run all tests, or pytest with what follows: test -x -k store"""
    everything = ["-n", str(min(processors(), MOST_WORKERS)), "--dist", "loadfile"]
    _become("pytest", arguments or everything, context.obj, dict.fromkeys(THREAD_VARIABLES, "1"))


def bench(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The benchmark; none lists them.")
    ] = None,
    arguments: Passed = None,
    as_json: AsJson = False,
) -> None:
    """Run a benchmark, its options after it; no name lists them."""
    from lib.engine.parameters import nearest

    project: Project = context.obj
    benchmarks = {path.stem: path for path in sorted((project.root / "benchmarks").glob("[!_]*.py"))}
    if name is None:
        rows = [{"name": stem, "measures": _first_line(path)} for stem, path in benchmarks.items()]
        if as_json:
            show_json(rows)
        elif not rows:
            say(f"no benchmarks in {project.root / 'benchmarks'}")
        else:
            show_rows(
                rows, [Column("benchmark", "name", whole=True, style="bold"), Column("measures", "measures")]
            )
        return
    if name not in benchmarks:
        raise WrongUse(f"no benchmark {name!r}{nearest(name, benchmarks)}; `./repro bench` lists them")
    threads = str(processors())
    environment = {variable: os.environ.get(variable, threads) for variable in THREAD_VARIABLES}
    _replace_process([str(benchmarks[name]), *(arguments or ())], project, environment)


def _show_check(check: "Check") -> None:
    """Print one finding of the doctor at once: later ones take seconds."""
    from rich.text import Text

    line = Text(f"{check.state:8}", style=STATE_STYLES.get(check.state, "")).append(
        f"{check.name:16}", style="bold"
    )
    results().print(line.append(check.detail, style="not bold default"), soft_wrap=True)
    if check.remedy:
        results().print(f"{'':8}{check.remedy}", soft_wrap=True)


def _first_line(path: Path) -> str:
    documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return documentation.partition("\n")[0]


def _become(
    module: str, arguments: Sequence[str], project: Project, environment: Mapping[str, str]
) -> NoReturn:
    if importlib.util.find_spec(module) is None:
        raise ReproError(
            f"{module} is not installed in this environment; `./repro doctor` says what is missing"
        )
    _replace_process(["-m", module, *arguments], project, environment)


def _replace_process(arguments: Sequence[str], project: Project, environment: Mapping[str, str]) -> NoReturn:
    """Become a Python with these arguments at the root of the project; its exit code is ours."""
    os.chdir(project.root)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, **environment})
