"""CSR as an honest opponent: the same compiler, the same flags, the same vectors, one row after the other."""

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from lib.kernels.errors import KernelError
from lib.kernels.toolchain import Toolchain

CSR = """
#include <stdint.h>
typedef float V __attribute__((vector_size(@BYTES@), aligned(4), may_alias));
#define LANES (@BYTES@ / 4)
/* y of x, both n = 1; four sums hide the latency of an addition. */
void csr_vector(int64_t rows, const int32_t *first, const int32_t *column, const float *weight,
    const float *x, float *y) {
    for (int64_t i = 0; i < rows; i++) {
        float a = 0, b = 0, c = 0, d = 0;
        int32_t k = first[i];
        for (; k + 4 <= first[i + 1]; k += 4) {
            a += weight[k] * x[column[k]]; b += weight[k + 1] * x[column[k + 1]];
            c += weight[k + 2] * x[column[k + 2]]; d += weight[k + 3] * x[column[k + 3]];
        }
        for (; k < first[i + 1]; k++) a += weight[k] * x[column[k]];
        y[i] = (a + b) + (c + d);
    }
}
/* n a multiple of 4 vectors: a row of results stays in registers. */
void csr_matrix(int64_t rows, const int32_t *first, const int32_t *column, const float *weight,
    const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j += 4 * LANES) {
            V a = {0}, b = a, c = a, d = a;
            for (int32_t k = first[i]; k < first[i + 1]; k++) {
                const V *from = (const V *)(x + column[k] * n + j);
                a += weight[k] * from[0]; b += weight[k] * from[1];
                c += weight[k] * from[2]; d += weight[k] * from[3];
            }
            V *to = (V *)(y + i * n + j);
            to[0] = a; to[1] = b; to[2] = c; to[3] = d;
        }
}
"""


def compile_csr(weight: Tensor, x: Tensor, toolchain: Toolchain) -> Callable[[], Tensor]:
    """A call that multiplies `weight` (P, Q), stored as CSR, with `x`, (Q,) or (Q, N), N a multiple of 4
    vectors."""
    tile = toolchain.vector_bytes
    if x.ndim == 2 and x.shape[1] % tile:
        raise KernelError(f"this baseline takes a multiple of {tile} columns, not {x.shape[1]}")
    if x.shape[0] != weight.shape[1] or not x.is_contiguous():
        raise KernelError(f"x must be contiguous and of {weight.shape[1]} rows, not {tuple(x.shape)}")
    matrix = csr_array(weight.numpy())
    kinds = ((matrix.indptr, np.int32), (matrix.indices, np.int32), (matrix.data, np.float32))
    arrays = [np.ascontiguousarray(array, dtype=kind) for array, kind in kinds]
    library = toolchain.load(CSR.replace("@BYTES@", str(toolchain.vector_bytes)))
    function = library.csr_matrix if x.ndim == 2 else library.csr_vector
    function.argtypes = [ctypes.c_int64, *[ctypes.c_void_p] * 5, *[ctypes.c_int64] * (x.ndim - 1)]
    function.restype = None
    pointers = [array.ctypes.data for array in arrays]

    def multiply(_: list[NDArray[Any]]) -> Tensor:
        out = torch.empty(weight.shape[0], *x.shape[1:])
        function(weight.shape[0], *pointers, x.data_ptr(), out.data_ptr(), *x.shape[1:])
        return out

    return partial(multiply, arrays)  # which keeps alive what the pointers point to
