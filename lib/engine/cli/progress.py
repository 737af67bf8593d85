"""How a batch tells on stderr what it is doing: bars on a terminal, plain lines in a pipe."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lib.engine.cli.console import STATE_STYLES, count, duration, messages, say
from lib.engine.cli.references import SHORT_KEY

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from lib.engine.batch import Event, OnEvent, PlannedRun
    from lib.engine.store import Run

MOST_LINES = 20
"""A longer plan is told as a count per reason."""

_NOT_TOLD = ("profile", "run_dir", "seed")


def varied_parameters(planned: "Sequence[PlannedRun]") -> list[str]:
    """Names of the parameters, other than the seed, in which runs of the same paper differ."""
    seen: dict[tuple[str, str], Any] = {}
    varied: dict[str, None] = {}
    for plan in planned:
        for name, value in plan.parameters.items():
            if name not in _NOT_TOLD and seen.setdefault((plan.slug, name), value) != value:
                varied[name] = None
    return list(varied)


def label(slug: str, parameters: Mapping[str, Any], varied: Sequence[str]) -> str:
    """A run as its batch tells it from the others: paper, varied parameters, seed."""
    settings = [f"{name}={parameters[name]}" for name in varied if name in parameters]
    return " ".join([slug, *settings, f"seed={parameters.get('seed')}"])


def tell_plan(planned: "Sequence[PlannedRun]") -> None:
    """Say of every run whether it will start, and why."""
    varied = varied_parameters(planned)
    if len(planned) <= MOST_LINES:
        lines: list[tuple[str, str, str]] = [
            (plan.action, f"{label(plan.slug, plan.parameters, varied)}  {plan.key[:SHORT_KEY]}", plan.reason)
            for plan in planned
        ]
        width = max((len(name) for _, name, _ in lines), default=0)
    else:
        amounts: dict[tuple[str, str], int] = {}
        for plan in planned:
            amounts[plan.action, plan.reason] = amounts.get((plan.action, plan.reason), 0) + 1
        lines = [(action, count(amount, "run"), reason) for (action, reason), amount in amounts.items()]
        width = 10
    for action, name, reason in lines:
        say(f"{action:4}  {name:{width}}  {reason}", STATE_STYLES[action])


@contextmanager
def shown(planned: "Sequence[PlannedRun]") -> "Iterator[OnEvent]":
    """A listener for the events of a batch that shows them while the block lasts."""
    todo = [plan for plan in planned if plan.action == "run"]
    varied = varied_parameters(planned)
    if not todo:
        yield lambda event: None
    elif sys.stderr.isatty():
        with _bars() as bars:
            yield _Bars(bars, len(todo), varied)
    else:
        yield _Lines(messages(), len(todo), varied)


class _Lines:
    """One line when a run starts and one when it has finished."""

    def __init__(self, console: "Console", total: int, varied: Sequence[str]) -> None:
        self._console = console
        self._total = total
        self._varied = varied
        self._done = 0

    def __call__(self, event: "Event") -> None:
        if event.kind == "started" and event.planned:
            name = label(event.planned.slug, event.planned.parameters, self._varied)
            self._console.print(f"started   {name}", soft_wrap=True)
        elif event.kind in ("finished", "refused") and event.planned:
            self._done += 1
            self._console.print(
                f"[{self._done}/{self._total}] {_ending(event, self._varied)}", soft_wrap=True
            )
        elif event.kind in ("stopping", "killing"):
            self._console.print(event.message, style="yellow", soft_wrap=True)


class _Bars:
    """A bar for the batch, one for each run under way, and a line above them for each finished run."""

    def __init__(self, progress: "Progress", total: int, varied: Sequence[str]) -> None:
        self._progress = progress
        self._varied = varied
        self._whole = progress.add_task(count(total, "run") if total > 1 else "starting", total=total)
        self._total = total
        self._done = 0
        self._under_way: dict[str, tuple[TaskID, float]] = {}

    def __call__(self, event: "Event") -> None:
        plan = event.planned
        if event.kind in ("stopping", "killing"):
            self._progress.console.print(event.message, style="yellow")
        if plan is None:
            return
        if event.kind == "started":
            name = label(plan.slug, plan.parameters, self._varied)
            self._under_way[plan.key] = (self._progress.add_task(name, total=None), 0.0)
            if self._total == 1:
                self._progress.update(self._whole, visible=False)
        elif event.kind == "cell" and plan.key in self._under_way:
            task, _ = self._under_way[plan.key]
            share = (event.cell - 1) / event.cells
            self._under_way[plan.key] = (task, share)
            self._progress.update(task, completed=share, total=1.0)
        elif event.kind in ("finished", "refused"):
            self._done += 1
            if plan.key in self._under_way:
                self._progress.remove_task(self._under_way.pop(plan.key)[0])
            self._progress.console.print(_ending(event, self._varied), soft_wrap=True)
        self._progress.update(self._whole, completed=self._done + sum(s for _, s in self._under_way.values()))


def _ending(event: "Event", varied: Sequence[str]) -> str:
    assert event.planned is not None
    name = label(event.planned.slug, event.planned.parameters, varied)
    if event.run is None:
        return f"refused   {name}: {event.message}"
    return ending(event.run, name)


def ending(run: "Run", name: str) -> str:
    """How a run ended, in one line."""
    why = f": {run.reason}" if run.reason else ""
    return f"{run.state:9} {name}  {duration(run.seconds)}{why}"


def _bars() -> "Progress":
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("elapsed,", style="dim"),
        TimeRemainingColumn(),
        TextColumn("left", style="dim"),
        console=messages(),
        transient=True,
        speed_estimate_period=3600.0,
    )
