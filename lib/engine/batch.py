"""Many runs: plan them and say why, run them through Dask, put what they recorded into one table."""

import csv
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lib.engine.parameters import (
    DATA_ROOT,
    PROFILES,
    Value,
    check_profile,
    check_slug,
    resolve,
    wants_data_root,
)
from lib.engine.provenance import Fingerprints, changed, run_key
from lib.engine.runner import Limits, Stop, execute
from lib.engine.store import DiskFull, Metric, Run, Store
from lib.errors import ReproError, WrongUse
from lib.project import Project

if TYPE_CHECKING:
    from distributed import Future

    from lib.engine.cards import Card

POLL_S = 0.3
LOOPBACK = "127.0.0.1:0"
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "100ms",
    "distributed.admin.system-monitor.interval": "10s",
}
"""Dask settings: by default it samples its idle threads a hundred times a second."""

RUN_DIR = "."
"""What a notebook gets as ``run_dir``: its working directory, so that no absolute path enters it."""

_FIRST_COLUMNS = ("slug", "key", "state", "profile", "seed")
_LAST_COLUMNS = ("seconds", "reason")
"""Columns of a table of results before its parameters and after its metrics."""

_WHAT_CHANGED = {
    "notebook": "notebook changed",
    "source": "source of lib or hw_models changed",
    "card": "card needs other data or metrics",
    "data": "data changed",
}


@dataclass(frozen=True)
class PlannedRun:
    """One run to be done, or not, and why. `required`: metrics that the card wants of it."""

    slug: str
    profile: str
    parameters: dict[str, Value]
    key: str
    action: Literal["run", "skip"]
    reason: str
    components: dict[str, str]
    required: tuple[str, ...]
    data: dict[str, str]
    force: bool = False

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.parameters["seed"])  # type: ignore[arg-type]

    @property
    def sent(self) -> dict[str, Value]:
        """The parameters as the notebook gets them."""
        return {**self.parameters, "run_dir": RUN_DIR}


@dataclass(frozen=True)
class Event:
    """Progress of a batch. `kind`: started, cell, finished, refused, stopping or killing.

    `cell` of `cells` has begun; `run` is there when it finished; `message` says why, where there is a why.
    """

    kind: Literal["started", "cell", "finished", "refused", "stopping", "killing"]
    planned: PlannedRun | None = None
    run: Run | None = None
    cell: int = 0
    cells: int = 0
    message: str = ""


OnEvent = Callable[[Event], None]


def plan_runs(
    project: Project,
    slugs: Sequence[str],
    profile: str,
    grid: Mapping[str, Sequence[object]],
    seeds: Sequence[int] | None = None,
    force: bool = False,
    only_look: bool = False,
) -> list[PlannedRun]:
    """One planned run per slug, combination of the grid's values, and seed (None: the profile's seeds).

    Nothing is started. Raises one WrongUse that lists everything wrong in all of them. `force` runs even
    what is already done; `only_look` lets runs pass that could not start for want of a data_root.
    """
    from lib.engine.cards import load_card

    problems = _grid_problems(grid, seeds)
    try:
        check_profile(profile)
    except WrongUse as error:
        problems.append(str(error))
        profile = PROFILES[0]  # so that the rest is checked, too
    fingerprints = Fingerprints(project)
    store = Store(project)
    plans = []
    for slug in dict.fromkeys(slugs):
        try:
            check_slug(project, slug)
            card = load_card(project.card(slug))
        except WrongUse as error:
            problems.append(str(error))
            continue
        known = [run for run in store.runs(slug) if run.components]
        required = tuple(sorted(card.required_metrics(profile)))
        for combination in _combinations(grid):
            for seed in _seeds(card.profiles[profile].seeds, seeds, combination):
                try:
                    parameters = resolve(project, slug, profile, combination, seed)
                except WrongUse as error:
                    problems += str(error).splitlines()
                    continue
                del parameters["run_dir"]
                components = fingerprints.components(card, parameters)
                key = run_key(components)
                action, reason = _decide(store, slug, key, components, known, force)
                if action == "run" and not only_look:
                    problems += _no_data(project, card, profile, parameters)
                data = fingerprints.samples(card)
                plans.append(
                    PlannedRun(
                        slug, profile, parameters, key, action, reason, components, required, data, force
                    )
                )
    if problems:
        raise WrongUse("\n".join(dict.fromkeys(problems)))
    return list({plan.key: plan for plan in plans}.values())


