"""What a run was made from: the key that identifies it, and the record of how and on what it was made.

The key covers what a notebook computes with, not the engine that runs and judges it, nor the prose of the
card. No user, host or home path is ever recorded.
"""

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.project import REPOSITORY, Project, user_folder
from lib.samples import sample_hashes

if TYPE_CHECKING:
    from lib.engine.cards import Card

COMPONENTS = ("notebook", "parameters", "source", "card", "data")
"""The parts of a key, in the order in which a change is reported."""

_SOURCES = (".py", ".yaml", ".csv", ".json", ".c", ".h")


class Fingerprints:
    """SHA-256 of each part that runs of a project depend on; what many runs share is read once."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._samples: dict[str, dict[str, str]] = {}
        self._listings: dict[str, str] = {}

    def components(self, card: "Card", parameters: Mapping[str, Any]) -> dict[str, str]:
        """The hashes of one run, by the names in `COMPONENTS`."""
        typed = {name: value for name, value in parameters.items() if name != "run_dir"}
        needs = {"data": list(card.data), "metrics": sorted(card.required_metrics(parameters["profile"]))}
        return {
            "notebook": _hash(code_cells(self._project.notebook(card.slug))),
            "parameters": _hash(typed),
            "source": self._source,
            "card": _hash(needs),
            "data": _hash([self.samples(card), self._listing(str(typed.get("data_root", "")))]),
        }

    def samples(self, card: "Card") -> dict[str, str]:
        """SHA-256 of the embedded samples that the card names."""
        if card.slug not in self._samples:
            self._samples[card.slug] = sample_hashes(self._project, card.data)
        return self._samples[card.slug]

    @functools.cached_property
    def _source(self) -> str:
        return source_hash()

    def _listing(self, data_root: str) -> str:
        if data_root not in self._listings:
            self._listings[data_root] = _hash(_listing(data_root))
        return self._listings[data_root]


def run_key(components: Mapping[str, str]) -> str:
    """The identity of a run: 64 hexadecimal digits."""
    return _hash({name: components[name] for name in COMPONENTS})


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Names of the components that differ."""
    return [name for name in COMPONENTS if old.get(name) != new.get(name)]


def code_cells(notebook: Path) -> list[str]:
    """The sources of a notebook's code cells that are not blank."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return [source for source in sources if source.strip()]


def source_hash() -> str:
    """SHA-256 of what notebooks compute with: hw_models, and lib without its engine and command line."""
    root = REPOSITORY.root
    outside = {root / "lib" / "engine", root / "lib" / "__main__.py"}
    digest = hashlib.sha256()
    for folder in ("lib", "hw_models"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in _SOURCES and outside.isdisjoint((path, *path.parents)) and path.is_file():
                digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def describe(threads: int, device: str) -> dict[str, Any]:
    """The software and machine of a run, for provenance.json."""
    return {
        "git": git_state(REPOSITORY.root),
        "python": platform.python_version(),
        "packages": dict(installed_packages()),
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "architecture": platform.machine(),
            "processor": _processor(),
            "logical_cpus": os.cpu_count(),
            "memory_bytes": _memory_bytes(),
            "accelerators": _accelerators() if device.startswith(("cuda", "auto")) else [],
        },
        "threads": threads,
    }


def git_state(root: Path) -> dict[str, str | None]:
    """Commit of the checkout and the hash of what differs from it (None each where there is no git)."""
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    difference = _output("git", "-C", str(root), "diff", "HEAD", "--binary")
    untracked = _output("git", "-C", str(root), "ls-files", "--others", "--exclude-standard")
    dirty = f"{difference}{untracked}"
    return {"commit": commit.strip(), "dirty": _hash(dirty)[:16] if dirty else None}


@functools.cache
def installed_packages() -> tuple[tuple[str, str], ...]:
    """Name and version of every installed distribution, sorted."""
    found = {
        item.metadata["Name"]: item.version for item in metadata.distributions() if item.metadata["Name"]
    }
    return tuple(sorted(found.items(), key=lambda pair: pair[0].lower()))


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _listing(data_root: str) -> list[tuple[str, int]]:
    """Relative name and size of every file under the user's data folder; nothing where none is given."""
    if not data_root:
        return []
    root = user_folder(data_root)
    found = []
    for folder, _, files in os.walk(root):
        for name in files:
            path = Path(folder, name)
            found.append((path.relative_to(root).as_posix(), path.stat().st_size))
    return sorted(found)


def _output(*command: str) -> str | None:
    """What a command prints; None when it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)
    return done.stdout if done.returncode == 0 else None


def _accelerators() -> list[str]:
    names = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return names.splitlines() if names else []


def _processor() -> str:
    if sys.platform == "darwin":
        return (_output("sysctl", "-n", "machdep.cpu.brand_string") or "").strip()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)
