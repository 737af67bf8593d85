"""One run from plan to published folder: the child that executes, the clock, the memory and the truth.

The parent trusts nothing that the child says. It looks at the files (`truth`), and a run counts only once its
folder is published (`store`).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lib.engine.child import DISK_FULL_EXIT, OUTCOME, PROJECT_VARIABLE, REQUEST, SOURCE
from lib.engine.provenance import code_cells, describe
from lib.engine.store import (
    LOG,
    METRICS,
    NOTEBOOK,
    PROVENANCE,
    WORK,
    Run,
    Store,
    disk_full,
    disk_full_is_clear,
    read_metrics,
    remove_tree,
    write_json,
)
from lib.engine.tidy import tidy_log, tidy_notebook
from lib.engine.truth import notebook_trouble
from lib.project import Project

if TYPE_CHECKING:
    import psutil

    from lib.engine.batch import PlannedRun

POLL_S = 0.2
SETTLED_S = 15.0
LOOK_S = 2.0
"""How often new processes of a settled run are looked for, among all of the machine: that takes time.

Until then, while the kernel starts, each poll looks: a kernel that was never seen outlives its child.
"""

WAIT_S = 0.3
ATTEMPTS = 2
WAIT_POLICY = "PASSIVE"
"""OMP_WAIT_POLICY: idle threads sleep.

By default they spin for a while, and two busy processes on the same cores then take each other's time:
training steps of 0.4 s were seen to take 9 s.
"""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Limits:
    """What one run may use; None is no limit. `threads` is the thread count of its numeric libraries."""

    timeout_s: float | None = None
    cell_timeout_s: float | None = None
    memory_bytes: int | None = None
    threads: int = 1
    start_timeout_s: float = 60.0


@dataclass(frozen=True)
class Stop:
    """How whoever ordered runs asks them to stop: a folder that every run can see, wherever it works."""

    folder: Path

    def ask(self, level: str) -> None:
        """`finish`: begin nothing new. `kill`: end what runs, too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / level).touch()

    def asked(self, level: str) -> bool:
        """Whether that has been asked for; a kill includes a finish."""
        return (self.folder / level).exists() or (level == "finish" and self.asked("kill"))


@dataclass(frozen=True)
class Ending:
    """How the child ended, as far as the parent can tell from outside."""

    outcome: str
    detail: str
    seconds: float
    peak_memory_bytes: int


def execute(project: Project, planned: "PlannedRun", limits: Limits, stop: Stop | None = None) -> Run | None:
    """Runs and publishes what is planned, or finds that somebody else just did; None when told not to begin.

    While another process holds the key this waits for it. Raises `DiskFull` when the run cannot be kept.
    """
    store = Store(project)
    slug, key = planned.slug, planned.key
    before = store.get(slug, key)
    while not (stop and stop.asked("finish")):
        with store.locked(slug, key) as free:
            if free:
                now = store.get(slug, key)
                fresh = now is not None and (before is None or now.finished != before.finished)
                if now and (fresh or (now.state in ("ok", "incomplete") and not planned.force)):
                    return now
                return _run(store, project, planned, limits, stop)
        time.sleep(WAIT_S)
    return None


def _run(store: Store, project: Project, planned: "PlannedRun", limits: Limits, stop: Stop | None) -> Run:
    """Builds and publishes the run; the caller holds its lock."""
    store.clean(planned.slug, planned.key)
    for attempt in range(1, ATTEMPTS + 1):
        partial: Path | None = None
        published = False
        try:
            with disk_full_is_clear(store.root):
                partial = store.new_partial(planned.slug, planned.key)
                started = _now()
                ending = _attempt(project, partial, planned, limits, stop)
                if ending.outcome == "kernel did not start" and attempt < ATTEMPTS:
                    continue
                run = _finish(store, partial, planned, limits, ending, started)
                published = True
                return run
        finally:
            if partial and not published:
                remove_tree(partial)
    raise AssertionError("the last attempt returns or raises")


def _attempt(
    project: Project, partial: Path, planned: "PlannedRun", limits: Limits, stop: Stop | None
) -> Ending:
    work = partial / WORK
    shutil.copyfile(project.notebook(planned.slug), work / SOURCE)
    request = {
        "key": planned.key,
        "parameters": planned.sent,
        "components": planned.components,
        "cell_timeout_s": limits.cell_timeout_s,
        "start_timeout_s": limits.start_timeout_s,
    }
    write_json(work / REQUEST, request)
    begun = time.monotonic()
    with (partial / LOG).open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "lib.engine.child"],
            cwd=partial,
            env=_environment(project, limits),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        watch = _Watch(child, limits, stop, begun)
        try:
            broken = watch.until_end()
        finally:
            watch.kill_all()
    outcome, detail = broken or _told(work, child.returncode)
    return Ending(outcome, detail, time.monotonic() - begun, watch.peak_memory_bytes)


