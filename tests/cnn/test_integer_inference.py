"""Integer inference equals the simulated network bit for bit, and refuses what no shift can do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.cnn.integer_inference import Dyadic, integer_logits
from lib.cnn.networks import build
from lib.cnn.quant_graph import QuantNetwork, prepare_network
from lib.cnn.quant_reconstruction import reconstruct
from lib.cnn.quantizers import ScaleKind, Widths
from lib.cnn.rapq import Recipe
from lib.errors import ReproError


def quantized(name: str, kind: ScaleKind, widths: str, side: int = 12) -> tuple[QuantNetwork, torch.Tensor]:
    """A network of random weights and BN statistics, calibrated on random images, in float64."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    model = build(name, channels=1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)  # type: ignore[union-attr]
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    images = torch.randn(6, 1, side, side, generator=generator)
    network = prepare_network(model, Widths.named(widths), kind, images)
    reconstruct(network, images, Recipe(3, 2, batch_size=4), generator, c=0.9)
    return as_double(network), images.double()


def as_double(network: QuantNetwork) -> QuantNetwork:
    network.double()
    for layer in network.layers:
        if layer.frozen is not None:
            weight, bias = layer.frozen
            layer.frozen = (weight.double(), None if bias is None else bias.double())
    return network


@pytest.mark.parametrize("name", ["mobilenet_small", "resnet_small", "vgg_small"])
@pytest.mark.parametrize("widths", ["w2a4", "w8a8"])
def test_integers_equal_the_simulation(name: str, widths: str) -> None:
    network, images = quantized(name, "learned", widths)
    with torch.no_grad():
        simulated = network(images)
    assert simulated.std() > 0
    assert torch.equal(integer_logits(network, images), simulated)


def test_a_batch_of_one_and_an_odd_side() -> None:
    network, images = quantized("resnet_small", "nearest", "w4a4", side=11)
    with torch.no_grad():
        assert torch.equal(integer_logits(network, images[:1]), network(images[:1]))


def test_an_all_zero_image() -> None:
    network, images = quantized("mobilenet_small", "local", "w4a4")
    blank = torch.zeros_like(images[:1])
    with torch.no_grad():
        assert torch.equal(integer_logits(network, blank), network(blank))


def test_float_scales_are_refused() -> None:
    network, images = quantized("resnet_small", "float", "w4a4")
    with pytest.raises(ReproError, match="power-of-two"):
        integer_logits(network, images)


@given(st.integers(-(2**20), 2**20), st.integers(-12, 4), st.integers(-12, 4))
def test_a_shift_rounds_half_up(integer: int, exponent: int, wanted: int) -> None:
    value = Dyadic(torch.tensor([integer]), torch.tensor([exponent]))
    exact = torch.floor(torch.tensor([integer], dtype=torch.float64) * 2.0 ** (exponent - wanted) + 0.5)
    assert value.rounded(wanted).double() == exact


def test_an_addition_by_hand() -> None:
    # 3 x 2^-1 + 5 x 2^-3 = 12 x 2^-3 + 5 x 2^-3
    total = Dyadic(torch.tensor([3]), torch.tensor(-1)) + Dyadic(torch.tensor([5]), torch.tensor(-3))
    assert total.integers.tolist() == [17]
    assert total.real().item() == 2.125


def test_relu6_by_hand() -> None:
    # 13 x 2^-1 is above 6; 2 x 2^2 = 8 as well, although 6 is no multiple of 4
    assert Dyadic(torch.tensor([13, -1]), torch.tensor(-1)).clamp(0, 6).real().tolist() == [6.0, 0.0]
    assert Dyadic(torch.tensor([2, 1]), torch.tensor(2)).clamp(0, 6).real().tolist() == [6.0, 4.0]
