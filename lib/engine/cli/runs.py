"""Verbs that look at the store: runs, diff, export."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lib.engine.cli.choices import AsJson, Problems, check_slugs
from lib.engine.cli.console import (
    Column,
    count,
    duration,
    number,
    say,
    show_json,
    show_rows,
    words,
)
from lib.engine.cli.references import Reference, find_run, short_name
from lib.errors import ReproError, WrongUse

if TYPE_CHECKING:
    from lib.engine.store import Run
    from lib.project import Project

PANEL = "Runs"


def build() -> typer.Typer:
    """The verbs of this group."""
    app = typer.Typer()
    app.command("runs", rich_help_panel=PANEL)(list_runs)
    app.command("diff", rich_help_panel=PANEL)(diff_runs)
    app.command("export", rich_help_panel=PANEL)(export_runs)
    return app


def list_runs(
    context: typer.Context,
    slugs: Annotated[
        list[str] | None, typer.Argument(metavar="SLUG", help="Only runs of these papers.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove failed runs and what interrupted runs and batches left.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List every run with its true state."""
    from lib.engine.store import Store

    project: Project = context.obj
    if slugs:
        slugs = check_slugs(project, slugs)
    if prune:
        say(_prune(project, slugs or ()))
    runs = [run for run in Store(project).runs() if not slugs or run.slug in slugs]
    rows = [run_row(run) for run in runs]
    if as_json:
        show_json(rows)
        return
    if not rows:
        say("no runs yet; `./repro run SLUG` makes one")
        return
    standing = _standing(project, runs)
    told = [
        {**row, "settings": _settings(project, run), "current": current}
        for row, run, current in zip(rows, runs, standing, strict=True)
    ]
    show_rows(
        told,
        [
            Column("run", "name", whole=True, style="bold"),
            Column("state", "state", whole=True, show=words),
            Column("profile", "profile", whole=True),
            Column("seed", "seed", right=True),
            Column("set to", "settings"),
            Column("current", "current"),
            Column("took", "seconds", right=True, show=duration, whole=True),
            Column("finished", "finished", show=lambda text: text[:16].replace("T", " "), whole=True),
            Column("why", "reason"),
        ],
    )


def _standing(project: "Project", runs: "Sequence[Run]") -> list[str]:
    """Of each run "yes" if it would be planned the same now, else what has changed since; "" if unknown."""
    from lib.engine.cards import load_card
    from lib.engine.provenance import Fingerprints, changed

    fingerprints, standing = Fingerprints(project), []
    for run in runs:
        told = ""
        try:
            if run.components:
                now = fingerprints.components(load_card(project.card(run.slug)), run.parameters)
                differing = changed(run.components, now)
                told = f"no: other {', '.join(differing)}" if differing else "yes"
        except (ReproError, OSError):
            pass  # its card, notebook or data are gone or damaged: nothing can be compared
        standing.append(told)
    return standing


def _settings(project: "Project", run: "Run") -> str:
    """The parameters in which a run differs from its profile's own, as ``name=value``."""
    from lib.engine.parameters import resolve

    if not run.parameters:
        return ""
    try:
        own = resolve(project, run.slug, run.profile, {})
    except WrongUse:
        return ""
    return ", ".join(
        f"{name}={value}"
        for name, value in run.parameters.items()
        if name not in ("profile", "seed", "run_dir") and own.get(name) != value
    )


def run_row(run: "Run") -> dict[str, Any]:
    """A run as a row of a table or an entry of JSON."""
    return {
        "name": short_name(run),
        "slug": run.slug,
        "key": run.key,
        "state": run.state,
        "reason": run.reason,
        "profile": run.profile,
        "seed": run.seed,
        "seconds": run.seconds,
        "finished": run.finished,
        "path": str(run.path),
        "parameters": run.parameters,
        "metrics": {
            name: {"value": metric.value, "unit": metric.unit} for name, metric in run.metrics.items()
        },
    }


