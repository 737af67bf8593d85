"""ONNX: the exported network gives the simulated logits, but for ties in rounding."""

import pytest
import torch

from lib.cnn import quant_onnx, quantizers
from lib.cnn.networks import build
from lib.cnn.quant_graph import QuantNetwork, prepare_network
from lib.cnn.quant_reconstruction import reconstruct
from lib.cnn.quantizers import Widths
from lib.cnn.rapq import Recipe
from lib.errors import ReproError
from lib.lab.export import onnx_session


def quantized(name: str, widths: str) -> tuple[QuantNetwork, torch.Tensor]:
    torch.manual_seed(2)
    images = torch.randn(8, 1, 13, 13, generator=torch.Generator().manual_seed(2))
    network = prepare_network(build(name), Widths.named(widths), "nearest", images)
    reconstruct(network, images, Recipe(0, 0), torch.Generator())
    return network, images


def halves_to_even(x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, levels: int) -> torch.Tensor:
    """Quantization as ONNX defines it."""
    return ((torch.round(x / scale) + zero).clamp(0, levels - 1) - zero) * scale


@pytest.mark.parametrize("name", ["mobilenet_small", "resnet_small", "vgg_small"])
def test_onnx_runtime_gives_the_simulated_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = quantized(name, "w8a8")
    monkeypatch.setattr(quantizers, "dequantized", halves_to_even)
    run = onnx_session(quant_onnx.to_onnx(network, images[:1]))
    for batch in (images, images[:1]):
        (found,) = run.run(None, {"images": batch.numpy()})
        with torch.no_grad():
            wanted = network(batch)
        assert found.shape == wanted.shape
        assert (torch.from_numpy(found) - wanted).abs().max() < 0.02 * wanted.std()


def test_agreement_and_latency() -> None:
    network, images = quantized("resnet_small", "w8a8")
    model = quant_onnx.to_onnx(network, images[:1])
    assert quant_onnx.agreement(model, network, images) >= 75  # ties in rounding may turn a close call
    assert min(quant_onnx.latencies_ms(model, images[:1], batches=(1, 2)).values()) > 0


def test_other_widths_are_refused() -> None:
    network, images = quantized("resnet_small", "w4a4")
    with pytest.raises(ReproError, match="8 bits only"):
        quant_onnx.to_onnx(network, images[:1])
