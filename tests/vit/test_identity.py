"""A host that drops nothing is the network it hosts, bit for bit."""

from typing import get_args

import pytest
import torch

from lib.lab.backbones import build
from lib.vit import spvit
from lib.vit.host import Execution, TokenHost
from tests.vit.parts import PATCHES, network, oblong, oblong_pictures, pictures, planted_host, random_scores


@pytest.mark.parametrize("execution", get_args(Execution))
@pytest.mark.parametrize(("name", "batch"), [("small_vit", 3), ("deit_t", 2), ("lv_vit_s", 1)])
def test_keep_ratios_of_one_are_the_network_itself(name: str, batch: int, execution: Execution) -> None:
    torch.manual_seed(0)
    backbone = build(name)
    images = pictures(batch, backbone)
    host = spvit.prune(backbone, (1.0, 1.0, 1.0)).eval()
    with torch.inference_mode():
        assert torch.equal(host(images, execution=execution).logits, backbone(images))


@pytest.mark.parametrize("batch", [1, 3])
def test_oblong_images(batch: int) -> None:
    backbone, images = oblong(), oblong_pictures(batch)
    with torch.inference_mode():
        whole = spvit.prune(backbone, (0.9, 0.8, 0.7), blocks=(1, 2, 3), counts=(15,) * 3).eval()
        assert torch.equal(whole(images).logits, backbone(images))
        host = spvit.prune(backbone, (0.7, 0.5, 0.3), blocks=(1, 2, 3), counts=(11, 8, 5)).eval()
        masked, gathered = host(images, execution="masked"), host(images)
    assert [stage.keep.sum(1).tolist() for stage in gathered.stages] == [
        [count] * batch for count in (11, 8, 5)
    ]
    assert (masked.logits - gathered.logits).abs().max() < 1e-4


@pytest.mark.parametrize("execution", get_args(Execution))
@pytest.mark.parametrize("soft", [True, False])
def test_selectors_that_keep_everything_change_nothing(execution: Execution, soft: bool) -> None:
    backbone = network()
    images = pictures(3, backbone)
    host = spvit.prune(backbone, (0.9, 0.8, 0.7), soft=soft, counts=(PATCHES,) * 3).eval()
    with torch.inference_mode():
        output = host(images, execution=execution)
        assert torch.equal(output.logits, backbone(images))
    assert len(output.stages) == 3


@pytest.mark.parametrize("execution", get_args(Execution))
def test_stages_not_in_use_change_nothing(execution: Execution) -> None:
    backbone = network()
    images = pictures(2, backbone)
    host = planted_host(backbone, random_scores(2))
    host.activate(frozenset())
    with torch.inference_mode():
        output = host(images, execution=execution)
        assert torch.equal(output.logits, backbone(images))
    assert output.stages == []


def test_backbone_is_neither_copied_nor_changed() -> None:
    backbone = network()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    host = spvit.prune(backbone, (0.7, 0.5, 0.3)).eval()
    with torch.inference_mode():
        host(pictures(2, backbone))
    assert host.backbone is backbone
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_without_stages_the_masked_training_pass_is_the_network() -> None:
    backbone = network()
    images = pictures(4, backbone)
    host = TokenHost(backbone, {}).train()
    torch.manual_seed(0)
    masked = host(images, execution="masked").logits
    assert torch.equal(masked, backbone(images))
