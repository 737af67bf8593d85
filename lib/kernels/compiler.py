"""The compiler for pruned matrices: looks at the zeros, chooses kernels, packs weights for them, multiplies.

`compile_matrix` works from the pattern that is there (blocks, strips, rows, columns, single weights):
there is nothing to declare. One column of input goes through strips (`lib.kernels.strips`), several
through bands (`lib.kernels.bands`). Which layout is taken is estimated from counts of loads and
multiply-adds, never timed, so that it is the same everywhere. A layout is packed, and its kernel compiled,
when it is first needed. Without a C compiler scipy's CSR product stands in.
"""

import ctypes
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from lib.errors import WrongUse
from lib.kernels.bands import BandPack, Floats, pack_bands
from lib.kernels.codegen import BandKernel, band_source, check_precision
from lib.kernels.errors import KernelError
from lib.kernels.strip_codegen import StripKernel, strip_source
from lib.kernels.strips import StripPack, pack_strips
from lib.kernels.toolchain import NoCompiler, Toolchain, find_toolchain

SHARES = 8
"""Parts of equal work into which rows are cut; threads take whole parts."""
STRIP_CYCLES = {"plain": 3.2, "paired": 5.0, "single": 1.25, "gathered": 4.0}
"""Cycles an entry, measured on one AVX-512 processor: used to rank layouts, nothing else."""


class FallbackWarning(UserWarning):
    """Pruned layers run without generated code."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A loaded product: the C function, its packed matrix, and what must live as long as they do."""

    function: Callable[..., int]
    matrix: int
    pack: BandPack | StripPack
    library: ctypes.CDLL
    owned: ctypes.Structure

    def __call__(self, *arguments: object) -> None:
        """Call `*_multiply(matrix, *arguments)`. Raises MemoryError."""
        if self.function(self.matrix, *arguments):
            raise MemoryError("no memory for the working space of a pruned product")


def fields(numbers: str, arrays: str) -> list[tuple[str, Any]]:
    """Fields of a C structure: 64-bit numbers, then pointers."""
    kinds = ((numbers, ctypes.c_int64), (arrays, ctypes.c_void_p))
    return [(name, kind) for names, kind in kinds for name in names.split()]


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


def load_bands(pack: BandPack, toolchain: Toolchain) -> Kernel:
    """The compiled product of a matrix packed in bands."""
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
    library = toolchain.load(band_source(pack.kernel))
    return Kernel(_typed(library.bands_multiply), ctypes.addressof(arrays), pack, library, arrays)


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


