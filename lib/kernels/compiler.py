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
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from lib.errors import WrongUse
from lib.kernels.bands import BandPack, Floats, pack_bands
from lib.kernels.codegen import BandKernel, check_precision
from lib.kernels.errors import KernelError
from lib.kernels.loading import Kernel, load_bands, load_strips
from lib.kernels.strip_codegen import StripKernel
from lib.kernels.strips import StripPack, pack_strips
from lib.kernels.toolchain import NoCompiler, Toolchain, find_toolchain

SHARES = 8
"""Parts of equal work into which rows are cut; threads take whole parts."""
PANEL_COLUMNS, PLANE_COLUMNS = 1536, 6144
"""Columns of a matrix in one tile, so that what it multiplies stays in a cache: a panel holds every row of
the right side apart, a plane holds once what the rows of a convolution share."""
NO_MEMORY = "no memory for the working space of a pruned product"
STRIP_CYCLES = {"plain": 3.0, "paired": 4.5, "single": 1.25, "gather": 1.0}
"""Cycles an entry of the widest vectors, and a gathered input, measured on one AVX-512 processor: used to
rank layouts, nothing else. Entries of narrower vectors take in proportion to their bytes, and a little for
themselves."""


class FallbackWarning(UserWarning):
    """Pruned layers run without generated code."""


