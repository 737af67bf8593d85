"""./repro with a stand-in for Python on PATH: nothing real is ever installed.

The stand-in "makes" an environment by copying itself, "installs" by leaving a mark, and writes every pip
call to calls.txt. What it should do wrong is said in environment variables.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from lib.project import REPOSITORY

STAND_IN = """#!/bin/sh
home=$(dirname "$0")/..
case "$*" in
    "-P -m venv"*)
        for folder; do :; done
        rm -rf "$folder"; mkdir -p "$folder/bin"
        cp "$0" "$folder/bin/python" ;;
    *"-m pip --version"*) exit "${FAKE_NO_PIP:-0}" ;;
    *"-m pip install"*)
        echo "$*" >>"$CALLS"
        sleep "${FAKE_SECONDS:-0}"
        if [ -n "${FAKE_PIP_ERROR:-}" ]; then echo "ERROR: $FAKE_PIP_ERROR"; exit 1; fi
        case "$*" in *--editable*) mkdir -p "$home/$PACKAGES/edgerepro-0.1.0.dist-info" ;; esac ;;
    *"import lib"*) PYTHONPATH=$(cat "$home/checkout") exec "$REAL" "$@" ;;
    *"-m lib"*) PYTHONPATH="$ROOT" exec "$REAL" "$@" ;;
    *ensurepip*) exit "${FAKE_SUITS:-0}" ;;
    *) exec "$REAL" "$@" ;;
