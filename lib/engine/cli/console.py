"""What is printed where: results on stdout as tables or JSON, everything about the way there on stderr."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PIPED_WIDTH = 120
"""Columns of a table that is written to a file or a pipe; a terminal's own width is respected."""

STATE_STYLES = {
    "ok": "green",
    "reproduced": "bold green",
    "not_reproduced": "bold red",
    "inconclusive": "yellow",
    "not_assessed": "dim",
    "error": "bold red",
    "incomplete": "yellow",
    "failed": "red",
    "warning": "yellow",
    "interrupted": "yellow",
    "running": "cyan",
    "run": "cyan",
    "skip": "dim",
}


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, the key of its value in a row, and how it looks."""

    title: str
    key: str
    right: bool = False
    style: str = ""
    show: Callable[[Any], str] = str
    whole: bool = False
    """Never wrap this column: it is short, or meant to be copied."""


def results() -> "Console":
    """The console on stdout."""
    return _console(sys.stdout)


def messages() -> "Console":
    """The console on stderr."""
    return _console(sys.stderr)


def say(message: str, style: str = "") -> None:
    """Print one remark on stderr."""
    messages().print(message, style=style or None, soft_wrap=True)


def complain(message: str) -> None:
    """Print an error on stderr; further lines of it are indented under the first."""
    from rich.text import Text

    first, *rest = message.splitlines() or [""]
    text = Text("error: ", style="bold red").append(first, style="not bold default")
    for line in rest:
        text.append("\n       " + line, style="not bold default")
    messages().print(text, soft_wrap=True)


def show_rows(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, title: str = "", roomy: bool = False
) -> None:
    """Print `rows` as a table on stdout, without columns that say nothing.

    No rows print nothing; `roomy` leaves a line between them.
    """
    from rich import box
    from rich.table import Table

    if not rows:
        return
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), leading=int(roomy)
    )
    telling = [column for column in columns if any(row.get(column.key) not in (None, "") for row in rows)]
    for column in telling:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            style=column.style,
            no_wrap=column.whole,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(_cell(column, row.get(column.key)) for column in telling))
    console = results()
    if title:
        console.print(title, style="bold")
    console.print(table)
    console.print()


def show_json(data: Any) -> None:
    """Print `data` as the only thing on stdout."""
    print(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def words(state: str) -> str:
    """The words for a state: `not_reproduced` is shown as "not reproduced"."""
    return state.replace("_", " ")


def duration(seconds: float | None) -> str:
    """A duration for people: 8.3 s, 2 min 05 s, 3 h 10 min."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def number(value: float | bool | None) -> str:
    """A measured number for people: at most six significant digits; a bool is yes or no."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def count(amount: int, noun: str) -> str:
    """The amount with its noun: "1 run", "3 runs"."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def _cell(column: Column, value: Any) -> "Text":
    from rich.text import Text

    if value is None or isinstance(value, Text):
        return value or Text()
    style = STATE_STYLES.get(str(value), "") if column.show is words else ""
    return Text(column.show(value), style=style)


def _console(stream: TextIO) -> "Console":
    from rich.console import Console

    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)
