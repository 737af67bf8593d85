"""Compiled maximum pooling against torch's."""

import pytest
import torch
from torch import nn

from lib.errors import WrongUse
from lib.kernels.errors import KernelError
from lib.kernels.pooling import CompiledMaxPool2d, can_compile
from lib.kernels.toolchain import Toolchain


@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (2, 3, 7, 12), (0, 3, 8, 8), (1, 2, 23, 16)])
@pytest.mark.parametrize("options", [(1, 1, 0), (2, 2, 0), (3, 2, 1), (3, 1, 1), ((2, 3), (1, 2), (1, 0))])
def test_it_equals_torch(toolchain: Toolchain, shape: tuple[int, ...], options: tuple[int, int, int]) -> None:
    pool = nn.MaxPool2d(*options)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) - 5
    assert torch.equal(CompiledMaxPool2d(pool, toolchain)(x), pool(x))


def test_nan_and_infinity_come_through_as_in_torch(toolchain: Toolchain) -> None:
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 1, 1], x[0, 0, 4, 4] = float("nan"), float("-inf")
    pool = nn.MaxPool2d(3, 2, 1)
    torch.testing.assert_close(CompiledMaxPool2d(pool, toolchain)(x), pool(x), equal_nan=True)


def test_a_view_is_pooled_as_it_is_seen(toolchain: Toolchain) -> None:
    x = torch.arange(64.0).view(1, 1, 8, 8).transpose(2, 3)
    assert torch.equal(CompiledMaxPool2d(nn.MaxPool2d(2), toolchain)(x), nn.MaxPool2d(2)(x))


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, dilation=2),
        nn.MaxPool2d(3, return_indices=True),
        nn.MaxPool2d(3, ceil_mode=True),
        nn.MaxPool2d(3, padding=2),
    ],
)
def test_other_poolings_are_left_to_torch(toolchain: Toolchain, pool: nn.MaxPool2d) -> None:
    assert not can_compile(pool)
    with pytest.raises(WrongUse, match="only pooling without"):
        CompiledMaxPool2d(pool, toolchain)


def test_wrong_inputs_are_refused(toolchain: Toolchain) -> None:
    layer = CompiledMaxPool2d(nn.MaxPool2d(3), toolchain)
    with pytest.raises(KernelError, match="smaller than the window"):
        layer(torch.ones(1, 1, 2, 5))
    with pytest.raises(KernelError, match="float32"):
        layer(torch.ones(1, 1, 5, 5, dtype=torch.float64))
