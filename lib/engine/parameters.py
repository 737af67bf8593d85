"""The typed parameters of a notebook: read from its one cell tagged ``parameters``, checked before a run.

The notebook declares ``name: type = literal  # help``; the card may narrow a name to a range or to choices,
and gives the values of each profile. Whatever is wrong is collected and reported at once.
"""

import ast
import difflib
import io
import json
import math
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.engine.claims import PROFILES
from lib.errors import WrongUse
from lib.project import Project, user_folder

if TYPE_CHECKING:
    from lib.engine.cards import Card

Value = int | float | str | bool | list[int] | list[float] | list[str]

TYPES = ("int", "float", "str", "bool", "list[int]", "list[float]", "list[str]")
REQUIRED = ("profile", "seed", "device", "run_dir")
DATA_ROOT = "data_root"
"""The parameter by which a user gives a folder of data."""

_RESERVED = ("profile", "run_dir")
_BOOLS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook; `type` is one of `TYPES`."""

    name: str
    type: str
    default: Value
    help: str


def read_parameters(notebook: Path) -> list[Parameter]:
    """The parameters that a notebook declares, in order. Raises WrongUse naming the notebook and the line."""
    cell = _parameter_cell(notebook)
    try:
        tree = ast.parse(cell)
    except SyntaxError as error:
        raise WrongUse(f"{notebook.name}: the parameters cell is not Python (line {error.lineno})") from error
    comments = _comments(cell)
    found: list[Parameter] = []
    for statement in tree.body:
        where = f"{notebook.name}: parameters cell, line {statement.lineno}"
        if not (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value
        ):
            raise WrongUse(f"{where}: write 'name: type = literal  # help', nothing else")
        name, kind = statement.target.id, ast.unparse(statement.annotation)
        if kind not in TYPES:
            raise WrongUse(f"{where}: {name} has type {kind}; use one of {', '.join(TYPES)}")
        if name in (parameter.name for parameter in found):
            raise WrongUse(f"{where}: {name} is declared twice")
        try:
            default = convert(ast.literal_eval(statement.value), kind)
        except ValueError as error:
            reason = f"{name} = {ast.unparse(statement.value)}: expected a literal of type {kind}"
            raise WrongUse(f"{where}: {reason}") from error
        found.append(Parameter(name, kind, default, comments.get(statement.end_lineno or 0, "")))
    missing = [name for name in REQUIRED if name not in (parameter.name for parameter in found)]
    if missing:
        raise WrongUse(f"{notebook.name}: the parameters cell must also declare {', '.join(missing)}")
    return found


def convert(value: object, kind: str) -> Value:
    """`value` (typed, or text from a command line) as `kind`; raises ValueError when it is not exactly that.

    An int is fine for a float; nothing else is converted from one type to another.
    """
    if kind.startswith("list["):
        if isinstance(value, str):
            value = _split(value)
        if not isinstance(value, list | tuple):
            raise ValueError(f"not a {kind}")
        return [convert(item, kind[5:-1]) for item in value]  # type: ignore[return-value]
    if kind == "str":
        if not isinstance(value, str):
            raise ValueError("not text")
        return value
    if kind == "bool":
        if isinstance(value, str) and value.strip().lower() in _BOOLS:
            return _BOOLS[value.strip().lower()]
        if not isinstance(value, bool):
            raise ValueError("not true or false")
        return value
    if isinstance(value, str):
        value = int(value) if kind == "int" else float(value)
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else int | float):
        raise ValueError(f"not a {kind}")
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value if kind == "int" else float(value)


def resolve(
    project: Project,
    slug: str,
    profile: str,
    overrides: Mapping[str, object],
    seed: int | None = None,
) -> dict[str, Value]:
    """Every parameter of the notebook: its default, overruled by the profile, overruled by `overrides`.

    `seed` None means the profile's first seed. ``run_dir`` stays as the notebook has it: the runner sets it.
    Raises one WrongUse that lists everything that is wrong.
    """
    from lib.engine.cards import load_card

    check_slug(project, slug)
    check_profile(profile)
    card = load_card(project.card(slug))
    declared = {parameter.name: parameter for parameter in read_parameters(project.notebook(slug))}
    chosen = card.profiles[profile]
    problems = [
        f"{slug}: the card declares a range for {name!r}, which the notebook does not have"
        for name in card.parameters
        if name not in declared
    ]
    values: dict[str, Value] = {name: parameter.default for name, parameter in declared.items()}
    layers = ((f"profile {profile}", chosen.parameters), ("", overrides))
    for origin, layer in layers:
        for name, given in layer.items():
            if name in _RESERVED:
                problems.append(f"{slug}: {name!r} is set by the command, not as a parameter")
            elif name not in declared:
                problems.append(f"{slug}: no parameter {name!r}{nearest(name, declared)}")
            else:
                try:
                    values[name] = convert(given, declared[name].type)
                except ValueError:
                    note = f" (in {origin})" if origin else ""
                    problems.append(f"{slug}: {name}={given} is not a valid {declared[name].type}{note}")
    values["profile"] = profile
    if seed is not None:
        values["seed"] = seed
    elif "seed" not in overrides:
        values["seed"] = chosen.seeds[0]
    problems += [
        f"{slug}: {problem}" for name in values for problem in _out_of_range(card, name, values[name])
    ]
    problems += [f"{slug}: {problem}" for problem in _unplaced(values.get(DATA_ROOT, ""))]
    if problems:
        raise WrongUse("\n".join(problems))
    return values


def check_slug(project: Project, slug: str) -> None:
    """Raises WrongUse unless `slug` has a card and a notebook."""
    if not project.card(slug).is_file():
        raise WrongUse(f"no paper {slug!r}{nearest(slug, project.slugs())}; './repro list' names them all")
    if not project.notebook(slug).is_file():
        raise WrongUse(f"{slug} has a card but no notebook: {project.notebook(slug).name} is missing")


def check_profile(profile: str) -> None:
    """Raises WrongUse unless `profile` is one of `PROFILES`."""
    if profile not in PROFILES:
        raise WrongUse(f"no profile {profile!r}{nearest(profile, PROFILES)}; profiles: {', '.join(PROFILES)}")


def wants_data_root(project: Project, card: "Card", profile: str) -> bool:
    """Whether a run of `profile` reads a folder that the user must give as the notebook's `DATA_ROOT`."""
    notebook = project.notebook(card.slug)
    if card.profiles[profile].data == "embedded" or not notebook.is_file():
        return False
    return any(parameter.name == DATA_ROOT for parameter in read_parameters(notebook))


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known name resembles `name`, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _out_of_range(card: "Card", name: str, value: Value) -> list[str]:
    limits = card.parameters.get(name)
    if limits is None:
        return []
    problems = []
    for item in value if isinstance(value, list) else [value]:
        if limits.choices is not None and item not in limits.choices:
            close = nearest(item, map(str, limits.choices)) if isinstance(item, str) else ""
            problems.append(f"{name}={item} is not one of {', '.join(map(str, limits.choices))}{close}")
        if limits.minimum is not None and isinstance(item, int | float) and item < limits.minimum:
            problems.append(f"{name}={item} is below its minimum {limits.minimum:g}")
        if limits.maximum is not None and isinstance(item, int | float) and item > limits.maximum:
            problems.append(f"{name}={item} is above its maximum {limits.maximum:g}")
    return problems


