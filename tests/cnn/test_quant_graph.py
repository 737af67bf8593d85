"""Preparation: folded, complete, cut into blocks; and what it refuses."""

import pytest
import torch
from torch import Tensor, nn

from lib.cnn.networks import build
from lib.cnn.quant_graph import QuantLayer, SumPool, prepare_network
from lib.cnn.quantizers import Widths
from lib.cnn.rapq_networks import untrained
from lib.errors import ReproError

FLOAT = Widths(32, 32, 32)


def with_statistics(model: nn.Module) -> nn.Module:
    """`model` with BN numbers that folding cannot ignore."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    return model.eval()


@pytest.mark.parametrize("name", ["mobilenet_small", "resnet_small", "vgg_small"])
@pytest.mark.parametrize("side", [28, 15])
def test_32_bits_change_nothing(name: str, side: int) -> None:
    model = with_statistics(build(name))
    images = torch.randn(2, 1, side, side)
    with torch.no_grad():
        found = prepare_network(model, FLOAT, "learned", images)(images)
        assert torch.allclose(found, model(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "units", "layers"),
    [
        ("efficientnet_lite0", 20, 50),
        ("resnet18", 12, 21),
        ("mobilenet_v2", 21, 53),
        ("regnetx_600m", 20, 54),
    ],
)
def test_networks_of_timm(name: str, units: int, layers: int) -> None:
    model = with_statistics(untrained(name))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        network = prepare_network(model, FLOAT, "nearest", images)
        gap = (network(images) - model(images)).abs().max() / model(images).abs().max()
    assert gap < 1e-4
    assert len(network) == units
    assert len(network.layers) == layers


def test_the_model_is_left_alone() -> None:
    model = build("resnet_small").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepare_network(model, Widths(2, 4), "learned", torch.zeros(1, 1, 28, 28))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_ends_have_eight_bits() -> None:
    network = prepare_network(build("resnet_small"), Widths(2, 4), "nearest", torch.zeros(1, 1, 28, 28))
    bits = [layer.quantizer.bits for layer in network.layers if layer.quantizer]
    assert bits[0] == bits[-1] == 8
    assert set(bits[1:-1]) == {2}
    widths = [quantizer.bits for quantizer in network.activations]
    assert widths[:2] == [8, 8]
    assert widths[-1] == 8
    assert 4 in widths


def test_the_closing_gamma_is_that_of_the_main_path() -> None:
    model = with_statistics(build("resnet_small"))
    block = model.get_submodule("blocks.1")
    network = prepare_network(model, FLOAT, "nearest", torch.zeros(1, 1, 28, 28))
    unit = next(unit for unit in network.units() if unit.name == "blocks.1")
    assert unit.closing_gamma is not None
    assert torch.equal(unit.closing_gamma, block.get_parameter("layers.1.1.weight"))


def test_folding_by_hand() -> None:
    layer, norm = QuantLayer(nn.Conv2d(1, 1, 1, bias=False), "it"), nn.BatchNorm2d(1, eps=0.0).eval()
    layer.layer.weight.data.fill_(3.0)
    norm.weight.data.fill_(2.0)
    norm.bias.data.fill_(1.0)
    norm.running_mean.fill_(5.0)  # type: ignore[union-attr]
    norm.running_var.fill_(4.0)  # type: ignore[union-attr]
    layer.fold(norm)
    # 2 (3x - 5) / 2 + 1 = 3x - 4
    assert layer(torch.full((1, 1, 1, 1), 2.0)).item() == 2.0


def test_a_sum_replaces_the_average() -> None:
    network = prepare_network(build("resnet_small"), FLOAT, "nearest", torch.zeros(1, 1, 28, 28))
    assert sum(isinstance(module, SumPool) for module in network.modules()) == 1


def test_a_model_without_bn_is_refused() -> None:
    with pytest.raises(ReproError, match="no batch normalisation"):
        prepare_network(nn.Sequential(nn.Conv2d(1, 2, 3)), FLOAT, "nearest", torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("layer", [nn.Sigmoid(), nn.ConvTranspose2d(2, 2, 2), nn.GroupNorm(1, 2)])
def test_an_unknown_layer_is_named(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), layer)
    with pytest.raises(ReproError, match=rf"layer 2 is of an unknown type, {type(layer).__name__}"):
        prepare_network(model, FLOAT, "nearest", torch.zeros(1, 1, 8, 8))


def test_a_product_of_activations_is_refused() -> None:
    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x)
            return y * y

    with pytest.raises(ReproError, match="unknown type, mul"):
        prepare_network(Squared(), FLOAT, "nearest", torch.zeros(1, 1, 8, 8))


def test_bn_that_follows_no_convolution_is_refused() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3))
    with pytest.raises(ReproError, match="does not follow"):
        prepare_network(model, FLOAT, "nearest", torch.zeros(1, 1, 8, 8))


def test_weights_that_are_not_finite_are_refused() -> None:
    model = build("resnet_small")
    model.classifier.weight.data[0, 0] = torch.nan
    with pytest.raises(ReproError, match="not finite"):
        prepare_network(model, Widths(4, 4), "nearest", torch.zeros(1, 1, 28, 28))
