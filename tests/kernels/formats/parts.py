"""Sparse matrices for the tests of storage formats, and every format's encoder."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.kernels.formats.bcrc import Bcrc
from lib.kernels.formats.bspc import Bspc
from lib.kernels.formats.checks import Format
from lib.kernels.formats.csb import Csb
from lib.kernels.formats.csr import Csr
from lib.kernels.formats.darb import Darb
from lib.kernels.formats.relative import Relative

ENCODERS: dict[str, Callable[[NDArray[np.float32]], Format]] = {
    "csr": Csr.encode,
    "relative": Relative.encode,
    "relative, 2 bits": lambda weight: Relative.encode(weight, field_bits=2),
    "bspc": Bspc.encode,
    "bcrc": Bcrc.encode,
    "csb 3 x 4": lambda weight: Csb.encode(weight, block=(3, 4)),
    "csb 1 x 1": lambda weight: Csb.encode(weight, block=(1, 1)),
    "csb 64 x 64": lambda weight: Csb.encode(weight, block=(64, 64)),
    "darb": lambda weight: Darb.encode(weight, block_size=np.ones(len(weight), dtype=np.int32)),
}


def sparse(rows: int, columns: int, density: float = 0.3, seed: int = 0) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((rows, columns)).astype(np.float32)
    weight[generator.random((rows, columns)) >= density] = 0
    return weight


def matrix(rows: list[list[float]]) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


def ints(*values: int) -> NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def corruptions(array: NDArray[Any], top: int | None) -> dict[str, Any]:
    """What may be wrong with any array of a format; `top` is the first index out of range."""
    last = array.copy()
    wrong: dict[str, Any] = {
        "a list": array.tolist(),
        "nothing": None,
        "64 bits": array.astype(np.float64 if array.dtype == np.float32 else np.int64),
        "the other kind": array.astype(np.int32 if array.dtype == np.float32 else np.float32),
        "two-dimensional": array[None],
        "no dimension": array.dtype.type(0),
        "a scalar array": np.zeros((), dtype=array.dtype),
        "one entry short": array[:-1].copy(),
        "one entry long": np.append(array, array[-1:]),
        "every second": np.repeat(array, 2)[::2],
        "empty": array[:0].copy(),
        "masked": np.ma.masked_array(array, mask=np.arange(len(array)) == len(array) - 1),
    }
    if array.dtype == np.float32:
        for value in (np.nan, np.inf):
            wrong[str(value)] = np.where(np.arange(len(array)) == len(array) - 1, np.float32(value), array)
    else:
        last[-1] = -1
        wrong["negative"] = last
        wrong["far too large"] = np.full_like(array, np.iinfo(np.int32).max)
        wrong["far too small"] = np.full_like(array, np.iinfo(np.int32).min)
        if top is not None:
            wrong["just out of range"] = np.append(array[:-1], np.int32(top))
    return wrong
