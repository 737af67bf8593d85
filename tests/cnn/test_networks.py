"""Networks: published sizes, any side, names."""

import pytest
import torch

from hw_models import trace
from lib.cnn.networks import NETWORKS, build, example, mobilenet_v2, rounded_to_8
from lib.errors import WrongUse
from lib.lab.backbones import parameters

PUBLISHED = {
    "mobilenet_v2": (3_504_872, 300_774_272),
    "resnet50": (25_557_032, 4_089_184_256),
    "resnet18": (11_689_512, 1_814_073_344),
    "vgg16_cifar": (14_724_042, 313_201_664),
    "resnet56": (853_018, 125_485_696),
    "resnet20": (269_722, 40_551_040),
    "mobilenet_v2_cifar": (2_236_682, 87_976_448),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        model = build(name)
    assert (parameters(model), trace(model, example(name)).macs) == PUBLISHED[name]


@pytest.mark.parametrize("name", ["vgg_small", "resnet_small", "mobilenet_small"])
@pytest.mark.parametrize(("batch", "side"), [(1, 28), (3, 17)])
def test_small_networks_take_any_side_and_a_batch_of_one(name: str, batch: int, side: int) -> None:
    assert build(name, classes=5).eval()(torch.zeros(batch, 1, side, side)).shape == (batch, 5)


@pytest.mark.parametrize(("width", "rounded"), [(16, 16), (8.4, 8), (12, 16), (11, 16), (19.2, 24), (1, 8)])
def test_rounding_to_8_by_hand(width: float, rounded: int) -> None:
    assert rounded_to_8(width) == rounded


def test_uniform_width_leaves_the_last_convolution_alone() -> None:
    assert parameters(mobilenet_v2(1000, 3, width=0.5)) == 1_968_680


def test_unknown_name_gets_a_hint() -> None:
    assert "resnet50" in NETWORKS
    with pytest.raises(WrongUse, match="did you mean resnet5"):
        build("resnet-50")
