"""What the user typed, checked: all mistakes of a command are told at once, before anything starts."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lib.errors import WrongUse
from lib.project import Project

if TYPE_CHECKING:
    from lib.engine.runner import Limits

MOST_SEEDS = 10_000

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="The paper's short name, as in `list`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Profile = Annotated[str, typer.Option(metavar="smoke|small|paper", help="The size of the run.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--parameter",
        metavar="NAME=VALUE",
        help="Set a parameter, such as -p keep_ratio=0.5; repeat for more. `params SLUG` names them all.",
    ),
]
Jobs = Annotated[int, typer.Option(min=1, metavar="N", help="How many runs at a time.")]
Timeout = Annotated[
    float | None,
    typer.Option(min=0.01, metavar="MINUTES", help="Stop a run that takes longer.", show_default=False),
]
MemoryLimit = Annotated[
    float | None,
    typer.Option(min=0.1, metavar="GB", help="Stop a run that uses more memory.", show_default=False),
]


class Problems:
    """Mistakes gathered while a command line is read."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Keep the WrongUse raised inside for later."""
        try:
            yield
        except WrongUse as mistake:
            self.note(*str(mistake).splitlines())

    def note(self, *messages: str) -> None:
        """Keep these messages for later, each once."""
        self._messages.extend(message for message in messages if message not in self._messages)

    def check(self) -> None:
        """Raise one WrongUse that lists everything noted so far, if anything was."""
        if self._messages:
            raise WrongUse("\n".join(self._messages))


def check_slugs(project: Project, slugs: Sequence[str], *, all_if_none: bool = False) -> list[str]:
    """The slugs named, each once; `all` (or none, if so told) stands for every paper that has a card."""
    from lib.engine.parameters import check_slug

    known = project.slugs()
    if not known:
        raise WrongUse(f"no paper has a card yet in {project.cards}; `./repro new SLUG` begins one")
    named = known if (all_if_none and not slugs) or list(slugs) == ["all"] else list(dict.fromkeys(slugs))
    problems = Problems()
    for slug in named:
        with problems.noted():
            check_slug(project, slug)
    problems.check()
    return named


def parse_assignments(assignments: Sequence[str] | None, problems: Problems) -> dict[str, str]:
    """`-p name=value` options as a mapping; the values stay text, the notebook says their types."""
    parsed: dict[str, str] = {}
    for assignment in assignments or ():
        name, equals, value = assignment.partition("=")
        name = name.strip()
        if not (equals and name):
            problems.note(f"-p {assignment}: write it as name=value")
        elif name in parsed:
            problems.note(f"-p {name} is given twice; `batch -g {name}=...` tries a list of values")
        else:
            parsed[name] = value.strip()
    return parsed


def parse_grid(options: Sequence[str] | None, file: Path | None, problems: Problems) -> dict[str, list[Any]]:
    """The values to try per parameter, from `-g name=v1,v2` options and a `--grid` file together."""
    grid: dict[str, list[Any]] = {}
    for option in options or ():
        name, equals, text = option.partition("=")
        name = name.strip()
        values = split_values(text) if equals else []
        if not (name and values and all(values)):
            problems.note(
                f"-g {option}: write it as name=value,value (lists in brackets: sweep=[0.9,0.5],[0.8])"
            )
        elif name in grid:
            problems.note(f"-g {name} is given twice; put all its values into one")
        else:
            grid[name] = list(values)
    if file is not None:
        with problems.noted():
            for name, entries in read_grid_file(file).items():
                if name in grid:
                    problems.note(f"{name} is given by -g and by {file}; give it once")
                grid.setdefault(name, entries)
    return grid


def split_values(text: str) -> list[str]:
    """The comma-separated values of `text`; commas inside brackets or double quotes do not separate."""
    values, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        if not quoted:
            depth += (character == "[") - (character == "]")
        if character == "," and depth == 0 and not quoted:
            values.append("")
        else:
            values[-1] += character
    return [_unquoted(value.strip()) for value in values]


def read_grid_file(file: Path) -> dict[str, list[Any]]:
    """The mapping name -> list of values in a YAML file."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUse(
            f"--grid {file}: cannot be read ({getattr(error, 'strerror', None) or 'not text'})"
        ) from error
    except yaml.YAMLError as error:
        raise WrongUse(f"--grid {file}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content:
        raise WrongUse(f"--grid {file}: write a mapping of parameter names to lists of values")
    problems = Problems()
    for name, values in content.items():
        if not isinstance(name, str) or not isinstance(values, list) or not values:
            problems.note(f"--grid {file}: {name} needs a list of values, such as {name}: [0.5, 0.7]")
    problems.check()
    return content


def parse_seeds(text: str | None) -> list[int] | None:
    """The seeds of `0-4`, `0,2,5` or a mixture, in order and each once; None if nothing was said."""
    if text is None:
        return None
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(first) <= int(last))):
            raise WrongUse(f"--seeds {text}: write seeds as 0-4 or 0,2,5")
        span = range(int(first), int(last or first) + 1)
        if len(seeds) + len(span) > MOST_SEEDS:
            raise WrongUse(f"--seeds {text}: that is more than {MOST_SEEDS} seeds")
        seeds.extend(span)
    return list(dict.fromkeys(seeds))


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def limits(jobs: int, timeout_minutes: float | None, memory_gb: float | None) -> "Limits":
    """What each of `jobs` simultaneous runs may use; they share the processors of this machine."""
    from lib.engine.runner import Limits

    return Limits(
        timeout_s=None if timeout_minutes is None else timeout_minutes * 60,
        memory_bytes=None if memory_gb is None else round(memory_gb * 1e9),
        threads=max(1, processors() // jobs),
    )


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
