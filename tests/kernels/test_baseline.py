"""The CSR baseline computes the product."""

import pytest
import torch

from lib.kernels.baseline import compile_csr
from lib.kernels.errors import KernelError
from lib.kernels.toolchain import Toolchain


@pytest.mark.parametrize("keep", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("columns", [None, 64, 128])
@pytest.mark.parametrize("shape", [(1, 1), (7, 23), (33, 100)])
def test_it_equals_the_dense_product(
    toolchain: Toolchain, shape: tuple[int, int], columns: int | None, keep: float
) -> None:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=rng) * (torch.rand(shape, generator=rng) < keep)
    x = torch.randn((shape[1], columns) if columns else (shape[1],), generator=rng)
    torch.testing.assert_close(compile_csr(weight, x, toolchain)(), weight @ x)


def test_odd_numbers_of_columns_and_wrong_rows_are_refused(toolchain: Toolchain) -> None:
    with pytest.raises(KernelError, match="multiple of"):
        compile_csr(torch.ones(3, 4), torch.ones(4, 17), toolchain)
    with pytest.raises(KernelError, match="of 4 rows"):
        compile_csr(torch.ones(3, 4), torch.ones(5), toolchain)
    with pytest.raises(KernelError, match="contiguous"):
        compile_csr(torch.ones(3, 4), torch.ones(8)[::2], toolchain)
