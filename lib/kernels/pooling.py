"""Maximum pooling as compiled code: torch's own takes as long as ten pruned convolutions of a ResNet."""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.kernels.errors import KernelError
from lib.kernels.toolchain import Toolchain

POOLING = """
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
/* NaN wins, as in torch. */
static inline float larger(float a, float b) { return b > a || b != b ? b : a; }

/* Y (planes, out_rows, out_columns) of X (planes, height, width). Returns 1 if there is no memory, else 0. */
int pool(const float *restrict X, float *restrict Y, int64_t planes, int64_t height, int64_t width,
    int64_t out_rows, int64_t out_columns, int64_t kh, int64_t kw, int64_t sh, int64_t sw, int64_t top,
    int64_t left) {
    const int64_t reach = (out_columns - 1) * sw + kw, room = reach > left + width ? reach : left + width;
    float *restrict line = malloc(room * sizeof(float));
    if (!line) return 1;
    for (int64_t i = 0; i < room; i++) line[i] = -INFINITY;
    for (int64_t plane = 0; plane < planes; plane++, X += height * width)
        for (int64_t y = 0; y < out_rows; y++, Y += out_columns) {
            const int64_t from = y * sh - top > 0 ? y * sh - top : 0;
            const int64_t to = y * sh - top + kh < height ? y * sh - top + kh : height;
            for (int64_t x = 0; x < width; x++) line[left + x] = X[from * width + x];
            for (int64_t row = from + 1; row < to; row++)
                for (int64_t x = 0; x < width; x++)
                    line[left + x] = larger(line[left + x], X[row * width + x]);
            for (int64_t x = 0; x < out_columns; x++) Y[x] = line[x * sw];
            for (int64_t k = 1; k < kw; k++)
                for (int64_t x = 0; x < out_columns; x++) Y[x] = larger(Y[x], line[x * sw + k]);
        }
    free(line);
    return 0;
}
"""


class CompiledMaxPool2d(nn.Module):
    """An `nn.MaxPool2d` without dilation, indices or rounding up: (batch, channels, height, width)."""

    def __init__(self, pool: nn.MaxPool2d, toolchain: Toolchain) -> None:
        super().__init__()
        if not can_compile(pool):
            raise WrongUse(
                f"only pooling without dilation, indices, ceil_mode and wide padding is compiled, not {pool}"
            )
        self.kernel, self.padding = _pair(pool.kernel_size), _pair(pool.padding)
        self.stride = _pair(pool.stride)
        self._pool = toolchain.load(POOLING).pool
        self._pool.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 11

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or x.device.type != "cpu" or x.ndim != 4:
            raise KernelError(
                f"pooling takes (batch, channels, height, width) float32 on the CPU, not {x.shape}"
            )
        x = x.detach().contiguous()
        batch, channels, *size = x.shape
        rows, columns = (
            (n + 2 * pad - kernel) // stride + 1
            for n, pad, kernel, stride in zip(size, self.padding, self.kernel, self.stride, strict=True)
        )
        if min(rows, columns) < 1:
            raise KernelError(f"an image of {size[0]} x {size[1]} is smaller than the window {self.kernel}")
        out = torch.empty(batch, channels, rows, columns)
        shape = (batch * channels, *size, rows, columns)
        if self._pool(x.data_ptr(), out.data_ptr(), *shape, *self.kernel, *self.stride, *self.padding):
            raise MemoryError("no memory for the working space of a pooling")
        return out


def can_compile(pool: nn.MaxPool2d) -> bool:
    """Whether `CompiledMaxPool2d` can stand in for this layer."""
    sizes = zip(_pair(pool.padding), _pair(pool.kernel_size), strict=True)
    narrow = all(2 * pad <= size for pad, size in sizes)
    return _pair(pool.dilation) == (1, 1) and not pool.return_indices and not pool.ceil_mode and narrow


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
