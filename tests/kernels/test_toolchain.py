"""Compiling once, keeping by content, surviving damage and company; no access outside of arrays."""

import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lib.errors import ReproError
from lib.kernels.toolchain import NoCompiler, Toolchain, find_toolchain
from lib.project import REPOSITORY

SOURCE = "int answer(void) { return 42; }\n"


def test_a_library_is_compiled_once(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert toolchain.load(SOURCE, tmp_path).answer() == 42
    monkeypatch.setattr(Toolchain, "compile", lambda *_: pytest.fail("compiled again"))
    assert toolchain.load(SOURCE, tmp_path).answer() == 42
    assert [file.suffix for file in tmp_path.iterdir()] == [".so"]


def test_a_damaged_library_is_made_again(toolchain: Toolchain, tmp_path: Path) -> None:
    kept = tmp_path / f"{toolchain.key(SOURCE)}.so"
    for damage in (b"", b"not a library", os.urandom(5000)):
        kept.unlink(missing_ok=True)  # what this process has loaded must not change under it
        kept.write_bytes(damage)
        assert toolchain.load(SOURCE, tmp_path).answer() == 42


def test_the_key_tells_sources_flags_compilers_and_processors_apart(toolchain: Toolchain) -> None:
    others = (
        dataclasses.replace(toolchain, flags=(*toolchain.flags, "-g")),
        dataclasses.replace(toolchain, version="another"),
        dataclasses.replace(toolchain, macros=frozenset({"__OTHER__"})),
    )
    keys = {toolchain.key(SOURCE), toolchain.key(SOURCE + "\n"), *(other.key(SOURCE) for other in others)}
    assert len(keys) == 5


def test_several_may_compile_the_same_at_once(toolchain: Toolchain, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lib.kernels.toolchain import find_toolchain\n"
        f"sys.exit(find_toolchain().load({SOURCE!r}, Path({str(tmp_path)!r})).answer() != 42)"
    )

    def start(_: int) -> int:
        return subprocess.run(
            [sys.executable, "-c", code], env=_environment(), check=False, timeout=120
        ).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, range(4))) == [0] * 4
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_no_obstacle(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert toolchain.load(SOURCE, tmp_path / "missing").answer() == 42


def test_the_compilers_own_words_are_passed_on(toolchain: Toolchain, tmp_path: Path) -> None:
    with pytest.raises(ReproError, match="error"):
        toolchain.load("this is no C\n", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(NoCompiler, match=r"no-such-compiler is not on the PATH.*install gcc"):
        find_toolchain()


def test_a_compiler_that_does_not_work_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "fakecc"
    fake.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CC", str(fake))
    with pytest.raises(NoCompiler, match="broken"):
        find_toolchain()


BEGINNING = """
import dataclasses, itertools
import numpy as np, torch
from torch import nn
from lib.kernels.baseline import compile_csr
from lib.kernels.compiler import compile_matrix
from lib.kernels.layers import CompiledConv2d, CompiledGRU
from lib.kernels.loading import load_strips
from lib.kernels.pooling import CompiledMaxPool2d
from lib.kernels.strip_codegen import StripKernel
from lib.kernels.strips import pack_strips
from lib.kernels.toolchain import find_toolchain
found = find_toolchain()
flags = tuple(flag for flag in found.flags if flag != "-fopenmp")
# checks as calls, not written out: that compiles in a fifth of the time
calls = "--param=asan-instrumentation-with-call-threshold=0"
checked = dataclasses.replace(found, flags=(*flags, "-fsanitize=address", calls, "-g", "-O1"))
"""
EVERYTHING = """
rng = np.random.default_rng(0)
def pruned(rows, columns):
    return (rng.standard_normal((rows, columns)) * (rng.random((rows, columns)) < 0.2)).astype(np.float32)
shapes = [(1, 1), (5, 17), (33, 100), (8, 1600)]
for (rows, columns), precision in itertools.product(shapes, ["fp32", "int8"]):
    matrix = compile_matrix(pruned(rows, columns), precision=precision, toolchain=checked)
    for right in (1, 2, 15, 16, 64, 70):
        matrix.multiply(torch.ones(columns, right), bias=torch.ones(rows))
    for layout, vector in itertools.product(("plain", "paired", "single"), {16, 32, checked.vector_bytes}):
        kernel = StripKernel(vector, precision, layout)
        pack = pack_strips(np.rint(9 * pruned(rows, columns)), kernel)
        x, out = torch.ones(columns), torch.empty(rows)
        made = load_strips(pack, checked)
        assert made.function(made.matrix, x.data_ptr(), 1, out.data_ptr(), 1, 1, None, 0, 1) == 0
for size, options in itertools.product([5, 16, 23], [{"padding": 1}, {"stride": 2}, {"dilation": 2}]):
    CompiledConv2d(nn.Conv2d(3, 7, 3, **options), toolchain=checked)(torch.ones(2, 3, size, size))
    CompiledMaxPool2d(nn.MaxPool2d(3, 2, 1), checked)(torch.ones(2, 3, size, size + 1))
CompiledGRU(nn.GRU(5, 9), toolchain=checked)(torch.ones(3, 2, 5))
for x in (torch.ones(17), torch.ones(17, checked.vector_bytes)):
    compile_csr(torch.from_numpy(pruned(5, 17)), x, checked)()
"""
PLANTED = """
source = "#include <stdlib.h>\\nint beyond(int n) { volatile char *p = malloc(n); return p[n]; }"
checked.load(source).beyond(8)
"""


@pytest.mark.slow
@pytest.mark.parametrize("past", [False, True])
def test_no_access_outside_of_arrays(toolchain: Toolchain, past: bool) -> None:
    """All kernels under the address sanitizer; then it must also notice a planted access."""
    sanitizer = subprocess.run(
        [toolchain.path, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(sanitizer).is_file():
        pytest.skip(f"{toolchain.path} has no address sanitizer (libasan)")
    environment = _environment() | {
        "LD_PRELOAD": sanitizer,
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:exitcode=99",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + (PLANTED if past else EVERYTHING) + "print('went through')"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if past:
        assert "heap-buffer-overflow" in done.stderr
        assert "beyond" in done.stderr
    else:
        assert done.returncode == 0, done.stderr[-3000:]
        assert "went through" in done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY.root)}