class CompiledMatrix:
    """A pruned matrix (P, Q) as compiled code; made by `compile_matrix`. For inference: nothing is
    recorded for autograd.

    `weight` is the matrix that products use, (P, Q) float32: with int8 what the rounded weights stand for."""

    def __init__(
        self,
        weight: Floats,
        precision: str,
        threads: int,
        block: tuple[int, int] | None,
        toolchain: Toolchain | None,
    ) -> None:
        self.precision, self.threads, self.block, self.toolchain = precision, threads, block, toolchain
        self.shape = weight.shape
        self._scales: Floats | None = None
        self._values = weight
        if precision == "int8":
            top = np.abs(weight).max(axis=1)
            self._scales = np.where(top > 0, top / np.float32(127), np.float32(1)).astype(np.float32)
            self._values = np.rint(weight / self._scales[:, None]).clip(-127, 127)

    @property
    def weight(self) -> Floats:
        return self._values if self._scales is None else self._values * self._scales[:, None]

    @property
    def is_fallback(self) -> bool:
        """Whether scipy stands in for generated code."""
        return self.toolchain is None

    @cached_property
    def nonzeros(self) -> int:
        """Weights that are not zero."""
        return int(np.count_nonzero(self._values))

    @property
    def index_bytes(self) -> int:
        """Bytes stored beside the weights for products with several columns (the fallback's for its CSR
        arrays)."""
        if self.is_fallback:
            return self._csr.indptr.nbytes + self._csr.indices.nbytes
        return self.bands.pack.index_bytes

    @cached_property
    def bands(self) -> Kernel:
        """The product with several columns."""
        toolchain = self._compiler()
        heights = (4, 5, 6) if toolchain.registers == 32 else (2, 3)
        vectors = 4 if toolchain.registers == 32 else 3
        kernels = (BandKernel(height, vectors, toolchain.vector_bytes, self.precision) for height in heights)
        packs = [pack_bands(self._values, kernel, scales=self._scales, shares=SHARES) for kernel in kernels]
        return load_bands(min(packs, key=lambda pack: len(pack.columns)), toolchain)

    @cached_property
    def strips(self) -> Kernel:
        """The product with one column."""
        return load_strips(min(self._strip_packs(), key=strip_cycles), self._compiler())

    def _strip_packs(self) -> list[StripPack]:
        """The layouts for one column that are worth comparing."""
        toolchain = self._compiler()
        wide = self.shape[1] > 2**16
        words = self.precision == "int8" and toolchain.multiplies_words
        layouts: list[tuple[str, bool, int | None]] = [("plain", words, None), ("paired", False, None)]
        layouts += [("single", False, None), ("plain", words, 64)]
        if self.block and self.block[0] >= 16 and self.block[0] != 64:
            layouts.append(("plain", words, self.block[0]))
        return [
            pack_strips(
                self._values,
                StripKernel(toolchain.vector_bytes, self.precision, layout, words=pairs, wide_index=wide),
                scales=self._scales,
                shares=SHARES,
                gathered=rows,
            )
            for layout, pairs, rows in layouts
        ]

    @cached_property
    def most_strip_columns(self) -> int:
        """Up to so many columns one after the other are quicker than one tile of all."""
        tile = (
            3.0 * len(self.bands.pack.columns) + self.nonzeros if isinstance(self.bands.pack, BandPack) else 0
        )
        pack = self.strips.pack
        return max(1, int(tile / max(1.0, strip_cycles(pack)))) if isinstance(pack, StripPack) else 1

    def kernel(self, columns: int) -> Kernel:
        """The kernel for a product with so many columns."""
        return self.strips if columns == 1 or columns <= self.most_strip_columns else self.bands

    def multiply(
        self, x: Tensor, out: Tensor | None = None, *, bias: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """The product with `x`, (Q,) or (Q, N) float32: (P,) or (P, N), plus `bias` (P,), then rectified
        if `relu`.

        `out`, if given, is written and returned; it may not share memory with `x`. A NaN or infinity of
        `x` reaches every row that keeps its column; rows that do not may show it as well, as the dense
        product would. Raises KernelError for a wrong type, device or shape."""
        self._check("x", x, (self.shape[1], *x.shape[1:]) if x.ndim in (1, 2) else (self.shape[1],))
        wanted = (self.shape[0], *x.shape[1:])
        if bias is not None:
            self._check("bias", bias, (self.shape[0],))
            bias = bias.contiguous()
        if out is None:
            out = torch.empty(wanted)
        else:
            self._check("out", out, wanted)
            if not out.is_contiguous() or _overlap(x, out):
                raise KernelError("out must be contiguous and may not share memory with x")
        if self.toolchain is None:
            return self._stand_in(x, out, bias, relu)
        columns = x.shape[1] if x.ndim == 2 else 1
        if columns:
            x = x.contiguous()
            address = None if bias is None else bias.data_ptr()
            self.kernel(columns)(
                x.data_ptr(), columns, out.data_ptr(), columns, columns, address, relu, self.threads
            )
        return out

    def describe(self) -> str:
        """One line: size, zeros, how it is multiplied."""
        rows, columns = self.shape
        rate = rows * columns / max(1, self.nonzeros)
        text = f"{rows} x {columns}, {self.nonzeros} nonzero ({rate:.1f}x), {self.precision}"
        if self.toolchain is None:
            return f"{text}: fallback, scipy CSR (no C compiler)"
        bands, strips = self.bands.pack, self.strips.pack
        assert isinstance(bands, BandPack)
        assert isinstance(strips, StripPack)
        gathers = ", gathered inputs" if len(strips.gather) else ""
        return (
            f"{text}: bands of {bands.kernel.height} rows, {bands.loads_per_weight:.2f} loads a weight; "
            f"one column: {strips.kernel.layout} strips{gathers}; {self.threads} thread(s); "
            f"{self.toolchain.version}"
        )

    def _check(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if not isinstance(tensor, Tensor):
            raise KernelError(f"{name} must be a torch tensor, not {type(tensor).__name__}")
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise KernelError(
                f"{name} must be a dense float32 tensor on the CPU, not {tensor.dtype} ({tensor.layout}) on "
                f"{tensor.device}; convert it with .float().cpu()"
            )
        if tensor.shape != shape:
            raise KernelError(f"{name} has shape {tuple(tensor.shape)}; a {self.shape} matrix needs {shape}")

    def _compiler(self) -> Toolchain:
        if self.toolchain is None:
            raise NoCompiler("this matrix was made without a C compiler: only multiply works")
        return self.toolchain

    @cached_property
    def _csr(self) -> Any:
        return csr_array(self.weight)

    def _stand_in(self, x: Tensor, out: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        product = torch.from_numpy(self._csr @ x.detach().numpy())
        if bias is not None:
            product += bias.detach() if x.ndim == 1 else bias.detach()[:, None]
        return out.detach().copy_(product.relu_() if relu else product)


def strip_cycles(pack: StripPack) -> float:
    """Cycles that one column is estimated to take."""
    layout = "gathered" if len(pack.gather) else pack.kernel.layout
    return STRIP_CYCLES[layout] * pack.entry_count


def _overlap(a: Tensor, b: Tensor) -> bool:
    if a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr() or not a.numel() or not b.numel():
        return False
    spans = []
    for tensor in (a, b):
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        spans.append((tensor.data_ptr(), tensor.data_ptr() + 4 * (last + 1)))
    return spans[0][0] < spans[1][1] and spans[1][0] < spans[0][1]


def compile_matrix(
    weight: NDArray[np.float32] | Tensor,
    *,
    block: tuple[int, int] | None = None,
    precision: str = "fp32",
    threads: int = 1,
    toolchain: Toolchain | None = None,
) -> CompiledMatrix:
    """Compile a pruned matrix `weight` (P, Q) float32; its zeros are what was pruned.

    `block` (rows, columns), if the pattern has blocks, adds layouts to choose from; results do not depend
    on it. `precision` int8 rounds weights to 8 bits with one scale a row. `toolchain` defaults to the
    compiler that is found; if there is none, a FallbackWarning says so, and scipy multiplies.
    Raises KernelError for a weight that is not a finite, filled float32 matrix, WrongUse for a wrong
    option."""
    check_precision(precision)
    if not 1 <= threads <= SHARES:
        raise WrongUse(f"threads={threads}: choose 1 to {SHARES}")
    if block is not None and (len(block) != 2 or min(block) < 1):
        raise WrongUse(f"block={block}: give rows and columns of a block, at least 1")
    values = _float_matrix(weight)
    if toolchain is None:
        try:
            toolchain = find_toolchain()
        except NoCompiler as error:
            warnings.warn(
                f"{error}. Until then scipy multiplies, several times slower.", FallbackWarning, stacklevel=2
            )
    return CompiledMatrix(values, precision, threads, block, toolchain)


def _float_matrix(weight: NDArray[np.float32] | Tensor) -> Floats:
    """A private copy of the weight, checked."""
    if isinstance(weight, Tensor):
        if weight.layout != torch.strided:
            raise KernelError(f"the weight must be dense with zeros, not {weight.layout}; use .to_dense()")
        if weight.dtype != torch.float32:
            raise KernelError(f"the weight must be float32, not {weight.dtype}")
        weight = weight.detach().cpu().numpy()
    if not isinstance(weight, np.ndarray) or weight.dtype != np.float32:
        raise KernelError(
            f"the weight must be float32, not {getattr(weight, 'dtype', type(weight).__name__)}"
        )
    if weight.ndim != 2 or 0 in weight.shape:
        raise KernelError(f"the weight must be a filled matrix, not of shape {weight.shape}")
    if not np.isfinite(weight).all():
        raise KernelError("the weight holds NaN or infinity: a diverged training cannot be compiled")
    return np.array(weight, order="C")
