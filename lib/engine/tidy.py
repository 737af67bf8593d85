"""What the log and the notebook of a finished run are freed of: places, and old states of progress bars.

A progress bar prints a carriage return and itself again, hundreds of times. A terminal shows only the last of
them; so do the log and the rendered page once this is done.
"""

import json
import re
from pathlib import Path
from typing import Any

from lib.engine.store import NOTEBOOK, write_json

_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\r\n])")
"""What a carriage return lets later text of the same line cover."""

_RETURNS = re.compile(r"\r+(?=\n|$)")


def without_overwritten(text: str) -> str:
    """`text` as a terminal shows it: of each line, only what follows the last carriage return in it."""
    return _RETURNS.sub("", _OVERWRITTEN.sub("", text)) if "\r" in text else text


def tidy_log(log: Path) -> None:
    """Rewrites a log that holds carriage returns; other logs stay untouched."""
    content = log.read_bytes()
    if b"\r" in content:
        text = content.decode("utf-8", errors="replace")
        log.write_text(without_overwritten(text), encoding="utf-8", newline="\n")


def tidy_notebook(notebook: Path, slug: str) -> None:
    """Frees an executed notebook of overwritten output and of what papermill notes of this machine.

    One that is missing or torn stays as it is.
    """
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not isinstance(content, dict):
        return
    for cell in content.get("cells", ()):
        if cell.get("outputs"):
            cell["outputs"] = _tidy_outputs(cell["outputs"])
    noted = content.get("metadata", {}).get("papermill")
    if isinstance(noted, dict):
        noted |= {
            "input_path": f"notebooks/{slug}.ipynb",
            "output_path": NOTEBOOK,
            "environment_variables": {},
        }
    write_json(notebook, content)


def _tidy_outputs(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The outputs of a cell; streams that follow each other become one, since bars come in pieces."""
    tidied: list[dict[str, Any]] = []
    for output in outputs:
        if output.get("output_type") != "stream":
            tidied.append(output)
            continue
        text, before = "".join(output["text"]), tidied[-1] if tidied else {}
        if before.get("output_type") == "stream" and before["name"] == output["name"]:
            before["text"] += text
        else:
            tidied.append({**output, "text": text})
    for output in tidied:
        if output.get("output_type") == "stream":
            output["text"] = without_overwritten(output["text"]).splitlines(keepends=True)
    return tidied
