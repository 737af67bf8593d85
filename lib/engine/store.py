"""The store of runs: ``data/runs/<slug>/<key16>/``, one folder a run, one writer a folder.

A run is built in a sibling ``.partial-<key16>-<random>`` and published by renaming it, with ``status.json``
written last. Only a status that matches the files beside it says that a run is good. A lock per key, released
by the operating system when its holder dies, keeps two writers apart. A run that comes out worse than the one
it was to replace is set aside as ``.failed-<key16>``, where its log can be read until `runs --prune`.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lib.errors import ReproError
from lib.project import Project

if TYPE_CHECKING:
    from filelock import FileLock

State = Literal["ok", "incomplete", "failed", "interrupted", "running"]

STATUS = "status.json"
METRICS = "metrics.json"
PROVENANCE = "provenance.json"
NOTEBOOK = "executed.ipynb"
LOG = "log.txt"
WORK = ".work"
"""Folder inside a partial folder for what the run needs only while it runs."""

PROGRESS = "progress.json"
_PARTIAL, _BATCH, _ASIDE = ".partial-", ".batch-", ".failed-"
_WORTH = {"failed": 0, "incomplete": 1, "ok": 2}
"""A run is never replaced by one that is worth less."""

_SEALED = (METRICS, PROVENANCE, NOTEBOOK)


class DiskFull(ReproError):
    """The disk that holds the runs is full; the unfinished run was removed."""


@dataclass(frozen=True)
class Metric:
    """One recorded quantity."""

    name: str
    value: float | bool
    unit: str
    seed: int


@dataclass(frozen=True)
class Run:
    """One folder of the store, read back. `metrics` are empty unless it is a result."""

    path: Path
    slug: str
    key: str
    state: State
    reason: str
    seconds: float
    profile: str
    seed: int
    parameters: dict[str, Any]
    metrics: dict[str, Metric]
    components: dict[str, str]
    missing: tuple[str, ...] = ()
    finished: str = ""

    @property
    def id(self) -> str:
        """`slug/key16`, the name by which a run is asked for."""
        return f"{self.slug}/{self.key[:16]}"


@dataclass(frozen=True)
class Holder:
    """The process that runs a key."""

    pid: int
    started: float

    def alive(self) -> bool:
        """Whether that very process, not a later one with its number, still exists."""
        import psutil

        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < 1.0
        except psutil.Error:
            return False


@dataclass(frozen=True)
class Pruned:
    """The folders that `Store.prune` removed."""

    failed: tuple[Path, ...]
    interrupted: tuple[Path, ...]
    batches: tuple[Path, ...]


class Store:
    """The runs of a project."""

    def __init__(self, project: Project) -> None:
        self.root = project.runs

    def folder(self, slug: str, key: str) -> Path:
        """Where the published run of `key` lies."""
        return self.root / slug / key[:16]

    def get(self, slug: str, key: str) -> Run | None:
        """The published run of `key`, or None."""
        path = self.folder(slug, key)
        return _read_run(path, slug) if path.is_dir() else None

    def runs(self, slug: str | None = None) -> list[Run]:
        """Every run, published or not, newest last. Partial folders appear as running or interrupted."""
        found = []
        for folder in sorted(self.root.glob(slug or "[!.]*/")):
            for path in sorted(folder.iterdir()):
                if path.name.startswith(_PARTIAL):
                    found.append(self._read_partial(path, folder.name))
                elif path.is_dir() and not path.name.startswith("."):
                    found.append(_read_run(path, folder.name))
        return sorted(found, key=lambda run: (run.finished or "~", run.path.name))

    def holder(self, slug: str, key: str) -> Holder | None:
        """The living process that runs `key`, or None."""
        holder = _read_holder(self._lock_path(slug, key).with_suffix(".holder"))
        if holder is None or not holder.alive():
            return None
        lock = self._lock(slug, key)
        if lock is None:
            return holder
        lock.release()
        return None

    def partials(self, slug: str, key: str) -> list[Path]:
        """Unpublished folders of `key`."""
        return sorted((self.root / slug).glob(f"{_PARTIAL}{key[:16]}-*"))

    def progress(self, slug: str, key: str) -> tuple[int, int]:
        """Cells begun and cells in all of the run of `key` now under way; (0, 0) when none is."""
        for partial in self.partials(slug, key):
            with suppress(OSError, ValueError, KeyError):
                progress = json.loads((partial / WORK / PROGRESS).read_text(encoding="utf-8"))
                return progress["cell"], progress["cells"]
        return 0, 0

    @contextmanager
    def locked(self, slug: str, key: str) -> Iterator[bool]:
        """Holds the lock of `key` if nobody else does; yields whether it was free."""
        lock = self._lock(slug, key)
        if lock is None:
            yield False
            return
        note = self._lock_path(slug, key).with_suffix(".holder")
        try:
            with disk_full_is_clear(self.root):
                _write_holder(note)
            yield True
        finally:
            note.unlink(missing_ok=True)
            lock.release()

    def new_partial(self, slug: str, key: str) -> Path:
        """A fresh folder to build the run of `key` in. The caller holds the lock."""
        partial = tempfile.mkdtemp(prefix=f"{_PARTIAL}{key[:16]}-", dir=self.root / slug)
        path = Path(partial)
        path.chmod(0o755)
        (path / WORK).mkdir()
        return path

    def clean(self, slug: str, key: str) -> list[Path]:
        """Removes what interrupted runs of `key` left; returns it. The caller holds the lock."""
        removed = self.partials(slug, key)
        for partial in removed:
            remove_tree(partial)
        final, old = self.folder(slug, key), self._replaced(slug, key)
        if old.exists() and final.exists():
            remove_tree(old)
        elif old.exists():
            old.rename(final)
        return removed

    def publish(self, partial: Path, slug: str, key: str, status: dict[str, Any]) -> Run:
        """Seals `partial` with its status and moves it into place. The caller holds the lock.

        A better run of the key stays where it is; `partial` is then set aside, and that is what is returned.
        """
        remove_tree(partial / WORK)
        files = {name: _seal(partial / name) for name in _SEALED if (partial / name).exists()}
        for path in partial.iterdir():
            if path.is_file():
                sync(path)
        write_json(partial / STATUS, {**status, "slug": slug, "key": key, "files": files})
        sync(partial)
        final, old = self.folder(slug, key), self._replaced(slug, key)
        aside = final.with_name(f"{_ASIDE}{final.name}")
        remove_tree(aside)
        before = self.get(slug, key)
        if before and _WORTH[before.state] > _WORTH[status["state"]]:
            partial.rename(aside)
            return _read_run(aside, slug)
        if before:
            final.rename(old)
        partial.rename(final)
        sync(final.parent)
        remove_tree(old)
        return _read_run(final, slug)

    @contextmanager
    def batch_folder(self) -> Iterator[Path]:
        """A folder that lasts as long as a batch; what batches that died left of theirs is removed."""
        self._remove_dead_batches()
        self.root.mkdir(parents=True, exist_ok=True)
        with disk_full_is_clear(self.root):
            folder = Path(tempfile.mkdtemp(prefix=_BATCH, dir=self.root))
            try:
                _write_holder(folder / "holder.json")
                yield folder
            finally:
                remove_tree(folder)

    def _remove_dead_batches(self) -> list[Path]:
        dead = []
        for folder in self.root.glob(f"{_BATCH}*"):
            holder = _read_holder(folder / "holder.json")
            if holder is not None and not holder.alive():
                remove_tree(folder)
                dead.append(folder)
        return dead

    def prune(self, slugs: Sequence[str] = ()) -> Pruned:
        """Removes failed runs of `slugs` (none: of all), and what interrupted runs and dead batches left.

        What somebody is working on stays.
        """
        batches, failed, interrupted = self._remove_dead_batches(), list[Path](), list[Path]()
        for run in self.runs():
            if run.state not in ("failed", "interrupted") or (slugs and run.slug not in slugs):
                continue
            with self.locked(run.slug, run.key) as free:
                if free and run.path.name.startswith(_PARTIAL):
                    interrupted += self.clean(run.slug, run.key)
                elif free and _read_run(run.path, run.slug) == run:
                    remove_tree(run.path)
                    failed.append(run.path)
        for aside in sorted(self.root.glob(f"*/{_ASIDE}*")):
            slug, key = aside.parent.name, aside.name.removeprefix(_ASIDE)
            if slugs and slug not in slugs:
                continue
            with self.locked(slug, key) as free:
                if free:
                    remove_tree(aside)
                    failed.append(aside)
        return Pruned(tuple(failed), tuple(interrupted), tuple(batches))

    def _read_partial(self, path: Path, slug: str) -> Run:
        key = path.name.split("-")[1]
        holder = self.holder(slug, key)
        reason = f"being run by process {holder.pid}" if holder else "its process died before it was done"
        request: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            request = json.loads((path / WORK / "request.json").read_text(encoding="utf-8"))
        parameters = request.get("parameters", {})
        return Run(
            path=path,
            slug=slug,
            key=request.get("key", key),
            state="running" if holder else "interrupted",
            reason=reason,
            seconds=max(0.0, time.time() - path.stat().st_ctime) if holder and path.exists() else 0.0,
            profile=parameters.get("profile", ""),
            seed=parameters.get("seed", 0),
            parameters=parameters,
            metrics={},
            components=request.get("components", {}),
        )

    def _lock_path(self, slug: str, key: str) -> Path:
        return self.root / slug / ".locks" / f"{key[:16]}.lock"

    def _replaced(self, slug: str, key: str) -> Path:
        return self.root / slug / f".old-{key[:16]}"

    def _lock(self, slug: str, key: str) -> "FileLock | None":
        """The lock of `key`, acquired; None when someone else has it."""
        from filelock import FileLock, Timeout

        path = self._lock_path(slug, key)
        with disk_full_is_clear(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=0)
            try:
                lock.acquire()
            except Timeout:
                return None
        return lock


def _read_run(path: Path, slug: str) -> Run:
    """The published run in `path`; whatever is torn or altered makes it a failed one, never a result."""
    status: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    metrics: dict[str, Metric] = {}
    try:
        status = json.loads((path / STATUS).read_text(encoding="utf-8"))
        state, reason = status["state"], status["reason"]
        if state not in _WORTH:
            raise ValueError(f"{STATUS} has the unknown state {state!r}")
        for name, seal in status["files"].items():
            if _seal(path / name) != seal:
                raise ValueError(f"{name} is not what the run wrote")
        if PROVENANCE in status["files"]:
            provenance = json.loads((path / PROVENANCE).read_text(encoding="utf-8"))
        if state in ("ok", "incomplete"):
            metrics = read_metrics(path / METRICS)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        state, reason, metrics = "failed", f"torn: {_why(error)}", {}
    return Run(
        path=path,
        slug=slug,
        key=str(status.get("key", path.name)),
        state=state,
        reason=reason,
        seconds=float(status.get("seconds", 0.0)),
        profile=str(status.get("profile", "")),
        seed=int(status.get("seed", 0)),
        parameters=provenance.get("parameters", {}),
        metrics=metrics,
        components=provenance.get("components", {}),
        missing=tuple(status.get("missing", ())),
        finished=str(status.get("finished", "")),
    )


def read_metrics(path: Path) -> dict[str, Metric]:
    """The metrics in a metrics.json. Raises ValueError for a torn file or a value that is not finite."""
    entries = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    if not isinstance(entries, dict):
        raise ValueError(f"{path.name} holds no table of metrics")
    metrics = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("value"), bool | int | float):
            raise ValueError(f"{path.name}: {name} has no number")
        metrics[name] = Metric(name, entry["value"], str(entry.get("unit", "")), int(entry.get("seed", 0)))
    return metrics


def write_json(path: Path, value: object) -> None:
    """Writes `path` in one step and waits until it is on the disk."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)


def sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Removes a folder, even one in which a dying process still writes its last file."""
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.05)
    raise ReproError(f"cannot remove {path}; remove it by hand")


@contextmanager
def disk_full_is_clear(root: Path) -> Iterator[None]:
    """Turns "no space left" and "quota exceeded" inside the block into one clear `DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise disk_full(root) from error


def disk_full(root: Path) -> DiskFull:
    """The error to raise, with what is left on the disk of the runs."""
    place = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(place).free / 1e6
    return DiskFull(
        f"disk full: {free:.1f} MB are free where {root} lies. The unfinished run was removed; "
        "free some space (see './repro runs --prune') and give the same command again"
    )


def _read_holder(path: Path) -> Holder | None:
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        return Holder(int(entry["pid"]), float(entry["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_holder(path: Path) -> None:
    import psutil

    write_json(path, {"pid": os.getpid(), "started": psutil.Process().create_time()})


def _seal(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no finite number")


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(error.filename).name} is missing"
    return f"{STATUS} has no {error}" if isinstance(error, KeyError) else str(error)