def run_all(
    project: Project,
    planned: Sequence[PlannedRun],
    jobs: int = 1,
    limits: Limits | None = None,
    on_event: OnEvent | None = None,
) -> list[Run]:
    """Runs what is planned to run, `jobs` at a time, and returns the finished runs in the order of the plan.

    Ctrl-C once: nothing new begins and what runs is finished, so fewer runs come back than were planned.
    Twice: what runs is killed and published as cancelled, and KeyboardInterrupt is raised. A full disk stops
    the rest and raises `DiskFull`.
    """
    todo = [plan for plan in planned if plan.action == "run"]
    if not todo:
        return []
    with Store(project).batch_folder() as folder:
        stop = Stop(folder)
        tell = on_event or (lambda event: None)
        with _interrupts(stop):
            finished = _through_dask(project, todo, jobs, limits or Limits(), stop, tell)
        if stop.asked("kill"):
            raise KeyboardInterrupt
    return [finished[plan.key] for plan in todo if plan.key in finished]


def results_table(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a run, all with the same columns: what it is, its parameters, its metrics, how it went.

    Metrics stand under ``name [unit]``. What a run does not have is None.
    """
    parameters = {
        name: name if name not in _FIRST_COLUMNS + _LAST_COLUMNS else f"parameter {name}"
        for run in runs
        for name in run.parameters
        if name not in ("profile", "seed")
    }
    rows = []
    for run in runs:
        row: dict[str, Any] = {name: getattr(run, name) for name in _FIRST_COLUMNS}
        row["key"] = run.key[:16]
        row |= {column: run.parameters.get(name) for name, column in parameters.items()}
        rows.append(row | {_metric_column(metric, row): metric.value for metric in run.metrics.values()})
    columns = dict.fromkeys(name for row in rows for name in row)
    last = [{name: getattr(run, name) for name in _LAST_COLUMNS} for run in runs]
    return [dict.fromkeys(columns) | row | end for row, end in zip(rows, last, strict=True)]


def write_csv(runs: Sequence[Run], path: Path) -> None:
    """Writes `results_table` as CSV in one step; a column that a run does not have stays empty."""
    rows = results_table(runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0] if rows else _FIRST_COLUMNS + _LAST_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    draft.replace(path)


def _metric_column(metric: Metric, taken: Mapping[str, Any]) -> str:
    column = f"{metric.name} [{metric.unit}]" if metric.unit else metric.name
    return f"metric {column}" if column in (*taken, *_LAST_COLUMNS) else column


def _through_dask(
    project: Project, todo: Sequence[PlannedRun], jobs: int, limits: Limits, stop: Stop, tell: OnEvent
) -> dict[str, Run]:
    """The finished runs by key. Every thread of the one worker owns one child process."""
    import dask
    from distributed import Client, LocalCluster

    quiet = dask.config.set(QUIET)
    cluster = LocalCluster(
        n_workers=1,
        threads_per_worker=min(jobs, len(todo)),
        processes=False,
        memory_limit=0,
        local_directory=str(stop.folder),
        # No dashboard; the small HTTP servers that Dask starts anyway stay on this machine, on any free port.
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": LOOPBACK},
        worker_dashboard_address=LOOPBACK,
    )
    finished: dict[str, Run] = {}
    full: DiskFull | None = None
    with quiet, cluster, Client(cluster) as client:
        waiting: dict[Future, PlannedRun] = {
            client.submit(_task, project, plan, limits, stop, pure=False): plan for plan in todo
        }
        seen: dict[str, int] = {}
        told: set[str] = set()
        while waiting:
            _tell_stop(stop, told, tell)
            for future, plan in list(waiting.items()):
                if not future.done():
                    _tell_progress(Store(project), plan, seen, tell)
                    continue
                del waiting[future]
                try:
                    outcome = future.result()
                except BaseException:
                    stop.ask("kill")
                    raise
                if isinstance(outcome, DiskFull):
                    full = outcome
                    stop.ask("finish")
                    told.add("finish")
                elif isinstance(outcome, ReproError):
                    tell(Event("refused", plan, message=str(outcome)))
                elif outcome is not None:
                    finished[plan.key] = outcome
                    tell(Event("finished", plan, outcome))
            if waiting:
                time.sleep(POLL_S)
    if full:
        raise full
    return finished


def _task(project: Project, plan: PlannedRun, limits: Limits, stop: Stop) -> Run | ReproError | None:
    """`execute`, with an error that the user can mend as its result: Dask would print a traceback."""
    try:
        return execute(project, plan, limits, stop)
    except ReproError as error:
        return error


def _tell_stop(stop: Stop, told: set[str], tell: OnEvent) -> None:
    """Tells once of each Ctrl-C; not from the signal's handler, which may interrupt somebody's printing."""
    for level, event in (
        ("finish", Event("stopping", message="finishing what runs; Ctrl-C again stops it at once")),
        ("kill", Event("killing", message="stopping at once")),
    ):
        if stop.asked(level) and level not in told:
            told.add(level)
            tell(event)


def _tell_progress(store: Store, plan: PlannedRun, seen: dict[str, int], tell: OnEvent) -> None:
    cell, cells = store.progress(plan.slug, plan.key)
    if cells and cell != seen.get(plan.key):
        if plan.key not in seen:
            tell(Event("started", plan))
        seen[plan.key] = cell
        tell(Event("cell", plan, cell=cell, cells=cells))


@contextmanager
def _interrupts(stop: Stop) -> Iterator[None]:
    """While inside, Ctrl-C asks `stop`: once to finish what runs, twice to kill it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def asked(*_: object) -> None:
        stop.ask("kill" if stop.asked("finish") else "finish")

    previous = signal.signal(signal.SIGINT, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _decide(
    store: Store, slug: str, key: str, components: Mapping[str, str], known: Sequence[Run], force: bool
) -> tuple[Literal["run", "skip"], str]:
    """Whether a key must be run, and the reason a person reads."""
    holder = store.holder(slug, key)
    if holder:
        return "run", f"being run by process {holder.pid}: will wait for it"
    run = store.get(slug, key)
    if run and run.state in ("ok", "incomplete"):
        if force:
            return "run", "already done, to be run again"
        done = "already done" if run.state == "ok" else f"already done, but {run.reason}"
        return "skip", done
    if store.partials(slug, key):
        return "run", "interrupted"
    if run:
        return "run", f"failed before: {run.reason}"
    return "run", _novelty(components, known)


def _novelty(components: Mapping[str, str], known: Sequence[Run]) -> str:
    """What sets a key apart from the runs there are."""
    if not known:
        return "never run"
    same = [run for run in known if run.components.get("parameters") == components["parameters"]]
    if not same:
        return "new parameters"
    differences = min((changed(run.components, components) for run in reversed(same)), key=len)
    return " and ".join(_WHAT_CHANGED[name] for name in differences) or "never finished"


def _combinations(grid: Mapping[str, Sequence[object]]) -> Iterator[dict[str, object]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _seeds(
    profile_seeds: Sequence[int], seeds: Sequence[int] | None, combination: Mapping[str, object]
) -> Sequence[int | None]:
    """The seeds to run; [None] leaves the seed to a combination that sets it."""
    if "seed" in combination:
        return [None]
    return list(dict.fromkeys(profile_seeds if seeds is None else seeds))


def _no_data(project: Project, card: "Card", profile: str, parameters: Mapping[str, Value]) -> list[str]:
    if parameters.get(DATA_ROOT) or not wants_data_root(project, card, profile):
        return []
    requires = card.profiles[profile].requires
    why = f": it requires {requires}" if requires else ""
    return [f"{card.slug}: profile {profile} needs {DATA_ROOT}; give it as -p {DATA_ROOT}=FOLDER{why}"]


def _grid_problems(grid: Mapping[str, Sequence[object]], seeds: Sequence[int] | None) -> list[str]:
    problems = [f"no values were given for {name!r}" for name, values in grid.items() if not values]
    if seeds is not None and "seed" in grid:
        problems.append("seeds are given twice: as 'seed' and as the list of seeds")
    if seeds is not None and not seeds:
        problems.append("the list of seeds is empty")
    return problems
