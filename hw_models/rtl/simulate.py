"""Products and cycle counts of the engine, from a simulation of its registers."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw_models.errors import HardwareModelError
from hw_models.rtl import tools
from hw_models.rtl.structure import Tile, check_tile

LARGEST_DIMENSION = 2**16 - 1
SOURCES = ("gemm_engine.sv", "harness.cpp")


class BadOperands(HardwareModelError):
    """Operands that the engine cannot multiply."""


def build(tile: Tile, bits: int, folder: Path) -> Path:
    """The simulator of an engine with tile (inputs, outputs, heads) and operand bits, made in `folder`.

    A simulator that is already there and not older than its sources is returned as it is.
    """
    check_tile(tile, bits)
    place = folder / f"gemm_{'x'.join(map(str, tile))}_{bits}"
    binary = place / "simulator" / "Vgemm_engine"
    sources = [tools.rtl_folder() / name for name in SOURCES]
    if binary.exists() and binary.stat().st_mtime >= max(source.stat().st_mtime for source in sources):
        return binary
    command = tools.verilator()
    tools.require_compiler()
    # Make cannot stand spaces in a path: everything it sees is relative to the place.
    place.mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copy(source, place)
    values = dict(zip(("TI", "TO", "TH", "W"), (*tile, bits), strict=True))
    tools.run(
        [
            str(command),
            *("--cc", "--exe", "--build", "-j", "1", "-O3", "-Wno-fatal"),
            # Registers begin with noise, so that only what the reset and the controller set can matter.
            *("--x-assign", "unique", "--x-initial", "unique"),
            *(f"-G{name}={value}" for name, value in values.items()),
            *("-CFLAGS", " ".join(["-O2", *(f"-D{name}={value}" for name, value in values.items())])),
            *("--top-module", "gemm_engine", "--Mdir", "simulator", *SOURCES),
        ],
        place,
        drop=("VERILATOR_ROOT",),
    )
    return binary


def simulate(
    a: NDArray[np.integer], b: NDArray[np.integer], simulator: Path, noise: int = 1
) -> tuple[NDArray[np.int32], int]:
    """The product (batch, m, n) of a (batch, m, k) and b (batch, k, n), and the clock cycles the engine took.

    Sums wrap at 32 bits, as the accumulators do. A batch of one is an ordinary matrix product: its columns
    are split over the banks. Cycles are counted from the one after `start` was sampled to the one in which
    `done` rises. `noise` seeds what the registers hold before the reset.
    """
    if a.ndim != 3 or b.ndim != 3 or a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise BadOperands(f"expected shapes (batch, m, k) and (batch, k, n), got {a.shape} and {b.shape}")
    if a.dtype.kind not in "iu" or b.dtype.kind not in "iu":
        raise BadOperands(f"the engine multiplies integers, got {a.dtype} and {b.dtype}")
    (batch, m, k), n = a.shape, b.shape[2]
    if not all(1 <= size <= LARGEST_DIMENSION for size in (batch, m, k, n)):
        raise BadOperands(f"dimensions must be 1 to {LARGEST_DIMENSION}, got {(batch, m, k, n)}")
    problem = b"".join(
        (np.array([batch, m, k, n, batch == 1], "<u4").tobytes(), _words(a).tobytes(), _words(b).tobytes())
    )
    result = subprocess.run(
        [str(simulator), "+verilator+rand+reset+2", f"+verilator+seed+{noise}"],
        input=problem,
        capture_output=True,
    )
    if result.returncode:
        message = result.stderr.decode(errors="replace").strip()
        raise tools.ToolFailed(f"the simulated engine stopped with status {result.returncode}: {message}")
    cycles = int(np.frombuffer(result.stdout, "<u8", count=1)[0])
    product = np.frombuffer(result.stdout, "<i4", offset=8).reshape(batch, m, n)
    return product.astype(np.int32), cycles


def exact_product(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
    """The product (batch, m, n) that the engine must give, wrapped at 32 bits."""
    return (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)


def random_operands(
    batch: int, m: int, k: int, n: int, bits: int, generator: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Operands (batch, m, k) and (batch, k, n), uniform over all signed numbers of so many bits."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    return (
        generator.integers(low, high, (batch, m, k), dtype=np.int32),
        generator.integers(low, high, (batch, k, n), dtype=np.int32),
    )


def _words(operand: NDArray[np.integer]) -> NDArray[np.int32]:
    """The operand as 32-bit words, if it fits; the simulator checks the operand bits of its engine."""
    words = operand.astype("<i4")
    if not np.array_equal(words, operand):
        raise BadOperands("an operand does not fit in 32 bits")
    return words
