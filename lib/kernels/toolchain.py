"""From C source to a loaded library: finds the compiler, compiles once, keeps the result by its content.

The key of a library is the hash of its source, the compiler's name and version, the flags, and everything
that `-march=native` stands for on this processor (the compiler's predefined macros). Libraries lie in
data/cache/kernels, each followed by its own SHA-256, and are published by rename: processes that compile
the same source at once write the same file, and a damaged file is noticed and made again.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lib.errors import ReproError
from lib.project import REPOSITORY

COMPILERS = ("gcc", "cc", "clang")
FLAGS = (
    "-O3",
    "-std=gnu11",
    "-fPIC",
    "-shared",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
)
DIGEST = 32
"""Bytes of the SHA-256 that follows the library in its file: loaders ignore what follows an ELF or Mach-O
image."""


class NoCompiler(ReproError):
    """No C compiler that works was found; `compile_matrix` then falls back to scipy."""


@dataclass(frozen=True)
class Toolchain:
    """A C compiler with the flags it is called with, and the macros that tell which processor it compiles
    for."""

    path: str
    version: str
    flags: tuple[str, ...]
    macros: frozenset[str]

    @property
    def vector_bytes(self) -> int:
        """Width of a vector register of the target, in bytes."""
        if "__AVX512F__" in self.macros:
            return 64
        return 32 if "__AVX__" in self.macros else 16

    @property
    def registers(self) -> int:
        """Vector registers of the target."""
        wide = self.macros & {"__AVX512F__", "__aarch64__"}
        return 32 if wide else 16

    @property
    def multiplies_words(self) -> bool:
        """Whether the target multiplies pairs of 16-bit integers in vectors of 64 bytes."""
        return self.macros >= {"__AVX512F__", "__AVX512BW__"}

    @property
    def parallel(self) -> bool:
        """Whether the compiler was found to have OpenMP; without it two threads run as one."""
        return "-fopenmp" in self.flags

    def key(self, source: str) -> str:
        """Hash of all that decides what the compiled library contains."""
        parts = (source, self.path, self.version, *self.flags, *sorted(self.macros))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]

    def compile(self, source: str, target: Path) -> None:
        """Compile `source` into the shared library `target`. Raises ReproError with the compiler's own
        words."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernel.c"
            file.write_text(source, encoding="utf-8")
            done = _run(self.path, *self.flags, str(file), "-o", str(target), "-lm")
        if done.returncode:
            raise ReproError(f"{self.path} cannot compile a generated kernel:\n{done.stderr[-2000:]}")

    def load(self, source: str, folder: Path | None = None) -> ctypes.CDLL:
        """The library made from `source`: from `folder` if it lies there whole, else compiled into it first.

        A folder that cannot be written is replaced by a temporary one, for this process alone."""
        folder = folder or REPOSITORY.cache / "kernels"
        kept = folder / f"{self.key(source)}.so"
        if _whole(kept):
            return ctypes.CDLL(str(kept))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return ctypes.CDLL(str(self._publish(source, kept)))
        except PermissionError:
            with tempfile.TemporaryDirectory() as private:  # a loaded library outlives its file
                return ctypes.CDLL(str(self._publish(source, Path(private) / kept.name)))

    def _publish(self, source: str, kept: Path) -> Path:
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".partial-") as folder:
            made = Path(folder) / kept.name
            self.compile(source, made)
            content = made.read_bytes()
            with made.open("ab") as file:
                file.write(hashlib.sha256(content).digest())
                file.flush()
                os.fsync(file.fileno())
            made.replace(kept)
        return kept


def _whole(file: Path) -> bool:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return False
    return len(content) > DIGEST and hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def find_toolchain(target: tuple[str, ...] = ("-march=native",)) -> Toolchain:
    """The C compiler named by $CC, or the first of gcc, cc and clang; asked once a process.

    `target` are the flags that choose the processor. Raises NoCompiler, with what to install."""
    return _find(os.environ.get("CC", ""), os.environ.get("PATH", ""), target)


@cache
def _find(named: str, path: str, target: tuple[str, ...]) -> Toolchain:
    problems = []
    for name in (named,) if named else COMPILERS:
        place = shutil.which(name, path=path)
        if place is None:
            problems.append(f"{name} is not on the PATH")
            continue
        try:
            return _probe(place, target)
        except (OSError, subprocess.SubprocessError, ReproError) as error:
            problems.append(f"{place}: {error}")
    raise NoCompiler(
        f"no C compiler for pruned layers ({'; '.join(problems)}): install gcc "
        "(Debian: apt install gcc libc6-dev; macOS: xcode-select --install) or name one in $CC"
    )


def _probe(place: str, target: tuple[str, ...]) -> Toolchain:
    """What `place` compiles for, tried out on an empty function."""
    told = _run(place, *target, "-dM", "-E", "-x", "c", os.devnull)
    if told.returncode:
        raise ReproError(told.stderr.strip()[-300:])
    macros = frozenset(line.split()[1] for line in told.stdout.splitlines() if line.count(" ") >= 2)
    version = _run(place, "--version").stdout.splitlines()[0]
    wide = ("-mprefer-vector-width=512",) if "__AVX512F__" in macros else ()
    problem = ""
    for parallel in (("-fopenmp",), ()):
        toolchain = Toolchain(place, version, (*FLAGS, *target, *wide, *parallel), macros)
        with tempfile.TemporaryDirectory() as folder:
            try:
                toolchain.compile(
                    "#include <stdlib.h>\nint main_is_there(void) { return 1; }\n", Path(folder) / "a.so"
                )
                return toolchain
            except ReproError as error:
                problem = str(error)
    raise ReproError(problem)
