"""Block importance and the penalty it is trained with."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lib.cnn.importance import block_importance, scales_of, sparse_classification
from lib.cnn.sites import pruning_blocks
from lib.errors import ReproError
from tests.cnn.parts import network, pictures, sites_of


def fill(model: nn.Module, name: str, values: list[float]) -> None:
    norm = model.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(values).repeat(norm.num_features // len(values)))


def test_mean_of_absolute_scales_by_hand() -> None:
    model = network("mobilenet_small")
    blocks = pruning_blocks(model, sites_of(model))
    fill(model, "blocks.1.expand.1", [1.0, -3.0])
    fill(model, "blocks.1.depthwise.1", [0.0, 1.0])
    # 96 channels each: (2 + 0.5) / 2; the projection's scales do not count
    assert block_importance(model, blocks)["blocks.1"] == pytest.approx(1.25)


@settings(max_examples=10, deadline=None)
@given(factor=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_scaling_and_permuting(factor: float, seed: int) -> None:
    model = network()
    blocks = pruning_blocks(model, sites_of(model))
    before = block_importance(model, blocks)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for scale in scales_of(model, sites_of(model)):
            scale.copy_(factor * scale[torch.randperm(len(scale), generator=generator)])
    after = block_importance(model, blocks)
    assert {b: after[b] / factor for b in after} == pytest.approx(before, rel=1e-4)


def test_scales_that_are_not_finite_or_all_zero_are_refused() -> None:
    model = network()
    blocks = pruning_blocks(model, sites_of(model))
    fill(model, "blocks.1.layers.0.1", [float("nan")])
    with pytest.raises(ReproError, match=r"blocks\.1 are not finite"):
        block_importance(model, blocks)
    for block in ("blocks.0", "blocks.1", "blocks.2"):
        fill(model, f"{block}.layers.0.1", [0.0])
    with pytest.raises(ReproError, match="all scales are zero"):
        block_importance(model, blocks)


def test_penalty_adds_its_sign_to_the_gradient() -> None:
    model = network().train()
    sites = [site for site in sites_of(model) if site.name == "blocks.0.layers.0.0"]
    images, labels = pictures(4), torch.tensor([0, 1, 2, 3])
    scale = scales_of(model, sites)[0]
    with torch.no_grad():
        scale[:2] = torch.tensor([-0.5, 0.0])
    plain = torch.autograd.grad(F.cross_entropy(model(images), labels), scale)[0]
    loss = sparse_classification(model, sites, 0.25)(images, labels, torch.arange(4), 0.0)
    added = torch.autograd.grad(loss, scale)[0] - plain
    torch.testing.assert_close(added[:3], torch.tensor([-0.25, 0.0, 0.25]), atol=1e-5, rtol=0)


def test_no_strength_is_plain_cross_entropy() -> None:
    model = network()
    images, labels = pictures(2), torch.tensor([0, 1])
    loss = sparse_classification(model, sites_of(model), 0.0)(images, labels, torch.arange(2), 0.0)
    assert torch.equal(loss, F.cross_entropy(model(images), labels))
