"""Each case runs in its own interpreter: what torchvision declares cannot be taken back within a process."""

import subprocess
import sys
from pathlib import Path

import pytest

FAKE_MISSING = """
import torch
torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: dets)
torch.library.register_fake("torchvision::qnms")(lambda dets, scores, iou_threshold: dets)
"""


def python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    lines = ["import sys", *(f"sys.path.insert(0, {str(folder)!r})" for folder in path), code]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=120
    )


def fake_torchvision(folder: Path, source: str) -> Path:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(source)
    return folder


PREPARE = "from lib.lab.torchvision_ops import prepare_torchvision as prepare\n"


def test_timm_imports_after_preparing() -> None:
    done = python(PREPARE + "prepare(); prepare(); import timm, torchvision.transforms")
    assert done.returncode == 0, done.stderr


def test_missing_operators_are_declared(tmp_path: Path) -> None:
    done = python(
        PREPARE + "prepare(); prepare(); import torchvision", fake_torchvision(tmp_path, FAKE_MISSING)
    )
    assert done.returncode == 0, done.stderr


def test_healthy_torchvision_is_left_alone(tmp_path: Path) -> None:
    code = PREPARE + "prepare(); import torch; assert not hasattr(torch.ops.torchvision, 'nms')"
    done = python(code, fake_torchvision(tmp_path, "healthy = True\n"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("failure", ["RuntimeError('out of luck')", "ImportError('no file')"])
def test_other_failures_are_not_hidden(tmp_path: Path, failure: str) -> None:
    done = python(PREPARE + "prepare()", fake_torchvision(tmp_path, f"raise {failure}\n"))
    assert done.returncode == 1
    assert failure.partition("'")[2].rstrip("')") in done.stderr


def test_importing_the_module_imports_nothing_heavy() -> None:
    done = python("import lib.lab.torchvision_ops; assert not {'torch', 'torchvision'} & set(sys.modules)")
    assert done.returncode == 0, done.stderr
