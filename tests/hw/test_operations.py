"""The table of operations, and what the package as a whole may depend on."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hw_models
from hw_models import operations
from hw_models.operations import FREE, OVERWRITING, SELECTING, SHAPES, kind_of
from hw_models.workload import KINDS
from lib.lab.torchvision_ops import prepare_torchvision

PACKAGE = Path(hw_models.__file__).parent


def test_listed_operations_exist_in_torch() -> None:
    listed = {*operations._KIND_OF, *FREE, *SELECTING, *OVERWRITING, *SHAPES}
    aten = torch.ops.aten
    assert [name for name in sorted(listed) if not (hasattr(aten, name) or hasattr(aten, f"{name}_"))] == []


def test_every_operation_is_listed_once() -> None:
    words = [*" ".join(operations._LISTED.values()).split(), *FREE, *SHAPES]
    assert sorted(words) == sorted(set(words))


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        (torch.ops.aten.gelu.default, "elementwise"),
        (torch.ops.aten.add_.Tensor, "elementwise"),
        (torch.ops.aten.native_layer_norm.default, "normalisation"),
        (torch.ops.aten.mean.dim, "reduction"),
        (torch.ops.aten.clone.default, "memory"),
        (torch.ops.aten._fft_r2c.default, "uncounted"),
        (torch.ops.aten.convolution_backward.default, "uncounted"),
    ],
)
def test_kind_of_operation(operation: object, kind: str) -> None:
    assert kind in KINDS
    assert kind_of(operation) == kind


def test_package_stands_alone() -> None:
    imported = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
    assert imported - sys.stdlib_module_names == {"hw_models", "numpy", "pydantic", "scipy", "torch", "yaml"}


def test_devices_can_be_read_without_loading_torch() -> None:
    code = "import sys, hw_models; hw_models.load_device('zcu102'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    prepare_torchvision()  # the example takes a network from timm
    example = (PACKAGE / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "GMAC" in printed
    assert "adreno_640" in printed
    assert "mJ from power" in printed
    assert "8-bit fixed" in printed
