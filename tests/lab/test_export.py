"""Exported networks answer as the masked ones do."""

from pathlib import Path

import pytest
import torch

from lib.cnn.removal import mask_channels, remove_channels
from lib.lab.export import export_onnx, onnx_runner
from tests.cnn.parts import SMALL, blank, network, pictures, sites_of, some_channels


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("batch", [1, 3])
def test_exported_network_equals_the_masked_one(name: str, batch: int, tmp_path: Path) -> None:
    model, images = network(name), pictures(batch)
    sites = sites_of(model)
    kept = some_channels(sites, 0.5)
    export_onnx(remove_channels(model, sites, kept, blank(name)), images, tmp_path / "network.onnx")
    with torch.no_grad():
        masked = mask_channels(model, sites, kept)(images)
    answer = torch.from_numpy(onnx_runner(tmp_path / "network.onnx", images)()[0])
    torch.testing.assert_close(answer, masked, rtol=1e-3, atol=1e-4)