def _unplaced(data_root: Value) -> list[str]:
    """A relative data_root would mean another folder in the notebook than on the command line."""
    try:
        if not data_root or user_folder(str(data_root)).is_absolute():
            return []
    except WrongUse as error:
        return [str(error)]
    return [f"{DATA_ROOT}={data_root} is relative; give it from the root (/...) or from your home (~/...)"]


def _parameter_cell(notebook: Path) -> str:
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise WrongUse(f"{notebook.name} is not a notebook: {error}") from error
    tagged = [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and "parameters" in cell.get("metadata", {}).get("tags", [])
    ]
    if len(tagged) != 1:
        count = "no cell is" if not tagged else f"{len(tagged)} cells are"
        raise WrongUse(f"{notebook.name}: {count} tagged 'parameters'; exactly one code cell must be")
    return tagged[0]


def _comments(source: str) -> dict[int, str]:
    """Line number -> the comment on that line, without its mark."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("#").strip() for token in tokens if token.type == tokenize.COMMENT
    }


def _split(text: str) -> list[Any]:
    """The items of ``[1, 2]`` or ``1,2`` as text."""
    inner = text.strip().removeprefix("[").removesuffix("]")
    return [item.strip().strip("'\"") for item in inner.split(",")] if inner.strip() else []
