"""Costs of one pruned product: equal results, and costs that are what they are called."""

import pytest
import torch

from hw_models import Sparsity
from lib.errors import ReproError, WrongUse
from lib.kernels.compiler import CompiledMatrix
from lib.rnn.products import (
    ProductTimes,
    generated,
    modelled_us,
    product_times,
    relative_costs,
    times_at,
)
from lib.rnn.structure import measured_rate


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("columns", [1, 5])
@pytest.mark.parametrize("shape", [(33, 17), (1, 8), (16, 1)])
def test_the_compiled_product_is_the_dense_one(shape: tuple[int, int], columns: int) -> None:
    weight = torch.randn(shape, generator=generator())
    mask = torch.rand(shape, generator=generator()) < 0.5
    found = product_times(weight, mask, columns, generator(), burst_s=1e-4)
    assert found.gap < 1e-5
    assert set(found.us) == {"dense", "csr", "compiled"}
    assert all(us > 0 for us in found.us.values())


def test_a_product_needs_a_column() -> None:
    with pytest.raises(WrongUse, match="at least one column"):
        product_times(torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bool), 0, generator())


def test_relative_is_compiled_over_dense() -> None:
    assert ProductTimes({"dense": 8.0, "csr": 1.0, "compiled": 2.0}, 0.0).relative == 0.25


def test_pruning_shortens_the_modelled_time() -> None:
    sparsity = Sparsity(structure="block", density=0.1, block=(32, 32))
    for device in ("adreno_640", "zcu102"):
        assert 0 < modelled_us((512, 512), sparsity, device) < modelled_us((512, 512), None, device)


def test_operations_are_kept_weights_over_all() -> None:
    mask = torch.rand(64, 64, generator=generator()) < 0.25
    times = {1: ProductTimes({"dense": 4.0, "csr": 1.0, "compiled": 2.0}, 0.0)}
    costs = relative_costs(mask, Sparsity(structure="unstructured", density=0.25), times)
    assert costs["operations"] == pytest.approx(1 / measured_rate(mask))
    assert costs["measured batch 1"] == 0.5
    assert set(costs) == {"operations", "modelled adreno_640", "modelled zcu102", "measured batch 1"}


def test_a_product_that_scipy_stands_in_for_is_not_timed_as_compiled() -> None:
    weight = torch.eye(4).numpy()
    with pytest.raises(ReproError, match="C compiler"):
        generated(CompiledMatrix(weight, "fp32", 1, None, None))


@pytest.mark.usefixtures("compiler")
def test_times_are_by_width() -> None:
    found = times_at((1, 3), torch.ones(4, 4), torch.eye(4).bool(), generator())
    assert set(found) == {1, 3}
