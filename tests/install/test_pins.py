"""pyproject.toml, requirements.lock and environment.yml name the same versions."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib.project import REPOSITORY

ROOT = REPOSITORY.root
LOCKED_ON = {
    "extra": "",
    "os_name": "posix",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "python_version": "3.11",
}
PIN = re.compile(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)")


def pins(lines: list[str]) -> dict[str, str]:
    """Name to version; anything but `name==version`, in its normal spelling, is an error."""
    found: dict[str, str] = {}
    for line in lines:
        match = PIN.fullmatch(line)
        assert match, f"{line!r} is not a plain pin"
        assert match[1] not in found, f"{match[1]} is pinned twice"
        found[match[1]] = match[2]
    return found


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return pins([line for line in lines if not line.startswith("#")])


def declared() -> dict[str, str]:
    return pins(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])


def conda_pip_section() -> list[str]:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (section,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return section


def test_lock_holds_every_declared_pin() -> None:
    lock = locked()
    assert {name: lock.get(name) for name in declared()} == declared()


def test_conda_pins_equal_the_declared_ones() -> None:
    section = conda_pip_section()
    assert {"-c requirements.lock", "-e ."} <= set(section)
    assert pins([line for line in section if not line.startswith("-")]) == declared()


def test_mission_packages_are_declared() -> None:
    assert {"jupyterlab", "papermill", "torch", "timm", "pennylane", "pytest"} <= declared().keys()


def test_lock_is_closed() -> None:
    """Whatever a locked package requires is locked too, at a version that satisfies it."""
    lock = locked()
    for name in lock:
        try:
            wanted = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue  # another platform's package, or an environment that ./repro did not make
        for requirement in wanted:
            other = canonicalize_name(requirement.name)
            if brought_by_cuda(other) or not (
                requirement.marker is None or requirement.marker.evaluate(LOCKED_ON)
            ):
                continue
            assert other in lock, f"{name} requires {requirement}"
            assert requirement.specifier.contains(lock[other], prereleases=True), f"{name}: {requirement}"


def brought_by_cuda(name: str) -> bool:
    """A CUDA build of torch names the exact versions of these itself, so pip needs no pin of ours."""
    return name.startswith(("nvidia-", "cuda-", "triton"))
