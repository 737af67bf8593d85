"""One notebook, executed by papermill, in a process of its own: ``python -m lib.engine.child``.

It works in the folder of the run; the request is ``.work/request.json``. When standard input ends, the parent
has died: the kernel is killed and this process leaves. What happened is told in ``.work/outcome.json``; the
parent checks it against the files.
"""

import errno
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from lib.engine.store import NOTEBOOK, PROGRESS, WORK

OUTCOME = "outcome.json"
REQUEST = "request.json"
SOURCE = "source.ipynb"
KERNEL = "python3"
PROJECT_VARIABLE = "EDGEREPRO_PROJECT"
"""Environment variable in which a notebook finds the root of its project."""

IOPUB_TIMEOUT_S = 60
DISK_FULL_EXIT = 28
"""Exit code when not even the outcome could be written."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """Runs the notebook that the request names."""
    work = Path(WORK)
    request = json.loads((work / REQUEST).read_text(encoding="utf-8"))
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _write_kernelspec(work)
    outcome = {"outcome": "done", "detail": ""}
    try:
        _execute(work, request)
    except Exception as error:
        outcome = _outcome(error)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    try:
        (work / OUTCOME).write_text(json.dumps(outcome), encoding="utf-8")
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        os._exit(DISK_FULL_EXIT)


def _execute(work: Path, request: dict[str, Any]) -> None:
    # With this optional package jsonschema spends 1.5 s on a parser of IRIs, which notebooks do not have.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from papermill.execute import execute_notebook
    from traitlets.config import Config

    source = work / SOURCE
    cells = len(json.loads(source.read_text(encoding="utf-8"))["cells"]) + 1

    def tell_progress(cell_index: int, **_: Any) -> None:
        draft = work / f".{PROGRESS}"
        draft.write_text(json.dumps({"cell": cell_index + 1, "cells": cells}), encoding="utf-8")
        draft.replace(work / PROGRESS)

    execute_notebook(
        str(source),
        NOTEBOOK,
        parameters=request["parameters"],
        kernel_name=KERNEL,
        language="python",
        progress_bar=False,
        stdout_file=sys.stdout,
        stderr_file=sys.stderr,
        start_timeout=request["start_timeout_s"],
        execution_timeout=request["cell_timeout_s"],
        iopub_timeout=IOPUB_TIMEOUT_S,
        on_cell_start=tell_progress,
        # Sockets of the file system: kernels that start together cannot take each other's TCP port.
        config=Config({"AsyncKernelManager": {"transport": "ipc"}}),
    )


def _write_kernelspec(work: Path) -> None:
    """A kernel that is this very interpreter, whatever kernels the user has installed."""
    folder = work / "jupyter" / "kernels" / KERNEL
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {
        "argv": [*command, "--HistoryManager.enabled=False"],
        "display_name": "Python 3",
        "language": "python",
        "metadata": {},
    }
    (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")


def _outcome(error: Exception) -> dict[str, str]:
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return {"outcome": "cell error", "detail": f"{error.ename}: {error.evalue}"}
    if isinstance(error, CellTimeoutError):
        return {"outcome": "timeout", "detail": "a cell took too long"}
    if isinstance(error, DeadKernelError):
        return {"outcome": "kernel died", "detail": ""}
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return {"outcome": "disk full", "detail": ""}
    if isinstance(error, RuntimeError) and "Kernel" in str(error):
        return {"outcome": "kernel did not start", "detail": str(error)}
    return {"outcome": "child failed", "detail": f"{type(error).__name__}: {error}"}


def _leave_with_parent() -> None:
    """Waits for the end of standard input, which only the parent's death brings before the work is done."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    import psutil

    for process in psutil.Process().children(recursive=True):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(1)


if __name__ == "__main__":
    main()
