"""Whether a notebook really ran to its end, judged from what it left and from nothing it says of itself.

papermill marks a cell "completed" when the kernel died or the time ran out in it, and takes SystemExit for
success although no later cell ran. So: every code cell of the source must be there, in order, answered by the
kernel and without an error, and the injected parameters must be the ones that were sent.
"""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EXITS = ("SystemExit", "KeyboardInterrupt")
_ADDED = ("injected-parameters", "papermill-error-cell-tag")


@dataclass(frozen=True)
class Trouble:
    """Why a notebook does not count as run; `cell` is the number among its code cells, from 1 (0: none)."""

    reason: str
    cell: int


def notebook_trouble(executed: Path, source: list[str], parameters: Mapping[str, Any]) -> Trouble | None:
    """The first trouble with `executed`, made from the code cells `source`; None when it ran whole.

    `parameters` are those sent to papermill, typed.
    """
    try:
        cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    except FileNotFoundError:
        return Trouble("no cell ran: there is no executed notebook", 0)
    except (ValueError, KeyError, TypeError) as error:
        return Trouble(f"the executed notebook is torn: {error}", 0)
    injected = ["".join(cell["source"]) for cell in code if "injected-parameters" in _tags(cell)]
    ran = [cell for cell in code if not set(_tags(cell)) & set(_ADDED)]
    if ["".join(cell["source"]) for cell in ran] != source:
        return Trouble("the executed notebook does not hold the cells of its source", 0)
    for number, cell in enumerate(ran, start=1):
        trouble = _cell_trouble(cell, number, len(ran))
        if trouble:
            return trouble
    if len(injected) != 1 or not _same(_assignments(injected[0]), parameters):
        return Trouble("the parameters did not arrive in the notebook as they were sent", 0)
    return None


def _cell_trouble(cell: dict[str, Any], number: int, total: int) -> Trouble | None:
    for output in cell.get("outputs", ()):
        if output.get("output_type") != "error":
            continue
        name, value = output.get("ename", ""), str(output.get("evalue", ""))
        if name in _EXITS:
            rest = total - number
            later = f"; {rest} later cell{'s' * (rest != 1)} never ran" if rest else ""
            return Trouble(f"stopped early: {name} in cell {number}{later}", number)
        return Trouble(f"cell error: cell {number}: {name}: {value[:300]}", number)
    # The count alone is given when a cell begins; only the kernel's reply says that it ended.
    timing = cell.get("metadata", {}).get("execution", {})
    if cell.get("execution_count") is None or "shell.execute_reply" not in timing:
        return Trouble(f"cell {number} of {total} did not run to its end", number)
    return None


def _tags(cell: dict[str, Any]) -> list[str]:
    return list(cell.get("metadata", {}).get("tags", ()))


def _assignments(source: str) -> dict[str, Any]:
    """The literals that a cell assigns; a name bound to anything else is left out."""
    found = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                found[statement.targets[0].id] = ast.literal_eval(statement.value)
            except ValueError:
                continue
    return found


def _same(found: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """Equal in value and in type: 1 is not 1.0 and True is not 1."""
    return repr(sorted(found.items())) == repr(sorted(sent.items()))
