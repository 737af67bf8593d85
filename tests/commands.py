"""One command line, run inside the test's own process, with what it printed."""

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from lib.engine.cli.app import main
from lib.project import Project


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The last line on stdout."""
        return self.out.splitlines()[-1]

    @property
    def json(self) -> Any:
        """Stdout, which must be nothing but JSON."""
        return json.loads(self.out)


def repro(project: Project, *arguments: str) -> Done:
    """Run ``./repro --project ... arguments`` with its output in a pipe."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: Any = main(["--project", str(project.root), *arguments])
        except SystemExit as end:
            code = end.code
    return Done(code, out.getvalue(), err.getvalue())