Prepared = tuple[Callable[..., int] | None, int, tuple[int, ...], ctypes.Structure | None]
"""`Kernel.prepared` with the shape of the result in between; None for the function: scipy stands in."""


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
        self.shape: tuple[int, int] = (weight.shape[0], weight.shape[1])
        self._prepared: dict[torch.Size, Prepared] = {}
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
        return load_bands(self._band_pack(PANEL_COLUMNS), self._compiler())

    @cached_property
    def convolution(self) -> Kernel:
        """The convolution whose weights (filters, channels * kh * kw) this matrix is: `bands_convolve`."""
        return load_bands(self._band_pack(PLANE_COLUMNS), self._compiler(), convolves=True)

    def _band_pack(self, tile_columns: int) -> BandPack:
        """The matrix in bands of the height for which the right side is loaded least often."""
        toolchain = self._compiler()
        heights = (4, 5, 6) if toolchain.registers == 32 else (2, 3)
        vectors = 4 if toolchain.registers == 32 else 3
        kernels = (BandKernel(height, vectors, toolchain.vector_bytes, self.precision) for height in heights)
        packs = [
            pack_bands(self._values, kernel, scales=self._scales, shares=SHARES, tile_columns=tile_columns)
            for kernel in kernels
        ]
        return min(packs, key=lambda pack: len(pack.columns))

    @cached_property
    def strips(self) -> Kernel:
        """The product with one column."""
        return load_strips(min(self._strip_packs(), key=strip_cycles), self._compiler())

    def _strip_packs(self) -> list[StripPack]:
        """The layouts for one column that are worth comparing."""
        toolchain = self._compiler()
        wide = self.shape[1] > 2**16
        words = self.precision == "int8" and toolchain.multiplies_words
        widest = toolchain.vector_bytes
        layouts: list[tuple[str, int, bool, int | None]] = [("plain", widest, words, None)]
        layouts += [("paired", widest, False, None), ("single", widest, False, None)]
        strips = {64, self.block[0]} if self.block and self.block[0] >= 16 else {64}
        for rows in sorted(strips):
            layouts.append(("plain", widest, words, rows))
            if widest == 64 and not words:  # gathered inputs fill shorter vectors better
                layouts.append(("plain", 32, False, rows))
        return [
            pack_strips(
                self._values,
                StripKernel(bytes_, self.precision, layout, words=pairs, wide_index=wide),
                scales=self._scales,
                shares=SHARES,
                gathered=rows,
            )
            for layout, bytes_, pairs, rows in layouts
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
        few = columns == 1 or columns <= self.most_strip_columns
        return self.strips if few else self.bands

    def multiply(
        self, x: Tensor, out: Tensor | None = None, *, bias: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """The product with `x`, (Q,) or (Q, N) float32: (P,) or (P, N), plus `bias` (P,), then rectified
        if `relu`.

        `out`, if given, is written and returned; it may not share memory with `x`. A NaN or infinity of
        `x` reaches every row that keeps its column; rows that do not may show it as well, as the dense
        product would. Raises KernelError for a wrong type, device or shape."""
        # checks are written out: with one column, helpers would take as long as the product
        if not (
            isinstance(x, Tensor) and x.dtype is torch.float32 and x.is_cpu and x.layout is torch.strided
        ):
            self._refuse("x", x, ())
        shape = x.shape
        if known := self._prepared.get(shape):
            function, call, result, _ = known
        else:
            function, call, result, _ = self._prepare(x)
        if out is None:
            out = torch.empty(*result)
        else:
            self._check_out(x, out, result)
        if not x.is_contiguous():
            x = x.contiguous()
        if function is None:
            return self._stand_in(x, out, bias, relu)
        if bias is not None or relu:
            self._multiply_fully(x, out, bias, relu)
        elif function(call, x.data_ptr(), out.data_ptr()):
            raise MemoryError(NO_MEMORY)
        return out

    def _prepare(self, x: Tensor) -> "Prepared":
        """What products with inputs of the shape of `x`, which is checked, have in common."""
        shape, (rows, inner) = x.shape, self.shape
        columns = shape[-1] if len(shape) == 2 else 1
        if shape != (inner, columns) and shape != (inner,):
            self._refuse("x", x, (inner, *shape[1:2]))
        result = (rows, *shape[1:])
        if self.toolchain is None:
            return None, 0, result, None
        prepared = self.kernel(columns).prepared(columns, self.threads)
        self._prepared[x.shape] = (*prepared[:2], result, prepared[2])
        return self._prepared[x.shape]

    def _check_out(self, x: Tensor, out: Tensor, shape: tuple[int, ...]) -> None:
        if not (_is_plain(out) and out.shape == shape):
            self._refuse("out", out, shape)
        if not out.is_contiguous() or _overlap(x, out):
            raise KernelError("out must be contiguous and may not share memory with x")

    def _multiply_fully(self, x: Tensor, out: Tensor, bias: Tensor | None, relu: bool) -> None:
        address, columns = None, x.shape[1] if x.ndim == 2 else 1
        if bias is not None:
            if not (_is_plain(bias) and bias.shape == self.shape[:1]):
                self._refuse("bias", bias, self.shape[:1])
            bias = bias.contiguous()
            address = bias.data_ptr()
        if columns:
            kernel = self.kernel(columns)
            data, result = x.data_ptr(), out.data_ptr()
            if kernel.function(
                kernel.matrix, data, columns, result, columns, columns, address, relu, self.threads
            ):
                raise MemoryError(NO_MEMORY)

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

    def _refuse(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> NoReturn:
        """Raises the KernelError that says why `tensor` is not a plain one of this shape."""
        if not isinstance(tensor, Tensor):
            raise KernelError(f"{name} must be a torch tensor, not {type(tensor).__name__}")
        if not _is_plain(tensor):
            raise KernelError(
                f"{name} must be a dense float32 tensor on the CPU, not {tensor.dtype} ({tensor.layout}) on "
                f"{tensor.device}; convert it with .float().cpu()"
            )
        raise KernelError(f"{name} has shape {tuple(tensor.shape)}; a {self.shape} matrix needs {shape}")

    def _compiler(self) -> Toolchain:
        if self.toolchain is None:
            raise NoCompiler("this matrix was made without a C compiler: only multiply works")
        return self.toolchain

    @cached_property
    def _csr(self) -> Any:
        return csr_array(self.weight)

    def _stand_in(self, x: Tensor, out: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        if bias is not None and not (_is_plain(bias) and bias.shape == self.shape[:1]):
            self._refuse("bias", bias, self.shape[:1])
        product = torch.from_numpy(self._csr @ x.detach().numpy())
        if bias is not None:
            product += bias.detach() if x.ndim == 1 else bias.detach()[:, None]
        return out.detach().copy_(product.relu_() if relu else product)


def _is_plain(x: Tensor) -> bool:
    return isinstance(x, Tensor) and x.dtype is torch.float32 and x.is_cpu and x.layout is torch.strided


def strip_cycles(pack: StripPack) -> float:
    """Cycles that one column is estimated to take."""
    entry = STRIP_CYCLES[pack.kernel.layout]
    if pack.kernel.vector_bytes < 64 and pack.kernel.layout != "single":
        entry *= 0.07 + pack.kernel.vector_bytes / 64
    return entry * pack.entry_count + STRIP_CYCLES["gather"] * len(pack.gather)


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
