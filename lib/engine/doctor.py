"""Is this installation sound? One check after another, each with what was found and what to do about it."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from lib.project import REPOSITORY, Project

State = Literal["ok", "warning", "failed"]

LEAST_FREE_GB = 2.0
KERNEL_SECONDS = 60
IMPORT_SECONDS = 180
_REINSTALL = "run `rm -rf .venv` and ./repro again (conda: pip install -r requirements.lock)"
_IMPORTS = """
from lib.lab.torchvision_ops import prepare_torchvision
prepare_torchvision()
import timm, torch
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
print(f"torch {torch.__version__}, timm {timm.__version__}, {gpu}")
"""


@dataclass(frozen=True)
class Check:
    """One finding; `remedy` is empty when there is nothing to do."""

    name: str
    state: State
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding as plain text fields, for JSON."""
        return asdict(self)


def examine(project: Project) -> Iterator[Check]:
    """Every check in turn, each when it is done: the later ones take seconds (imports, a kernel)."""
    checks: tuple[Callable[[Project], Check], ...] = (
        check_python,
        check_packages,
        check_disk,
        check_write_access,
        check_samples,
        check_compiler,
        check_threads,
        check_imports,
        check_kernel,
    )
    for check in checks:
        yield check(project)


def check_python(project: Project) -> Check:
    """Whether this Python is one that pyproject.toml allows, and where it is."""
    from packaging.specifiers import SpecifierSet

    wanted = tomllib.loads((REPOSITORY.root / "pyproject.toml").read_text())["project"]["requires-python"]
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.prefix}"
    if platform.python_version() in SpecifierSet(wanted, prereleases=True):
        return Check("python", "ok", found)
    return Check("python", "failed", found, f"use Python {wanted}")


def check_packages(project: Project, lock: Path | None = None) -> Check:
    """Whether every locked package is there at its locked version; a local part (+cpu) does not count."""
    lock = lock or REPOSITORY.root / "requirements.lock"
    missing, different = [], []
    pins = re.findall(r"^([\w.-]+)==(\S+)$", lock.read_text(), re.MULTILINE)
    for name, wanted in pins:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(f"{name} {wanted}")
            continue
        if found.partition("+")[0] != wanted:
            different.append(f"{name} {found} (locked: {wanted})")
    if missing:
        return Check("packages", "failed", f"missing: {', '.join(missing)}", _REINSTALL)
    if different:
        return Check("packages", "warning", f"other versions: {', '.join(different)}", _REINSTALL)
    return Check("packages", "ok", f"all {len(pins)} at their locked versions")


def check_imports(project: Project) -> Check:
    """Whether torch, torchvision and timm import; in another process, as a broken one may take it down."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _IMPORTS], capture_output=True, text=True, timeout=IMPORT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Check("torch and timm", "failed", f"no import within {IMPORT_SECONDS} s", _REINSTALL)
    if done.returncode == 0:
        return Check("torch and timm", "ok", done.stdout.strip())
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return Check("torch and timm", "failed", last, _REINSTALL)


def check_kernel(project: Project) -> Check:
    """Whether a notebook kernel starts in this environment and answers."""
    if importlib.util.find_spec("jupyter_client") is None:
        return Check("notebook kernel", "failed", "jupyter_client is missing", _REINSTALL)
    from jupyter_client.manager import start_new_kernel

    manager = client = None
    try:
        with tempfile.TemporaryDirectory() as folder:
            manager, client = start_new_kernel(
                startup_timeout=KERNEL_SECONDS, kernel_name="python3", cwd=folder, stderr=subprocess.DEVNULL
            )
            reply = client.execute_interactive(
                "1 + 1", timeout=KERNEL_SECONDS, output_hook=lambda message: None
            )
    except Exception as error:  # whatever stops a kernel is the finding
        return Check("notebook kernel", "failed", f"{type(error).__name__}: {error}", _REINSTALL)
    finally:
        if client is not None:
            client.stop_channels()
        if manager is not None:
            manager.shutdown_kernel(now=True)
    if reply["content"]["status"] != "ok":
        return Check("notebook kernel", "failed", "it cannot add 1 and 1", _REINSTALL)
    return Check("notebook kernel", "ok", "starts and answers")


def check_disk(project: Project) -> Check:
    """Whether there is room for runs."""
    free = shutil.disk_usage(project.root).free / 1e9
    if free >= LEAST_FREE_GB:
        return Check("disk", "ok", f"{free:.0f} GB free")
    return Check(
        "disk", "warning", f"{free:.1f} GB free", "free some space; `./repro runs --prune` clears failed runs"
    )


def check_write_access(project: Project) -> Check:
    """Whether runs, caches and the report can be written."""
    for folder in (project.runs, project.cache, project.site):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            return Check(
                "write access", "failed", f"{existing}: {error.strerror}", f"make {existing} writable"
            )
    return Check("write access", "ok", f"runs, caches and report can be written in {project.root}")


def check_samples(project: Project) -> Check:
    """Whether the embedded data are the bytes that the manifest names."""
    from lib.errors import ReproError
    from lib.samples import check_samples as check_files

    try:
        found = check_files(project)
    except ReproError as error:
        return Check("embedded data", "failed", str(error), "mend the manifest")
    wrong = [result for result in found if result.state != "ok"]
    if wrong:
        detail = "; ".join(f"{result.name} is {result.state} ({result.detail})" for result in wrong)
        return Check("embedded data", "failed", detail, "`./repro data check` says how to mend each")
    return Check("embedded data", "ok", f"{len(found)} samples, all with their SHA-256")


def check_compiler(project: Project) -> Check:
    """Whether there is a C compiler; only compiled sparse kernels need one."""
    found = shutil.which("gcc") or shutil.which("cc")
    if found:
        return Check("C compiler", "ok", found)
    return Check("C compiler", "warning", "none: compiled sparse kernels cannot be measured", "install gcc")


def check_threads(project: Project) -> Check:
    """Whether the number of threads that numeric libraries will use fits the cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked and (not asked.isdigit() or not 1 <= int(asked) <= cores):
        return Check(
            "threads", "warning", f"OMP_NUM_THREADS={asked} on {cores} cores", f"set it to 1-{cores}"
        )
    return Check("threads", "ok", f"{cores} cores, OMP_NUM_THREADS {asked or 'not set'}")