esac
"""

PACKAGES = Path("lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")

MAIN = """
import os, sys
print(sys.argv[1:], os.getcwd(), sep="\\n")
raise SystemExit(int(os.environ.get("EXIT_WITH", "0")))
"""


@dataclass(frozen=True)
class Checkout:
    """A copy of what the launcher needs, in a folder whose name has a space."""

    root: Path
    commands: Path

    @property
    def calls(self) -> list[str]:
        """The pip calls so far; an installation makes two."""
        path = self.commands / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / "repro-stamp"

    def environment(self, **more: str) -> dict[str, str]:
        own = {
            "PATH": f"{self.commands}:/usr/bin:/bin",
            "CALLS": str(self.commands / "calls.txt"),
            "ROOT": str(self.root),
            "PACKAGES": str(PACKAGES),
            "REAL": sys.executable,
        }
        return dict(os.environ) | own | more

    def launch(
        self, *arguments: str, launcher: Path | None = None, cwd: Path | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        command = [str(launcher or self.root / "repro"), *arguments]
        return subprocess.run(
            command, cwd=cwd, env=self.environment(**more), capture_output=True, text=True, timeout=60
        )

    def start(self, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.root / "repro")],
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # a job started in the background of a script ignores Ctrl-C, and its children with it
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def provide(self, name: str, script: str) -> None:
        path = self.commands / name
        path.write_text(script)
        path.chmod(0o755)


@pytest.fixture(autouse=True)
def _no_active_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "a check out", tmp_path / "commands")
    made.commands.mkdir()
    (made.root / "lib").mkdir(parents=True)
    (made.root / "lib" / "__init__.py").touch()
    (made.root / "lib" / "__main__.py").write_text(MAIN)
    for name in ("repro", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY.root / name, made.root / name)
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14", "python"):
        made.provide(name, STAND_IN)
    made.provide("df", disk(free_gigabytes=50))
    return made


def disk(free_gigabytes: int) -> str:
    return f"#!/bin/sh\necho Filesystem\necho /dev/with a space 99 9 {free_gigabytes * 2**20} 9% /\n"


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def asleep(launcher: int) -> bool:
    """Whether the stand-in for pip sleeps: the shell that it is forgets a signal that comes just before."""
    try:
        return any(child.name() == "sleep" for child in psutil.Process(launcher).children(recursive=True))
    except psutil.NoSuchProcess:  # one ended between being listed and being asked
        return False


def test_first_use_installs_then_runs(checkout: Checkout) -> None:
    done = checkout.launch("list")
    assert done.returncode == 0, done.stderr
    assert "-r" in checkout.calls[0]
    assert "--editable" in checkout.calls[1]
    assert [line[:10] for line in done.stderr.splitlines()] == [
        "repro: 1/3",
        "repro: 2/3",
        "repro: 3/3",
        "repro: rea",
    ]


def test_second_use_says_and_installs_nothing(checkout: Checkout) -> None:
    checkout.launch()
    done = checkout.launch()
    assert (done.stderr, len(checkout.calls)) == ("", 2)


def test_launcher_keeps_off_standard_output(checkout: Checkout) -> None:
    assert checkout.launch("list", "--json").stdout.splitlines()[0] == "['list', '--json']"


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_changed_pins_are_installed_into_the_same_environment(checkout: Checkout, name: str) -> None:
    checkout.launch()
    mine = checkout.root / ".venv" / "mine"
    mine.touch()
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")
    checkout.launch()
    assert (len(checkout.calls), mine.exists()) == (4, True)


def test_interrupted_installation_starts_afresh(checkout: Checkout) -> None:
    first = checkout.start(FAKE_SECONDS="60")
    wait_for(lambda: checkout.calls)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    debris = checkout.root / ".venv" / "half a package"
    debris.touch()
    done = checkout.launch()
    assert (done.returncode, debris.exists()) == (0, False)


def test_ctrl_c_says_how_it_goes_on(checkout: Checkout) -> None:
    first = checkout.start(FAKE_SECONDS="60")
    wait_for(lambda: asleep(first.pid))
    os.killpg(first.pid, signal.SIGINT)
    _, said = first.communicate(timeout=30)
    assert first.returncode == 130
    assert "the next ./repro starts the installation again" in said


def test_failed_installation_is_not_taken_for_a_good_one(checkout: Checkout) -> None:
    checkout.launch(FAKE_PIP_ERROR="anything")
    assert checkout.launch().returncode == 0
    assert len(checkout.calls) == 3


def test_environment_without_its_python_is_made_again(checkout: Checkout) -> None:
    checkout.launch()
    (checkout.root / ".venv" / "bin" / "python").unlink()
    assert checkout.launch().returncode == 0
    assert len(checkout.calls) == 4


def test_environment_that_lost_the_project_is_mended(checkout: Checkout) -> None:
    checkout.launch()
    shutil.rmtree(checkout.root / ".venv" / PACKAGES)
    assert checkout.launch().returncode == 0
    assert len(checkout.calls) == 4


def test_environment_whose_python_became_another_version_is_mended(checkout: Checkout) -> None:
    checkout.launch()
    packages = checkout.root / ".venv" / PACKAGES
    packages.parent.rename(packages.parent.with_name("python3.9"))
    assert checkout.launch().returncode == 0
    assert len(checkout.calls) == 4


def test_moved_checkout_gets_a_new_environment(checkout: Checkout) -> None:
    checkout.launch()
    (checkout.root / ".venv" / "old").touch()
    moved = Checkout(checkout.root.rename(checkout.root.with_name("moved")), checkout.commands)
    assert moved.launch().returncode == 0
    assert not (moved.root / ".venv" / "old").exists()


def test_environment_of_the_users_own_is_kept(checkout: Checkout) -> None:
    checkout.launch()
    checkout.stamp.unlink()
    mine = checkout.root / ".venv" / "mine"
    mine.touch()
    checkout.launch()
    assert (len(checkout.calls), mine.exists()) == (4, True)


def test_environment_behind_a_link_is_not_emptied(checkout: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    (checkout.root / ".venv").symlink_to(elsewhere)
    answer = checkout.launch()
    assert answer.returncode == 1
    assert "symbolic link" in answer.stderr
    assert (elsewhere / "precious").exists()


def test_two_launchers_install_once(checkout: Checkout) -> None:
    first = checkout.start(FAKE_SECONDS="0.5")
    wait_for(lambda: checkout.calls)
    second = checkout.launch()
    first.communicate(timeout=30)
    assert (first.returncode, second.returncode, len(checkout.calls)) == (0, 0, 2)
    assert "another launcher is installing" in second.stderr


def test_arguments_and_exit_code_pass_untouched(checkout: Checkout) -> None:
    arguments = ["run", "-p", "name=a  b", "", "*", "it's", "$HOME", "--", "\\n"]
    done = checkout.launch(*arguments, EXIT_WITH="7")
    assert (done.returncode, done.stdout.splitlines()[0]) == (7, repr(arguments))


def test_working_directory_stays_the_users(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__main__.py").write_text("print('the wrong lib')")
    assert checkout.launch(cwd=tmp_path).stdout.splitlines() == ["[]", str(tmp_path)]


def test_modules_in_the_working_directory_are_never_imported(checkout: Checkout, tmp_path: Path) -> None:
    (checkout.root / "lib" / "__main__.py").write_text("import json, rich; print(rich.__file__)")
    for name in ("rich", "json", "lib", "pip", "venv"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the working directory')")
    done = checkout.launch(cwd=tmp_path)
    assert (done.returncode, "site-packages" in done.stdout) == (0, True), done.stderr
    assert all(call.startswith("-P -m pip") for call in checkout.calls)


def test_works_through_symbolic_links(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(checkout.root / "repro")
    (tmp_path / "two").symlink_to("one")
    assert checkout.launch(launcher=tmp_path / "two").returncode == 0
    assert checkout.stamp.exists()


def make_environment(prefix: Path, holds: Path) -> None:
    """An environment in which the project at `holds` is installed in editable mode."""
    (prefix / PACKAGES / "edgerepro-0.1.0.dist-info").mkdir(parents=True)
    (prefix / "checkout").write_text(str(holds))
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").write_text(STAND_IN)
    (prefix / "bin" / "python").chmod(0o755)


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_active_environment_with_this_checkout_is_used(
    checkout: Checkout, tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_environment(tmp_path / "active", holds=checkout.root)
    monkeypatch.setenv(variable, str(tmp_path / "active"))
    done = checkout.launch("list")
    assert (done.returncode, checkout.calls) == (0, [])


def test_active_environment_with_another_checkout_is_not_used(checkout: Checkout, tmp_path: Path) -> None:
    shutil.copytree(checkout.root / "lib", tmp_path / "another" / "lib")
    make_environment(tmp_path / "active", holds=tmp_path / "another")
    checkout.launch(VIRTUAL_ENV=str(tmp_path / "active"))
    assert len(checkout.calls) == 2


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one line with which the launcher gave up; nothing must have been run."""
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.splitlines()[-1]


