import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lib.engine import doctor
from lib.project import Project

PROJECT = Project(Path())


def test_examine_names_every_check_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("check_imports", "check_kernel"):
        monkeypatch.setattr(doctor, name, lambda project, name=name: doctor.Check(name, "ok", ""))
    names = [check.name for check in doctor.examine(Project(tmp_path))]
    assert len(names) == len(set(names)) == 9


def test_python_of_the_tests_is_allowed() -> None:
    assert doctor.check_python(PROJECT).state == "ok"


def test_python_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.10.2")
    check = doctor.check_python(PROJECT)
    assert (check.state, check.remedy[:12]) == ("failed", "use Python >")


@pytest.mark.parametrize(
    ("line", "state", "detail"),
    [
        ("pytest=={}", "ok", "all 1"),
        ("pytest==0.1", "warning", "locked: 0.1"),
        ("no-such-package==1.0", "failed", "missing: no-such-package 1.0"),
    ],
)
def test_packages_are_compared_with_the_lock(tmp_path: Path, line: str, state: str, detail: str) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"# a comment\n{line.format(pytest.__version__)}\n")
    check = doctor.check_packages(PROJECT, lock)
    assert check.state == state
    assert detail in check.detail


def test_local_part_of_a_version_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "2.13.0+cpu")
    (tmp_path / "lock").write_text("torch==2.13.0\n")
    assert doctor.check_packages(PROJECT, tmp_path / "lock").state == "ok"


def test_failing_import_is_told_by_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_IMPORTS", "raise RuntimeError('operator missing')")
    check = doctor.check_imports(PROJECT)
    assert (check.state, check.detail) == ("failed", "RuntimeError: operator missing")


def test_import_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(doctor.subprocess, "run", hang)
    assert doctor.check_imports(PROJECT).state == "failed"


def test_kernel_starts_here() -> None:
    assert doctor.check_kernel(PROJECT) == doctor.Check("notebook kernel", "ok", "starts and answers")


def test_kernel_that_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from jupyter_client import manager

    def refuse(**_: Any) -> None:
        raise RuntimeError("Kernel died before replying")

    monkeypatch.setattr(manager, "start_new_kernel", refuse)
    check = doctor.check_kernel(PROJECT)
    assert (check.state, check.detail) == ("failed", "RuntimeError: Kernel died before replying")


def test_little_disk_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=5e8))
    assert doctor.check_disk(PROJECT).state == "warning"


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder belongs")
    check = doctor.check_write_access(Project(tmp_path))
    assert check.state == "failed"
    assert "make" in check.remedy


def test_write_access_leaves_nothing_behind(tmp_path: Path) -> None:
    assert doctor.check_write_access(Project(tmp_path)).state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_damaged_sample(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.samples.mkdir(parents=True)
    (project.samples / "manifest.yaml").write_text("samples: 3\n")
    assert doctor.check_samples(project).state == "failed"


def test_compiler_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor.check_compiler(PROJECT).state == "warning"


@pytest.mark.parametrize(
    ("asked", "state"), [("", "ok"), ("1", "ok"), ("9999", "warning"), ("many", "warning")]
)
def test_threads(monkeypatch: pytest.MonkeyPatch, asked: str, state: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert doctor.check_threads(PROJECT).state == state


def test_module_imports_nothing_heavy() -> None:
    code = (
        "import sys, lib.engine.doctor; assert not {'torch', 'jupyter_client', 'pydantic'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
