"""What rides along with a product and what stays an operation of its own."""

import pytest
import torch
from torch import nn

from hw_models import Workload, fused, trace
from tests.hw.toys import convolution, gemm, other, workload

PRODUCT = gemm(10, 20, 30)
ACTIVATION = other("elementwise", 300)
LAYER_NORM = other("normalisation", 300, operation="aten.native_layer_norm")


def kinds(found: Workload) -> list[str]:
    return [layer.kind for layer in found.layers]


@pytest.fixture(scope="module")
def network() -> Workload:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
        nn.Linear(72, 10), nn.LayerNorm(10), nn.ReLU(), nn.Softmax(-1),
    )  # fmt: skip
    return fused(trace(module, torch.empty(2, 3, 8, 8)))


def test_batch_normalisation_and_activation_ride_with_a_convolution(network: Workload) -> None:
    assert kinds(network) == [
        "convolution", "pooling", "elementwise", "gemm", "normalisation", "elementwise", "softmax",
    ]  # fmt: skip


def test_nothing_that_is_counted_or_stored_is_lost(network: Workload) -> None:
    assert network.macs == 2 * (8 * 36 * 27 + 720)
    assert sum(layer.params for layer in network.layers) == network.params


def test_intermediate_results_are_neither_written_nor_read() -> None:
    (found,) = fused(workload(PRODUCT, ACTIVATION, ACTIVATION)).layers
    assert found == PRODUCT


def test_a_second_operand_is_still_read() -> None:
    (found,) = fused(workload(PRODUCT, other("elementwise", 300, reads=600))).layers
    assert found.input_elements == 200 + 300
    assert found.output_elements == 300


def test_folded_parameters_belong_to_the_product() -> None:
    norm = other("normalisation", 300, operation="aten._native_batch_norm_legit_no_training", params=60)
    (found,) = fused(workload(PRODUCT, norm)).layers
    assert found.params == 600 + 60


def test_layer_normalisation_stays_and_ends_the_ride() -> None:
    found = fused(workload(PRODUCT, LAYER_NORM, ACTIVATION))
    assert kinds(found) == ["gemm", "normalisation", "elementwise"]


def test_an_operation_of_another_size_stays() -> None:
    assert kinds(fused(workload(PRODUCT, other("elementwise", 600)))) == ["gemm", "elementwise"]


def test_an_operation_without_a_product_before_it_stays() -> None:
    assert kinds(fused(workload(ACTIVATION, PRODUCT))) == ["elementwise", "gemm"]


def test_each_product_takes_what_follows_it() -> None:
    found = fused(workload(PRODUCT, ACTIVATION, convolution(3, 4, (8, 8)), other("elementwise", 144)))
    assert kinds(found) == ["gemm", "convolution"]


def test_fusing_again_changes_nothing(network: Workload) -> None:
    assert fused(network) == network


def test_nothing_to_fuse_changes_nothing() -> None:
    apart = workload(LAYER_NORM, PRODUCT, LAYER_NORM)
    assert fused(apart) == apart