def test_no_suitable_python(checkout: Checkout) -> None:
    said = sentence(checkout.launch(FAKE_SUITS="1"))
    assert "no Python 3.11 to 3.14" in said
    assert "install one" in said


def test_no_venv_module(checkout: Checkout) -> None:
    assert "apt install python3-venv" in sentence(checkout.launch(FAKE_SUITS="2"))


def test_later_python_is_taken_where_the_first_does_not_suit(checkout: Checkout) -> None:
    checkout.provide("python3", "#!/bin/sh\nexit 1\n")
    assert "python3.13" in checkout.launch().stderr


def test_no_disk_space_beforehand(checkout: Checkout) -> None:
    checkout.provide("df", disk(free_gigabytes=1))
    assert "not enough disk space" in sentence(checkout.launch())
    assert not (checkout.root / ".venv").exists()


def test_no_disk_space_meanwhile(checkout: Checkout) -> None:
    done = checkout.launch(FAKE_PIP_ERROR="Could not install: [Errno 28] No space left on device")
    assert "not enough disk space" in sentence(done)


@pytest.mark.parametrize(
    "error",
    [
        "NewConnectionError('[Errno -3] Temporary failure in name resolution')",
        "ConnectTimeoutError(host, 'timed out')",
        "Cannot connect to proxy. ProxyError('Tunnel failed')",
    ],
)
def test_no_network(checkout: Checkout, error: str) -> None:
    said = sentence(checkout.launch(FAKE_PIP_ERROR=error))
    assert "check the network" in said


def test_other_failures_name_the_log(checkout: Checkout) -> None:
    said = sentence(checkout.launch(FAKE_PIP_ERROR="No matching distribution found for torch"))
    log = checkout.root / ".venv" / "install.log"
    assert f"see {log}" in said
    assert "(ERROR: No matching distribution found for torch)" in said


def test_folder_that_cannot_be_written(checkout: Checkout) -> None:
    (checkout.root / ".venv.lock").mkdir()  # even root cannot append to a folder
    assert "make the folder writable" in sentence(checkout.launch())