def diff_runs(context: typer.Context, first: Reference, second: Reference, as_json: AsJson = False) -> None:
    """Compare two runs: parameters, origin, metrics."""
    problems, found = Problems(), list["Run"]()
    for reference in (first, second):
        with problems.noted():
            found.append(find_run(context.obj, reference))
    problems.check()
    one, two = found
    parameters = _differences(one.parameters, two.parameters, hidden="run_dir")
    made_from = _differences(one.components, two.components)
    metrics = _metric_differences(one, two)
    if as_json:
        show_json(
            {
                "runs": [run_row(one), run_row(two)],
                "parameters": parameters,
                "provenance": made_from,
                "metrics": metrics,
            }
        )
        return
    names = (short_name(one), short_name(two))
    sides = [Column(names[0], "first"), Column(names[1], "second")]
    state = {"name": "state", "first": one.state, "second": two.state}
    if one.state != two.state:
        show_rows([state], [Column("", "name", whole=True, style="bold"), *sides])
    if parameters:
        show_rows(parameters, [Column("parameter", "name", whole=True, style="bold"), *sides])
    if made_from:
        short = [{key: str(value or "")[:12] for key, value in row.items()} for row in made_from]
        show_rows(short, [Column("made from", "name", whole=True, style="bold"), *sides])
    if metrics:
        show_rows(
            [{**row, **{side: _or_absent(row[side]) for side in ("first", "second")}} for row in metrics],
            [
                Column("metric", "name", style="bold"),
                Column(names[0], "first", right=True, show=_measured),
                Column(names[1], "second", right=True, show=_measured),
                Column("difference", "difference", right=True, show=_signed),
                Column("unit", "unit"),
            ],
        )
    for what, rows in (("parameters", parameters), ("what they were made from", made_from)):
        if not rows:
            say(f"{what}: the same")


def export_runs(
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="RUN|SLUG", help="A run, or a paper for all its finished runs.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.zip", help="Where to; NAME-crate.zip here without it."),
    ] = None,
) -> None:
    """Pack runs into an RO-Crate archive.

    With them go notebook, card and recorded evidence, described as Process Run Crate 0.5, for a data
    repository or a reader elsewhere. The archive tells the `data_root` of a run that had one, and does not
    hold those data.
    """
    from lib.engine.crate import write_crate
    from lib.engine.store import Store

    project: Project = context.obj
    if what in project.slugs():
        runs = [run for run in Store(project).runs(what) if run.state in ("ok", "incomplete")]
    else:
        runs = [find_run(project, what)]
    name = what if what in project.slugs() or not runs else short_name(runs[0]).replace("/", "-")
    path = write_crate(project, runs, output or Path(f"{name}-crate.zip"))
    say(f"{count(len(runs), 'run')} in {path}")
    print(path)


def _prune(project: "Project", slugs: Sequence[str]) -> str:
    """Tidy the store up; what was removed, in words."""
    from lib.engine.store import Store

    removed = Store(project).prune(slugs)
    kinds = (
        (removed.failed, "failed run"),
        (removed.interrupted, "interrupted run"),
        (removed.batches, "dead batch folder"),
    )
    told = [count(len(paths), what) for paths, what in kinds if paths]
    return f"removed {', '.join(told)}" if told else "nothing to remove"


def _differences(one: dict[str, Any], two: dict[str, Any], hidden: str = "") -> list[dict[str, Any]]:
    return [
        {"name": name, "first": one.get(name), "second": two.get(name)}
        for name in dict.fromkeys([*one, *two])
        if name != hidden and one.get(name) != two.get(name)
    ]


def _metric_differences(one: "Run", two: "Run") -> list[dict[str, Any]]:
    rows = []
    for name in dict.fromkeys([*one.metrics, *two.metrics]):
        pair = [run.metrics.get(name) for run in (one, two)]
        first, second = (metric.value if metric else None for metric in pair)
        difference = None if first is None or second is None else float(second) - float(first)
        unit = next(metric.unit for metric in pair if metric)
        rows.append({"name": name, "first": first, "second": second, "difference": difference, "unit": unit})
    return rows


def _or_absent(value: float | bool | None) -> float | bool | str:
    return "absent" if value is None else value


def _measured(value: float | bool | str) -> str:
    from lib.engine.wording import figure

    if isinstance(value, str):
        return value
    return number(value) if isinstance(value, bool) else figure(value)


def _signed(difference: float) -> str:
    from lib.engine.wording import figure

    return figure(difference, signed=True) if difference else "same"
