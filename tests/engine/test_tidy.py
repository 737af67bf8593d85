"""Logs and notebooks show a progress bar once, as a terminal does."""

import json
from pathlib import Path
from typing import Any

import pytest

from lib.engine.tidy import tidy_log, tidy_notebook, without_overwritten


def stream(text: str | list[str], name: str = "stderr") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def tidied(tmp_path: Path, *outputs: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs of a cell after its notebook was tidied up."""
    path = tmp_path / "executed.ipynb"
    cells = [{"cell_type": "markdown", "source": "a\rb"}, {"cell_type": "code", "outputs": list(outputs)}]
    path.write_text(json.dumps({"cells": cells, "metadata": {}}))
    tidy_notebook(path, "toy")
    text, code = json.loads(path.read_text())["cells"]
    assert text["source"] == "a\rb"
    outputs_now: list[dict[str, Any]] = code["outputs"]
    return outputs_now


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain\ntext", "plain\ntext"),
        ("\r 0%\r 50%\r100%\nnext\n", "100%\nnext\n"),
        ("a\n\rb\rc", "a\nc"),
        ("first\r\nsecond\r\n", "first\nsecond\n"),
        ("bar 1\rbar 2\r", "bar 2"),
        ("bar\r\rdone\n\r\n", "done\n\n"),
        ("", ""),
    ],
)
def test_text_is_what_a_terminal_shows_last(text: str, seen: str) -> None:
    assert without_overwritten(text) == seen


def test_bar_that_came_in_pieces_is_one_line(tmp_path: Path) -> None:
    pieces = [stream("\r 0%"), stream(["\r 50%", "\r 99%"]), stream("\r100%\n")]
    assert tidied(tmp_path, *pieces) == [stream(["100%\n"])]


def test_other_outputs_stay_where_they_are(tmp_path: Path) -> None:
    figure = {"output_type": "display_data", "data": {"text/plain": "a\rb"}, "metadata": {}}
    outputs = [stream("x\n", "stdout"), stream("\r1\r2\n"), figure, stream("y\n")]
    assert tidied(tmp_path, *outputs) == [
        stream(["x\n"], "stdout"),
        stream(["2\n"]),
        figure,
        stream(["y\n"]),
    ]


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_torn_notebook_stays_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "executed.ipynb"
    path.write_text(content)
    tidy_notebook(path, "toy")
    assert path.read_text() == content


def test_log_keeps_the_last_state_of_each_bar(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(
        "start\n\r 0% \u2588\r100% \u2588\u2588\nend \xff\n".encode("latin-1", "replace") + b"\xff"
    )
    tidy_log(log)
    assert log.read_text(encoding="utf-8").splitlines() == ["start", "100% ??", "end \ufffd", "\ufffd"]


def test_log_without_bars_is_not_touched(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"as it was \xff\n")
    tidy_log(log)
    assert log.read_bytes() == b"as it was \xff\n"
