"""Verbs that run notebooks: run, batch, rerun."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lib.engine.cli.choices import (
    AsJson,
    Assignments,
    Jobs,
    MemoryLimit,
    Problems,
    Profile,
    Slug,
    Timeout,
    check_slugs,
    limits,
    parse_assignments,
    parse_grid,
    parse_seeds,
)
from lib.engine.cli.console import (
    Column,
    complain,
    count,
    duration,
    number,
    say,
    show_json,
    show_rows,
    words,
)
from lib.engine.cli.progress import shown, tell_plan, varied_parameters
from lib.engine.cli.references import SHORT_KEY, Reference, find_run, short_name
from lib.engine.cli.runs import run_row
from lib.errors import ReproError

if TYPE_CHECKING:
    from lib.engine.batch import PlannedRun
    from lib.engine.store import Run
    from lib.project import Project

PANEL = "Runs"


def build() -> typer.Typer:
    """The verbs of this group."""
    app = typer.Typer()
    app.command("run", rich_help_panel=PANEL)(run_one)
    app.command("batch", rich_help_panel=PANEL)(run_batch)
    app.command("rerun", rich_help_panel=PANEL)(run_again)
    return app


def run_one(
    context: typer.Context,
    slug: Slug,
    profile: Profile = "smoke",
    assignments: Assignments = None,
    timeout: Timeout = None,
    memory: MemoryLimit = None,
    as_json: AsJson = False,
) -> None:
    """Run a notebook once; prints the folder of the run last."""
    from lib.engine.batch import plan_runs

    project, problems, planned = context.obj, Problems(), list["PlannedRun"]()
    grid = {name: [value] for name, value in parse_assignments(assignments, problems).items()}
    with problems.noted():
        check_slugs(project, [slug])
    with problems.noted():
        planned = plan_runs(project, [slug], profile, grid)
    problems.check()
    first_seed = planned[:1]
    _finish_one(_run_planned(project, first_seed, 1, timeout, memory), as_json)


def run_again(
    context: typer.Context,
    reference: Reference,
    timeout: Timeout = None,
    memory: MemoryLimit = None,
    as_json: AsJson = False,
) -> None:
    """Run again from a record and compare the metrics."""
    from lib.engine.batch import plan_runs
    from lib.engine.store import Store

    project = context.obj
    before = find_run(project, reference)
    if not before.parameters:
        raise ReproError(f"{short_name(before)} left no readable record of its parameters: {before.reason}")
    grid = {name: [value] for name, value in before.parameters.items() if name not in ("profile", "run_dir")}
    planned = plan_runs(project, [before.slug], before.profile, grid, force=True)
    runs = _run_planned(project, planned, 1, timeout, memory)
    for run in runs:
        _tell_comparison(before, run)
        kept = Store(project).get(run.slug, run.key)
        if kept and kept.path != run.path:
            say(f"{short_name(kept)}, made earlier, stays: {kept.path}", "yellow")
    _finish_one(runs, as_json)


def run_batch(
    context: typer.Context,
    slugs: Annotated[list[str], typer.Argument(metavar="SLUG|all", help="Papers, or all of them.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "-g",
            metavar="NAME=V1,V2",
            help="Values to try; several -g multiply. Lists: -g sweep=[0.9,0.5],[0.8]",
        ),
    ] = None,
    grid_file: Annotated[
        Path | None,
        typer.Option("--grid", metavar="FILE.yaml", help="Values to try: a mapping of names to lists."),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0-4|0,2,5", help="Seeds to run; without it the profile's.")
    ] = None,
    profile: Profile = "smoke",
    assignments: Assignments = None,
    jobs: Jobs = 1,
    timeout: Timeout = None,
    memory: MemoryLimit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run, and why.")] = False,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write the results; else data/runs/SLUG-results.csv."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a grid of parameters and seeds; goes on where it stopped."""
    from lib.engine.batch import plan_runs, write_csv

    project, problems = context.obj, Problems()
    values: dict[str, list[Any]] = parse_grid(grid, grid_file, problems)
    for name, given in values.items():
        if twice := [value for index, value in enumerate(given) if value in given[:index]]:
            say(f"{name}: {', '.join(map(str, twice))} stands twice in the grid and is run once", "yellow")
    for name, value in parse_assignments(assignments, problems).items():
        if name in values:
            problems.note(f"{name} is given by -p and as a grid; give it once")
        values[name] = [value]
    chosen_seeds, chosen, planned = None, list[str](), list["PlannedRun"]()
    with problems.noted():
        chosen_seeds = parse_seeds(seeds)
    with problems.noted():
        chosen = check_slugs(project, slugs)
    with problems.noted():
        named = chosen or [slug for slug in slugs if slug != "all"]
        planned = plan_runs(project, named, profile, values, chosen_seeds)
    if csv is not None and csv.is_dir():
        problems.note(f"--csv {csv}: that is a folder; name a file")
    problems.check()
    if dry_run:
        _show_plan(project, planned, as_json)
        return
    runs = _run_planned(project, planned, jobs, timeout, memory)
    file = csv or project.runs / f"{chosen[0] if len(chosen) == 1 else 'batch'}-results.csv"
    write_csv(runs, file)
    if as_json:
        show_json({"csv": str(file), "runs": [run_row(run) for run in runs]})
    else:
        _show_batch(runs, varied_parameters(planned))
        print(file)
    good = sum(run.state == "ok" for run in runs)
    if good < len(planned):
        say(f"{good} of {count(len(planned), 'run')} ok; the same command goes on with the rest", "yellow")
        raise typer.Exit(1)


