"""Reconstruction: it lowers the error, fixes every number, and refuses what cannot be calibrated."""

import pytest
import torch
from torch import nn

from lib.cnn.networks import build
from lib.cnn.quant_graph import QuantNetwork, prepare_network
from lib.cnn.quant_reconstruction import reconstruct
from lib.cnn.quantizers import ScaleKind, Widths
from lib.cnn.rapq import Recipe
from lib.errors import ReproError


def network_and_images(
    kind: ScaleKind, widths: str = "w2a4", count: int = 16
) -> tuple[nn.Module, QuantNetwork, torch.Tensor]:
    torch.manual_seed(0)
    model = build("resnet_small").eval()
    images = torch.randn(count, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    return model, prepare_network(model, Widths.named(widths), kind, images), images


def error(kind: ScaleKind, recipe: Recipe, c: float = 0.0) -> float:
    model, network, images = network_and_images(kind)
    reconstruct(network, images, recipe, torch.Generator().manual_seed(0), c=c)
    with torch.no_grad():
        return float((network(images) - model(images)).square().mean())


@pytest.mark.parametrize("kind", ["float", "nearest", "learned"])
def test_learning_lowers_the_error(kind: ScaleKind) -> None:
    assert error(kind, Recipe(60, 10, batch_size=8)) < error(kind, Recipe(0, 0))


def test_every_scale_ends_as_a_power_of_two() -> None:
    _, network, images = network_and_images("learned")
    reconstruct(network, images, Recipe(5, 5, batch_size=4), torch.Generator(), c=0.9)
    for layer in network.layers:
        assert layer.quantizer is not None
        assert bool((torch.frexp(layer.quantizer.scale.values()[0]).mantissa == 0.5).all())
    for quantizer in network.activations:
        assert torch.frexp(quantizer.values()[0]).mantissa == 0.5


def test_exponents_move_away_from_the_nearest() -> None:
    _, network, images = network_and_images("learned")
    recipe = Recipe(40, 0, batch_size=8, scale_rate=0.2, scale_share=0.5)
    reconstruct(network, images, recipe, torch.Generator().manual_seed(0))
    moved = 0
    for layer in network.layers:
        assert layer.quantizer is not None
        scale = layer.quantizer.scale
        assert scale.exponent is not None
        moved += int((scale.exponent != torch.floor(scale.log2 + 0.5)).sum())
    assert moved > 0


def test_the_same_generator_gives_the_same_network() -> None:
    assert error("learned", Recipe(5, 5, batch_size=4)) == error("learned", Recipe(5, 5, batch_size=4))


def test_the_exponent_of_the_loss_matters() -> None:
    recipe = Recipe(20, 0, batch_size=8)
    assert error("learned", recipe, c=0.9) != error("learned", recipe)


def test_one_image_is_enough() -> None:
    _, network, images = network_and_images("learned", count=1)
    reconstruct(network, images, Recipe(3, 3, batch_size=4), torch.Generator())
    with torch.no_grad():
        assert torch.isfinite(network(images)).all()


def test_no_image_is_refused() -> None:
    _, network, images = network_and_images("learned")
    with pytest.raises(ReproError, match="empty"):
        reconstruct(network, images[:0], Recipe(1, 1), torch.Generator())


def test_nan_in_an_image_is_refused_and_the_unit_named() -> None:
    _, network, images = network_and_images("learned")
    images[3, 0, 2, 2] = torch.nan
    with pytest.raises(ReproError, match=r"unit \w+ .*not finite"):
        reconstruct(network, images, Recipe(1, 1), torch.Generator())


def test_32_bits_survive_reconstruction() -> None:
    model, network, images = network_and_images("learned", "w32a32")
    reconstruct(network, images, Recipe(3, 3), torch.Generator(), c=0.9)
    with torch.no_grad():
        assert torch.allclose(network(images), model(images), atol=1e-4)


def test_progress_names_each_unit_twice() -> None:
    _, network, images = network_and_images("nearest")
    names: list[str] = []
    reconstruct(network, images, Recipe(0, 0), torch.Generator(), progress=names.append)
    assert names == 2 * [unit.name for unit in network.units()]
