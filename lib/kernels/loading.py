"""Packed matrices as loaded C functions, and the structures that the generated sources read."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.kernels.bands import BandPack
from lib.kernels.codegen import band_source
from lib.kernels.strip_codegen import strip_source
from lib.kernels.strips import StripPack
from lib.kernels.toolchain import Toolchain


@dataclass(frozen=True, eq=False)
class Kernel:
    """A loaded product: the C function, its packed matrix, and what must live as long as they do."""

    function: Callable[..., int]
    matrix: int
    pack: BandPack | StripPack
    library: ctypes.CDLL
    owned: ctypes.Structure

    def prepared(self, columns: int, threads: int) -> tuple[Callable[..., int], int, ctypes.Structure]:
        """The product of so many columns, without bias and relu: a function of (the call's address, X, Y),
        that address, and the call, which must live as long."""
        call = _Call(self.matrix, columns, columns, columns, 0, 0, threads)
        function = self.library.short_call
        function.argtypes = [ctypes.c_void_p] * 3
        return function, ctypes.addressof(call), call


def fields(numbers: str, arrays: str) -> list[tuple[str, Any]]:
    """Fields of a C structure: 64-bit numbers, then pointers."""
    kinds = ((numbers, ctypes.c_int64), (arrays, ctypes.c_void_p))
    return [(name, kind) for names, kind in kinds for name in names.split()]


class _Call(ctypes.Structure):
    _fields_ = [*fields("matrix ldx ldy n bias", ""), ("relu", ctypes.c_int), ("threads", ctypes.c_int)]


class _BandArrays(ctypes.Structure):
    _fields_ = fields(
        "rows columns bands tiles widest shares idle_rows longest",
        "edge row count entry start column weight scale share idle used",
    )


class _StripArrays(ctypes.Structure):
    _fields_ = fields(
        "rows columns strips shares idle_rows room",
        "strip source gather row count entry chunk place weight scale share idle",
    )


PRODUCT = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
"""Arguments of every product: matrix, X, its stride, Y, its stride, columns; then bias, relu, threads."""


def load_bands(pack: BandPack, toolchain: Toolchain, *, convolves: bool = False) -> Kernel:
    """The compiled product of a matrix packed in bands, or convolution by it."""
    pointers = (
        *(pack.edges, pack.rows, pack.counts, pack.entries, pack.starts, pack.columns),
        *(pack.weights, pack.scales, pack.shares, pack.idle, pack.used),
    )
    arrays = _BandArrays(
        *pack.shape,
        pack.bands,
        pack.tiles,
        int(np.diff(pack.edges).max()),
        len(pack.shares) - 1,
        len(pack.idle),
        int(np.diff(pack.starts).max(initial=0)),
        *(array.ctypes.data for array in pointers),
    )
    library = toolchain.load(band_source(pack.kernel, convolves=convolves))
    if convolves:
        convolve = library.bands_convolve
        convolve.argtypes = (*[ctypes.c_void_p] * 4, ctypes.c_int64, ctypes.c_void_p, *[ctypes.c_int] * 2)
    function = convolve if convolves else _typed(library.bands_multiply)
    return Kernel(function, ctypes.addressof(arrays), pack, library, arrays)


def load_strips(pack: StripPack, toolchain: Toolchain) -> Kernel:
    """The compiled product of a matrix packed in strips."""
    pointers = (
        *(pack.strips, pack.sources, pack.gather, pack.rows, pack.counts, pack.entries),
        *(pack.chunks, pack.places, pack.weights, pack.scales, pack.shares, pack.idle),
    )
    arrays = _StripArrays(
        *pack.shape,
        len(pack.strips) - 1,
        len(pack.shares) - 1,
        len(pack.idle),
        int(np.diff(pack.sources).max(initial=0)),
        *(array.ctypes.data for array in pointers),
    )
    library = toolchain.load(strip_source(pack.kernel))
    return Kernel(_typed(library.strips_multiply), ctypes.addressof(arrays), pack, library, arrays)


def _typed(function: Any) -> Callable[..., int]:
    function.argtypes = (*PRODUCT, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    function.restype = ctypes.c_int
    return function