def _run_planned(
    project: "Project",
    planned: "Sequence[PlannedRun]",
    jobs: int,
    timeout: float | None,
    memory: float | None,
) -> "list[Run]":
    """Run what is to be run; the runs of the plan that now exist, done before or just now, in its order."""
    from lib.engine.batch import run_all
    from lib.engine.store import Store

    tell_plan(planned)
    with shown(planned) as listener:
        made = run_all(project, planned, jobs, limits(jobs, timeout, memory), listener)
    store, just_now = Store(project), {run.key: run for run in made}
    return [run for plan in planned if (run := just_now.get(plan.key) or store.get(plan.slug, plan.key))]


def _finish_one(runs: "Sequence[Run]", as_json: bool) -> None:
    """Show the one run there should be; its folder comes last."""
    if not runs:
        raise typer.Exit(1)
    (run,) = runs
    if as_json:
        show_json(run_row(run))
    else:
        _show_metrics(run)
    if run.state != "ok":
        complain(f"{short_name(run)} {run.state}: {run.reason}\nits log: {run.path / 'log.txt'}")
    if not as_json:
        print(run.path, flush=True)
    if run.state != "ok":
        raise typer.Exit(1)


def _show_metrics(run: "Run") -> None:
    rows = [
        {"name": metric.name, "value": metric.value, "unit": metric.unit} for metric in run.metrics.values()
    ]
    if rows:
        columns = [Column("metric", "name", style="bold"), Column("value", "value", right=True, show=number)]
        show_rows(rows, [*columns, Column("unit", "unit")])


def _show_plan(project: "Project", planned: "Sequence[PlannedRun]", as_json: bool) -> None:
    from lib.engine.cards import load_card

    varied = varied_parameters(planned)
    rows = [
        {
            "run": f"{plan.slug}/{plan.key[:SHORT_KEY]}",
            "slug": plan.slug,
            "key": plan.key,
            "action": plan.action,
            "reason": plan.reason,
            "profile": plan.profile,
            "seed": plan.seed,
            "parameters": plan.parameters,
        }
        for plan in planned
    ]
    if as_json:
        show_json(rows)
        return
    show_rows(
        [
            {**row, **{name: plan.parameters.get(name) for name in varied}}
            for row, plan in zip(rows, planned, strict=True)
        ],
        [
            Column("run", "run", whole=True, style="bold"),
            *(Column(name, name, right=True) for name in varied),
            Column("seed", "seed", right=True),
            Column("action", "action", whole=True, show=words),
            Column("why", "reason"),
        ],
    )
    todo = [plan for plan in planned if plan.action == "run"]
    footer = f"{count(len(todo), 'run')} to do, {len(planned) - len(todo)} done"
    if todo:
        cards = {slug: load_card(project.card(slug)) for slug in {plan.slug for plan in todo}}
        minutes = sum(cards[plan.slug].profiles[plan.profile].minutes for plan in todo)
        profile = todo[0].profile
        footer += f"; about {minutes:g} min (card's minutes of the {profile} profile, one after the other)"
    say(footer)


def _show_batch(runs: "Sequence[Run]", varied: Sequence[str]) -> None:
    show_rows(
        [{**run.parameters, **run_row(run)} for run in runs],
        [
            Column("run", "name", whole=True, style="bold"),
            *(Column(name, name, right=True) for name in varied),
            Column("seed", "seed", right=True),
            Column("state", "state", whole=True, show=words),
            Column("took", "seconds", right=True, show=duration, whole=True),
            Column("why", "reason"),
        ],
    )


def _tell_comparison(before: "Run", now: "Run") -> None:
    """Say whether the run gave what its record says."""
    if before.key != now.key:
        names = f"{short_name(before)} {short_name(now)}"
        say(f"what it is made from has changed since; `./repro diff {names}` says what")
    old = {name: metric.value for name, metric in before.metrics.items()}
    new = {name: metric.value for name, metric in now.metrics.items()}
    if old and new:
        differing = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
        same = f"all {count(len(old), 'metric')} the same as before"
        say(f"differing from before: {', '.join(differing)}" if differing else same)
