"""AS-ViT: scores from attention, learnable thresholds, and a budget whose gradient reaches them."""

import pytest
import torch

from hw_models import trace
from lib.errors import WrongUse
from lib.lab.backbones import build
from lib.vit import as_vit
from lib.vit.as_vit_budget import Budget
from lib.vit.attention import AttentionView
from lib.vit.selectors import Candidates
from tests.vit.parts import network, pictures

CLOSE = 1.0e-4


def scored(class_attention: torch.Tensor, context_norm: torch.Tensor) -> torch.Tensor:
    rows = len(class_attention)
    view = AttentionView(class_attention, context_norm)
    image, position = torch.zeros(rows, dtype=torch.long), torch.arange(rows)
    candidates = Candidates(torch.zeros(rows, 4), torch.ones(rows), image, position, 1, rows, None, view)
    return as_vit.HeadWeightedSelector()(candidates)


def calibrated_host(backbone: torch.nn.Module, images: torch.Tensor) -> as_vit.TokenHost:
    """Thresholds at the medians of the scores, so that images keep different numbers of patches."""
    host = as_vit.prune(backbone, thresholds=(-1.0, -1.0, -1.0)).eval()
    with torch.inference_mode():
        traces = host(images, execution="masked").stages
    for threshold, stage in zip(as_vit.thresholds_of(host), traces, strict=True):
        threshold.data.fill_(float(stage.scores.median()))
    return host


def test_score_by_hand() -> None:
    # norms 3 and 1: shares 3/4 and 1/4
    score = scored(torch.tensor([[0.4, 0.8]]), torch.tensor([[3.0, 1.0]]))
    assert score.item() == pytest.approx(0.75 * 0.4 + 0.25 * 0.8)


def test_score_lies_between_the_heads_and_is_their_mean_for_equal_norms() -> None:
    generator = torch.Generator().manual_seed(0)
    attention, norm = (torch.rand(50, 6, generator=generator) for _ in range(2))
    score = scored(attention, norm)
    assert ((score >= attention.amin(1) - 1e-6) & (score <= attention.amax(1) + 1e-6)).all()
    torch.testing.assert_close(scored(attention, torch.ones(50, 6)), attention.mean(1))


@pytest.mark.parametrize("execution", ["masked", "gathered"])
def test_negative_thresholds_are_the_backbone_bit_for_bit(execution: str) -> None:
    backbone, images = network(), pictures(3, network())
    host = as_vit.prune(backbone, thresholds=(-1.0, -1.0, -1.0)).eval()
    with torch.inference_mode():
        assert torch.equal(host(images, execution=execution).logits, backbone(images))


@pytest.mark.parametrize("name", ["small", "lv"])
@pytest.mark.parametrize("batch", [1, 5])
def test_masked_equals_gathered_with_counts_that_differ(name: str, batch: int) -> None:
    backbone = network(name)
    images = pictures(batch, backbone)
    host = as_vit.prune(backbone, blocks=(2, 4, 7), thresholds=(-1.0, -1.0, -1.0)).eval()
    with torch.inference_mode():
        traces = host(images, execution="masked").stages
        for threshold, stage in zip(as_vit.thresholds_of(host), traces, strict=True):
            threshold.data.fill_(float(stage.scores.median()))
        masked, gathered = host(images, execution="masked"), host(images)
    for left, right in zip(masked.stages, gathered.stages, strict=True):
        assert torch.equal(left.keep, right.keep)
    assert (masked.logits - gathered.logits).abs().max() < CLOSE


def test_no_survivors_leave_the_class_token_alone() -> None:
    backbone = network()
    host = as_vit.prune(backbone, thresholds=(1.0, 1.0, 1.0)).eval()
    with torch.inference_mode():
        output = host(pictures(2, backbone))
    assert output.stages[0].keep.sum() == 0
    assert output.logits.isfinite().all()


def test_three_scalars_are_all_that_is_added() -> None:
    backbone = network()
    before = sum(parameter.numel() for parameter in backbone.parameters())
    host = as_vit.prune(backbone)
    assert sum(parameter.numel() for parameter in host.parameters()) == before + 3


def test_gradients_reach_every_threshold_and_a_higher_one_costs_less() -> None:
    backbone = network()
    images = pictures(8, backbone)
    host = calibrated_host(backbone, images).train()
    budget = Budget.of(host)
    budget.macs([trace.keep for trace in host(images, execution="masked").stages]).mean().backward()
    for threshold in as_vit.thresholds_of(host):
        assert threshold.grad is not None
        assert threshold.grad < 0


def test_threshold_far_from_every_score_gets_no_gradient() -> None:
    backbone = network()
    host = as_vit.prune(backbone, thresholds=(-1.0, -1.0, -1.0)).train()
    keeps = [trace.keep for trace in host(pictures(2, backbone), execution="masked").stages]
    Budget.of(host).macs(keeps).mean().backward()
    assert [float(threshold.grad or 0) for threshold in as_vit.thresholds_of(host)] == [0.0] * 3


def test_lowest_feasible_budget_of_deit_s() -> None:
    host = as_vit.prune(build("deit_s"), thresholds=(1.0, 1.0, 1.0)).eval()
    assert Budget.of(host, as_released=True).lowest == pytest.approx(0.347, abs=0.0005)
    image = torch.zeros(1, 3, 224, 224)
    counted = trace(host, image).macs / trace(host.backbone, image).macs
    assert counted == pytest.approx(Budget.of(host).lowest, abs=0.0005)


def test_impossible_settings_are_refused() -> None:
    host = as_vit.prune(network())
    with pytest.raises(WrongUse, match=r"the lowest is 0\.\d+"):
        as_vit.objective(Budget.of(host), 0.1)
    with pytest.raises(WrongUse, match="one per block"):
        as_vit.prune(network(), thresholds=(0.1,))
    with pytest.raises(WrongUse, match="temperature must be positive"):
        as_vit.prune(network(), temperature=0.0)
