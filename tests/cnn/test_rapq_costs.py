"""Costs: counted by hand for a network of two layers."""

import pytest
import torch
from torch import nn

from lib.cnn import rapq_costs as costs
from lib.cnn.quant_graph import prepare_network
from lib.cnn.quantizers import Widths


def model() -> nn.Module:
    body = [nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)).eval()


def test_multiplications_by_hand() -> None:
    image = torch.zeros(1, 1, 4, 4)
    found = costs.rescalings(prepare_network(model(), Widths(2, 4), "nearest", image), image)
    assert found.macs == 16 * 2 * 9 + 2 * 3
    assert found.rescalings == 16 + 16 * 2 + 2  # the image, the layer's outputs, the sums
    assert found.share == pytest.approx(100 * 50 / (294 + 50))
    # pJ: 0.2 + 0.1 for a product of 8 bits added in 32, 3.1 + 0.1 for one of 32 bits, 0.1 for a shift
    assert found.energy_ratio == pytest.approx((294 * 0.3 + 50 * 0.1) / (294 * 0.3 + 50 * 3.2))


def test_weight_bytes_by_hand() -> None:
    network = prepare_network(model(), Widths(2, 4), "nearest", torch.zeros(1, 1, 4, 4))
    # both layers are ends, of 8 bits: 18 + 6 weights, and an exponent for each of 2 + 3 outputs
    assert costs.weight_bytes(network) == (4 * 24, 24 + 5)


def test_narrow_numbers_never_cost_more() -> None:
    found = costs.modelled(model(), torch.zeros(1, 1, 8, 8), Widths(4, 4))
    assert {name.split()[0] for name in found} == {"latency", "energy"}
    assert all(0 < value <= 1 + 1e-9 for value in found.values())


def test_latencies_are_of_an_image() -> None:
    found = costs.latencies_here(model(), torch.zeros(1, 1, 8, 8), batches=(1, 2))
    assert list(found) == ["batch 1", "batch 2"]
    assert min(found.values()) > 0
