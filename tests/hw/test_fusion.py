"""What rides along with a product and what stays an operation of its own."""

import pytest
import torch
from torch import nn

from hw_models import HardwareModelError, Workload, fused, trace
from tests.hw.toys import convolution, gemm, other, workload

PRODUCT = gemm(10, 20, 30)
ACTIVATION = other("elementwise", 300)
LAYER_NORM = other("normalisation", 300, operation="aten.native_layer_norm")


class Two(nn.Module):
    """A function of a linear layer, of a parameter as wide as its output, and of two inputs."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function
        self.linear, self.other = nn.Linear(4, 6, bias=False), nn.Linear(4, 6, bias=False)
        self.p = nn.Parameter(torch.ones(6))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> object:
        return self.function(self, x, y)  # type: ignore[operator]


def course(function: object) -> Workload:
    """What is left of `function` of (3, 4) and (3, 6) inputs."""
    return fused(trace(Two(function), torch.empty(3, 4), torch.empty(3, 6)))


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


def test_an_operation_on_other_data_stays() -> None:
    assert kinds(course(lambda m, x, y: (m.linear(x), y.relu()))) == ["gemm", "elementwise"]


def test_an_operation_is_merged_into_the_product_that_it_reads() -> None:
    def two(m: Two, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        first, second = m.linear(x), m.other(x)
        return m.other(first.relu()[:, :4]) + second

    found = course(two)
    assert kinds(found) == ["gemm", "gemm", "gemm"]
    assert [layer.sources for layer in found.layers] == [(), (), (0, 1)]


def test_the_last_of_two_products_takes_their_sum() -> None:
    first, second = course(lambda m, x, y: m.linear(x) + m.other(x)).layers
    assert (first.input_elements, second.input_elements) == (12, 12 + 18)


def test_an_operand_that_is_computed_later_keeps_an_operation_apart() -> None:
    found = course(lambda m, x, y: m.linear(x) + y.softmax(-1))
    assert kinds(found) == ["gemm", "softmax", "elementwise"]


def test_an_added_parameter_is_still_read() -> None:
    (found,) = course(lambda m, x, y: m.linear(x) + m.p).layers
    assert (found.weight_elements, found.params, found.input_elements) == (24 + 6, 24 + 6, 12)


def test_parameters_of_batch_normalisation_are_folded() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)).eval()
    (found,) = fused(trace(module, torch.empty(2, 3, 8, 8))).layers
    assert found.weight_elements == 8 * 27


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(8), nn.BatchNorm2d(8, track_running_stats=False)])
def test_normalisation_by_the_statistics_of_the_data_stays(norm: nn.Module) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU())
    found = fused(trace(module, torch.empty(1, 3, 8, 8)))
    assert kinds(found) == ["convolution", "normalisation", "elementwise"]


def test_operations_on_two_results_of_one_product_read_nothing_again() -> None:
    """A swish made of a sigmoid and a multiplication."""

    def swish(m: Two, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z = m.linear(x)
        return z * z.sigmoid()

    (found,) = course(swish).layers
    assert (found.input_elements, found.output_elements) == (12, 18)


def test_a_result_in_between_that_is_needed_elsewhere_is_still_written() -> None:
    def both(m: Two, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z = m.linear(x)
        return z.relu().softmax(-1) + z

    found = course(both)
    assert kinds(found) == ["gemm", "softmax", "elementwise"]
    assert found.layers[0].output_elements == 2 * 18


def test_operations_in_place_and_through_views_are_merged() -> None:
    def through_views(m: Two, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return m.linear(x).view(6, 3).relu_().t().mul_(2)

    assert kinds(course(through_views)) == ["gemm"]


def test_an_operation_on_weights_is_not_merged_into_a_product_before_it() -> None:
    """It reads nothing of that product, and writes as many elements."""
    found = course(lambda m, x, y: (m.linear(x[:1]), m.p * 2))
    assert kinds(found) == ["gemm", "elementwise"]


def test_sources_lead_to_the_same_operations_after_fusion(network: Workload) -> None:
    assert [layer.sources for layer in network.layers] == [(), (0,), (1,), (2,), (3,), (4,), (5,)]


def test_layers_made_by_hand_follow_one_another() -> None:
    found = fused(workload(PRODUCT, ACTIVATION, LAYER_NORM))
    assert [layer.sources for layer in found.layers] == [None, None]


def test_a_layer_made_by_hand_behind_a_merged_one_keeps_its_source() -> None:
    """The last one reads what came before it, which is now part of the first."""
    other_product = gemm(10, 20, 30, sources=())
    found = fused(workload(PRODUCT, other_product, other("elementwise", 300, sources=(0,)), LAYER_NORM))
    assert [layer.sources for layer in found.layers] == [(), (), (0,)]


def test_sources_survive_json(network: Workload) -> None:
    assert Workload.from_json(network.to_json()) == network


def test_layers_that_lost_their_place_are_named() -> None:
    moved = workload(PRODUCT, other("elementwise", 300, sources=(4,)))
    with pytest.raises(HardwareModelError, match=r"elementwise: .* is layer 1 and reads results of \(4,\)"):
        fused(moved)


def test_batch_normalisation_by_the_statistics_of_the_data_stays_at_any_size() -> None:
    norm = other("normalisation", 300, operation="aten._native_batch_norm_legit")
    assert kinds(fused(workload(PRODUCT, norm))) == ["gemm", "normalisation"]
