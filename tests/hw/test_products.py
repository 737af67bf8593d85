"""Operations as matrix products: dimensions and bytes by hand, and nothing lost on the way."""

import pytest
import torch
from torch import nn

from hw_models import Sparsity, Workload, trace
from hw_models.products import Product, products, products_of, table
from tests.hw.toys import attention, convolution, gemm, other, workload


class TwoActivations(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x @ y


def convolutions() -> Workload:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.ReLU(),
        nn.Conv2d(8, 12, 1, groups=4), nn.ConvTranspose2d(12, 6, 3, stride=2, groups=3), nn.Flatten(),
        nn.LazyLinear(5),
    )  # fmt: skip
    module(torch.zeros(1, 3, 11, 13))
    return trace(module, torch.empty(2, 3, 11, 13))


NETWORKS = {
    "convolutions": convolutions,
    "transformer": lambda: trace(
        nn.TransformerEncoderLayer(24, 3, 40, batch_first=True), torch.empty(2, 7, 24)
    ),
    "lstm": lambda: trace(nn.LSTM(5, 8, num_layers=2, bidirectional=True), torch.empty(4, 2, 5)),
    "lstm_with_projection": lambda: trace(nn.LSTM(5, 8, proj_size=3), torch.empty(4, 2, 5)),
    "gru": lambda: trace(nn.GRU(5, 8, batch_first=True), torch.empty(2, 4, 5)),
    "two_activations": lambda: trace(TwoActivations(), torch.empty(2, 3, 4), torch.empty(2, 4, 5)),
}


def test_product_with_a_weight() -> None:
    (found,) = products_of(gemm(10, 20, 30, bits=16))
    assert found == Product(1, 10, 20, 30, 400.0, 1200.0, 600.0, 16, 1.0, True)


def test_products_of_two_activations_share_their_bytes_by_size() -> None:
    (found,) = products_of(gemm(10, 20, 30, batch=4, weight=None))
    assert (found.batch, found.m, found.k, found.n) == (4, 10, 20, 30)
    assert (found.input_bytes, found.weight_bytes) == pytest.approx((4 * 10 * 20, 4 * 20 * 30))
    assert not found.has_weights


def test_convolution() -> None:
    (found,) = products_of(convolution(3, 8, (10, 12), (3, 5)))
    assert (found.batch, found.m, found.k, found.n) == (1, 8 * 8, 3 * 3 * 5, 8)
    assert (found.input_bytes, found.weight_bytes, found.output_bytes) == (3 * 120, 3 * 8 * 15, 8 * 64)


def test_grouped_convolution_is_a_product_for_each_group() -> None:
    (found,) = products_of(convolution(6, 9, (10, 10), groups=3))
    assert (found.batch, found.m, found.k, found.n) == (3, 64, 2 * 9, 3)


def test_depthwise_convolution_has_products_of_one_column() -> None:
    (found,) = products_of(convolution(6, 6, (10, 10), groups=6))
    assert (found.batch, found.m, found.k, found.n) == (6, 64, 9, 1)


def test_transposed_convolution_starts_from_its_inputs() -> None:
    layer = convolution(6, 9, (10, 10), groups=3, transposed=True)
    (found,) = products_of(layer)
    assert (found.batch, found.m, found.k, found.n) == (3, 100, 2, 3 * 9)
    assert found.output_bytes == 9 * 12 * 12


def test_attention_is_two_products_whose_scores_stay_on_the_chip() -> None:
    scores, values = products_of(attention(heads=2, queries=5, keys=7, width=4, value_width=3, bits=16))
    assert scores == Product(2, 5, 4, 7, 2 * 2 * 5 * 4, 2 * 2 * 7 * 4, 0.0, 16, 1.0, False)
    assert values == Product(2, 5, 7, 3, 0.0, 2 * 2 * 7 * 3, 2 * 2 * 5 * 3, 16, 1.0, False)


def test_operations_that_do_not_multiply_have_no_products() -> None:
    assert list(products_of(other("elementwise", 10))) == []


def test_the_wider_operand_decides_the_bits() -> None:
    (mixed,) = workload(gemm(1, 2, 3)).at_bits(weight=4, activation=16).layers
    assert next(products_of(mixed)).bits == 16


def test_sparse_weight_multiplies_and_moves_what_is_left() -> None:
    sparsity = Sparsity(structure="row_balanced", density=0.25)
    (found,) = products_of(gemm(10, 16, 8, sparsity=sparsity))
    assert found.macs == 10 * 16 * 8 / 4
    assert found.weight_bytes == 32 + 32 * 4 / 8


@pytest.mark.parametrize("name", NETWORKS)
def test_multiplications_of_real_networks_are_all_there(name: str) -> None:
    network = NETWORKS[name]()
    each = [product for layer in network.layers for product in products_of(layer)]
    assert sum(product.macs for product in each) == network.macs > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_bytes_of_real_networks_are_all_there(name: str) -> None:
    network = NETWORKS[name]()
    for layer in network.layers:
        if layer.shape:
            each = list(products_of(layer))
            moved = sum(x.input_bytes + x.weight_bytes + x.output_bytes for x in each)
            assert moved == pytest.approx(layer.activation_bytes + layer.weight_bytes), layer


@pytest.mark.parametrize("name", NETWORKS)
def test_images_multiply_the_work(name: str) -> None:
    network = NETWORKS[name]()
    found = products(network, images=3)
    macs = found.batch * found.m * found.k * found.n * found.count
    assert macs.sum() == 3 * network.macs


def test_images_are_further_rows_of_one_weight_and_further_products_otherwise() -> None:
    (with_weight,) = products_of(gemm(10, 20, 30), images=3)
    (without,) = products_of(gemm(10, 20, 30, weight=None), images=3)
    assert (with_weight.batch, with_weight.m, with_weight.weight_bytes) == (1, 30, 600)
    assert (without.batch, without.m, without.weight_bytes) == (3, 10, pytest.approx(1800))


def test_equal_products_are_counted() -> None:
    found = products(workload(gemm(1, 2, 3, name="a"), gemm(3, 2, 1), gemm(1, 2, 3, name="b")))
    assert len(found) == 2
    assert list(zip(found.m, found.n, found.count, strict=True)) == [(1, 3, 2), (3, 1, 1)]


def test_keys_that_several_heads_share_are_read_once() -> None:
    """Eight query heads and two key heads, as in grouped-query attention."""
    layer = attention(8, 10, 10, 16).model_copy(update={"input_elements": (8 + 2 + 2) * 160})
    scores, values = products_of(layer)
    assert (scores.input_bytes, scores.weight_bytes, values.weight_bytes) == (8 * 160, 2 * 160, 2 * 160)


def test_table_of_nothing_is_empty() -> None:
    empty = table([])
    assert len(empty) == 0
    assert empty.count.sum() == 0