class _Watch:
    """The parent's eye on a child and everything the child started."""

    def __init__(
        self, child: "subprocess.Popen[bytes]", limits: Limits, stop: Stop | None, begun: float
    ) -> None:
        self.peak_memory_bytes = 0
        self._child = child
        self._limits = limits
        self._stop = stop
        self._begun = begun
        self._tree: dict[int, psutil.Process] = {}
        self._looked = begun

    def until_end(self) -> tuple[str, str] | None:
        """Returns when the child has ended (None) or has broken a limit (which one, and how)."""
        while True:
            try:
                self._child.wait(POLL_S)
                return None
            except subprocess.TimeoutExpired:
                broken = self._broken()
                if broken:
                    return broken

    def kill_all(self) -> None:
        """Kills the child and all that it started, and waits until they are gone."""
        import psutil

        self._look()
        for process in list(self._tree.values()):
            with suppress(psutil.Error):
                for late in process.children(recursive=True):
                    self._tree.setdefault(late.pid, late)
                process.kill()
        for process in self._tree.values():
            with suppress(psutil.Error):
                process.kill()
        self._child.kill()
        self._child.wait()
        assert self._child.stdin is not None
        self._child.stdin.close()
        psutil.wait_procs(list(self._tree.values()), timeout=10)

    def _broken(self) -> tuple[str, str] | None:
        now = time.monotonic()
        if now - self._begun < SETTLED_S or now - self._looked > LOOK_S:
            self._look()
            self._looked = now
        memory = self._memory("rss")
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory)
        if self._stop and self._stop.asked("kill"):
            return "cancelled", ""
        timeout = self._limits.timeout_s
        if timeout is not None and now - self._begun > timeout:
            return "timeout", f"the run took longer than {timeout:g} s"
        limit = self._limits.memory_bytes
        if limit is not None and memory > limit:
            # Resident sizes count shared pages once a process; only the proportional size is fair.
            memory = self._memory("pss")
            if memory > limit:
                return "memory", f"{memory / 1e9:.2f} GB used, {limit / 1e9:.2f} GB allowed"
        return None

    def _look(self) -> None:
        import psutil

        with suppress(psutil.Error):
            child = psutil.Process(self._child.pid)
            for process in (child, *child.children(recursive=True)):
                self._tree.setdefault(process.pid, process)

    def _memory(self, kind: str) -> int:
        import psutil

        total = 0
        for process in self._tree.values():
            with suppress(psutil.Error):
                rss = process.memory_info().rss
                total += rss if kind == "rss" else getattr(process.memory_full_info(), "pss", rss)
        return int(total)


def _told(work: Path, exit_code: int) -> tuple[str, str]:
    """What the child says of its end; its silence means that it died."""
    try:
        told = json.loads((work / OUTCOME).read_text(encoding="utf-8"))
        return told["outcome"], told["detail"]
    except (OSError, ValueError, KeyError):
        if exit_code == DISK_FULL_EXIT:
            return "disk full", ""
        how = f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
        return "child died", how


def _finish(
    store: Store, partial: Path, planned: "PlannedRun", limits: Limits, ending: Ending, started: str
) -> Run:
    if ending.outcome == "disk full" or "[Errno 28]" in ending.detail:
        raise disk_full(store.root)
    state, reason, missing = _truth(partial, planned, ending)
    tidy_notebook(partial / NOTEBOOK, planned.slug)
    tidy_log(partial / LOG)
    finished = _now()
    provenance = {
        "slug": planned.slug,
        "profile": planned.profile,
        "seed": planned.seed,
        "parameters": planned.parameters,
        "key": planned.key,
        "components": planned.components,
        "data": planned.data,
        "started": started,
        "finished": finished,
        "wall_s": round(ending.seconds, 3),
        "peak_memory_bytes": ending.peak_memory_bytes,
        "limits": asdict(limits),
        **describe(limits.threads, str(planned.parameters.get("device", ""))),
        "omp_wait_policy": WAIT_POLICY,
    }
    write_json(partial / PROVENANCE, provenance)
    status = {
        "state": state,
        "reason": reason,
        "missing": missing,
        "profile": planned.profile,
        "seed": planned.seed,
        "seconds": round(ending.seconds, 3),
        "finished": finished,
    }
    return store.publish(partial, planned.slug, planned.key, status)


def _truth(partial: Path, planned: "PlannedRun", ending: Ending) -> tuple[str, str, list[str]]:
    """State, reason and missing metrics of a run that has ended."""
    source = code_cells(partial / WORK / SOURCE)
    trouble = notebook_trouble(partial / NOTEBOOK, source, planned.sent)
    if ending.outcome not in ("done", "cell error"):
        where = f" (in cell {trouble.cell} of {len(source)})" if trouble and trouble.cell else ""
        detail = f": {ending.detail}" if ending.detail else ""
        return "failed", f"{ending.outcome}{detail}{where}", []
    if trouble:
        return "failed", trouble.reason, []
    if ending.outcome == "cell error":
        return "failed", f"cell error: {ending.detail}", []
    try:
        metrics = read_metrics(partial / METRICS) if (partial / METRICS).exists() else {}
    except ValueError as error:
        return "failed", f"torn: {error}", []
    missing = sorted(set(planned.required) - set(metrics))
    if missing:
        return "incomplete", f"the notebook did not record {', '.join(missing)}", missing
    return "ok", "", []


def _environment(project: Project, limits: Limits) -> dict[str, str]:
    """The child's environment; its relative paths are inside the partial folder, where it works."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSTARTUP"}
    environment |= dict.fromkeys(_THREAD_VARIABLES, str(limits.threads))
    environment |= {
        "OMP_WAIT_POLICY": WAIT_POLICY,
        PROJECT_VARIABLE: str(project.root.resolve()),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_PATH": f"{WORK}/jupyter",
        "JUPYTER_CONFIG_DIR": f"{WORK}/jupyter",
        "JUPYTER_RUNTIME_DIR": f"{WORK}/runtime",
        "IPYTHONDIR": f"{WORK}/ipython",
        "PYTHONHASHSEED": "0",
        # Notebooks need no widgets; tqdm regrets that with the path of the environment.
        "PYTHONWARNINGS": "ignore:IProgress not found",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    return environment


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
