"""AS-ViT: scores from attention, learnable thresholds, and a budget whose gradient reaches them."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
import torch

from hw_models import trace
from lib.errors import WrongUse
from lib.lab.backbones import build
from lib.vit import as_vit
from lib.vit.as_vit_budget import Budget
from lib.vit.attention import AttentionView
from lib.vit.host import Output, StageTrace, blocks_of
from lib.vit.selectors import Candidates
from lib.vit.topk import prune_by_class_attention
from tests.vit.parts import network, oblong, oblong_pictures, pictures

if TYPE_CHECKING:
    pass

CLOSE = 1.0e-4


def scored(class_attention: torch.Tensor, context_norm: torch.Tensor) -> torch.Tensor:
    rows = len(class_attention)
    view = AttentionView(class_attention, context_norm)
    image, position = torch.zeros(rows, dtype=torch.long), torch.arange(rows)
    candidates = Candidates(torch.zeros(rows, 4), torch.ones(rows), image, position, 1, rows, None, view)
    return as_vit.HeadWeightedSelector()(candidates)


def calibrated_host(
    backbone: torch.nn.Module, images: torch.Tensor, blocks: Sequence[int] = as_vit.BLOCKS["deit"]
) -> as_vit.TokenHost:
    """Thresholds at the medians of the scores, so that images keep different numbers of patches."""
    host = as_vit.prune(backbone, blocks=blocks, thresholds=(-1.0, -1.0, -1.0)).eval()
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
    host = calibrated_host(backbone, images, blocks=(2, 4, 7))
    with torch.inference_mode():
        masked, gathered = host(images, execution="masked"), host(images)
    for left, right in zip(masked.stages, gathered.stages, strict=True):
        assert torch.equal(left.keep, right.keep)
    assert (masked.logits - gathered.logits).abs().max() < CLOSE


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("execution", ["masked", "gathered"])
def test_identity_on_oblong_images(batch: int, execution: str) -> None:
    backbone = oblong()
    images = oblong_pictures(batch)
    host = as_vit.prune(backbone, blocks=(1, 2, 3), thresholds=(-1.0, -1.0, -1.0)).eval()
    with torch.inference_mode():
        output = host(images, execution=execution)
        assert torch.equal(output.logits, backbone(images))
    assert [stage.keep.sum(1).tolist() for stage in output.stages] == [[15] * batch] * 3


@pytest.mark.parametrize("batch", [1, 3])
def test_masked_equals_gathered_on_oblong_images(batch: int) -> None:
    images = oblong_pictures(batch)
    host = calibrated_host(oblong(), images, blocks=(1, 2, 3))
    with torch.inference_mode():
        masked, gathered = host(images, execution="masked"), host(images)
    for left, right in zip(masked.stages, gathered.stages, strict=True):
        assert torch.equal(left.keep, right.keep)
    assert 0 < gathered.stages[-1].keep.sum() < 15 * batch
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


def stage(threshold: float, temperature: float = 1.0e-4) -> as_vit.ThresholdStage:
    return as_vit.ThresholdStage(as_vit.HeadWeightedSelector(), threshold, temperature)


def test_training_decisions_are_hard_with_the_slope_of_the_sigmoid() -> None:
    made = stage(0.3, 0.1).train()
    scores = torch.tensor([[0.4, 0.3, 0.1]], requires_grad=True)
    keep = made.decide(scores, torch.ones(1, 3), None)
    assert keep.round().tolist() == [[1, 0, 0]]  # a score at the threshold does not exceed it
    keep.sum().backward()
    soft = torch.sigmoid(torch.tensor([1.0, 0.0, -2.0]))
    slope = soft * (1 - soft) / 0.1
    torch.testing.assert_close(scores.grad, slope[None])
    assert made.threshold.grad is not None
    assert made.threshold.grad.item() == pytest.approx(-slope.sum().item())


def test_a_token_that_is_gone_stays_gone_although_the_threshold_is_negative() -> None:
    alive = torch.tensor([[1.0, 0.0, 1.0]])
    for training in (True, False):
        keep = stage(-1.0).train(training).decide(torch.zeros(1, 3), alive, None)
        assert keep.tolist() == alive.tolist()


def test_thresholds_and_temperature_are_scaled_to_the_number_of_tokens() -> None:
    small, deit = as_vit.prune(network()), as_vit.prune(build("deit_s"))
    starts = torch.stack([threshold.detach() for threshold in as_vit.thresholds_of(small)])
    torch.testing.assert_close(starts, 197 / 50 * torch.tensor([0.001, 0.002, 0.003]))
    assert [made.temperature for made in small.ordered] == pytest.approx([197 / 50 * 1e-4] * 3)
    assert [made.temperature for made in deit.ordered] == pytest.approx([1e-4] * 3)


@pytest.mark.parametrize("name", ["deit", "lv_vit_s", "lv_vit_m"])
def test_positions_fit_their_networks(name: str) -> None:
    blocks = as_vit.BLOCKS[name]
    host = as_vit.prune(build("deit_s" if name == "deit" else name), blocks=blocks)
    assert [int(block) for block in host.stages] == list(blocks)


def test_scores_are_those_of_the_block_before() -> None:
    backbone, images = network(), pictures(2, network())
    host = as_vit.prune(backbone, blocks=(4,), thresholds=(-1.0,)).eval()
    with torch.inference_mode():
        x = backbone._pos_embed(backbone.patch_embed(images))
        for block in blocks_of(backbone)[:3]:
            x = block(x)
        block = blocks_of(backbone)[3]
        q, k, v = block.attn.qkv(block.norm1(x)).reshape(2, 50, 3, 4, 16).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / 4).softmax(-1)
        norm = (weights @ v).norm(dim=-1)
        expected = (norm / norm.sum(1, keepdim=True) * weights[:, :, 0]).sum(1)[:, 1:]
        torch.testing.assert_close(host(images).stages[0].scores, expected)


def test_mask_of_training_leaves_out_dropped_tokens_but_not_oneself() -> None:
    backbone, images = network(), pictures(2, network())
    host = calibrated_host(backbone, images)
    with torch.no_grad():
        evaluated = host(images).logits
        host.train().backbone.eval()  # batch normalisation of the stem stays as it is
        trained = host(images, execution="masked", eps=0.0).logits
    assert (trained - evaluated).abs().max() < CLOSE


def test_activation_masks_let_dropped_tokens_into_the_softmax_while_training_only() -> None:
    backbone, images = network(), pictures(2, network())
    like = calibrated_host(backbone, images)
    host = as_vit.prune(backbone, masks="activations").eval()
    host.load_state_dict(like.state_dict())
    with torch.no_grad():
        assert torch.equal(host(images).logits, like(images).logits)
        assert (host.train()(images, execution="masked").logits - like(images).logits).abs().max() > CLOSE


def test_activation_masks_by_hand() -> None:
    backbone, images = network(), pictures(1, network())
    host = as_vit.prune(backbone, blocks=(11,), thresholds=(1.0,), masks="activations").train()
    with torch.no_grad():
        x = backbone._pos_embed(backbone.patch_embed(images))
        for block in blocks_of(backbone)[:11]:
            x = block(x)
        x[:, 1:] = 0
        expected = backbone.forward_head(backbone.norm(blocks_of(backbone)[11](x)))
        logits = host(images, execution="masked").logits
    torch.testing.assert_close(logits, expected)


def test_gradients_reach_thresholds_and_backbone_under_activation_masks() -> None:
    backbone, images = network(), pictures(4, network())
    host = as_vit.prune(backbone, masks="activations")
    host.load_state_dict(calibrated_host(network(), images).state_dict())
    host.train()(images, execution="masked").logits.logsumexp(1).sum().backward()
    assert all(threshold.grad is not None and threshold.grad != 0 for threshold in as_vit.thresholds_of(host))


def test_batch_average_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.0]])
    rule = as_vit.BatchAverage(torch.tensor(0.5))
    # four survivors of the first image, none of the second: two each
    assert rule(scores, torch.ones(2, 4)).tolist() == [[1, 1, 0, 0], [0, 1, 1, 0]]
    assert as_vit.Above(torch.tensor(0.5))(scores, torch.ones(2, 4)).tolist() == [[1, 1, 1, 1], [0, 0, 0, 0]]


def test_batch_average_of_one_image_is_the_threshold() -> None:
    backbone, images = network(), pictures(3, network())
    host = calibrated_host(backbone, images)
    with torch.inference_mode():
        own = [host(image[None]).logits for image in images]
        as_vit.batch_averaged(host)
        assert all(torch.equal(host(i[None]).logits, logits) for i, logits in zip(images, own, strict=True))
        counts = host(images).stages[0].keep.sum(1)
        assert len(set(counts.tolist())) == 1
        assert torch.equal(as_vit.per_image(host)(images[:1]).logits, own[0])


@pytest.mark.parametrize("survivors", [0, 1])
@pytest.mark.parametrize("execution", ["masked", "gathered"])
def test_one_survivor_or_none_in_a_single_image(survivors: int, execution: str) -> None:
    backbone = network("lv")
    image = pictures(1, backbone)
    host = as_vit.prune(backbone, blocks=(2, 5, 7), thresholds=(-1.0, -1.0, -1.0)).eval()
    with torch.inference_mode():
        scores = host(image).stages[0].scores.sort(descending=True).values[0]
        as_vit.thresholds_of(host)[0].fill_(float(scores[survivors]))
        output = host(image, execution=execution)
        other = host(image, execution="gathered" if execution == "masked" else "masked")
    assert output.stages[0].keep.sum() == survivors
    assert (output.logits - other.logits).abs().max() < CLOSE


def test_a_copied_host_decides_by_its_own_thresholds() -> None:
    host = as_vit.prune(network()).eval()
    copied = copy.deepcopy(host)
    for threshold in as_vit.thresholds_of(copied):
        threshold.data.fill_(1.0)
    images = pictures(2, host.backbone)
    with torch.inference_mode():
        assert copied(images).stages[0].keep.sum() == 0
        assert host(images).stages[0].keep.sum() > 0


def planted_output() -> tuple[Output, Output, torch.Tensor]:
    logits, teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    keep = torch.zeros(2, 49)
    keep[0, :20] = 1
    return Output(logits, [StageTrace(keep, keep)] * 3), Output(teacher, []), torch.tensor([0, 1])


def test_objective_by_hand() -> None:
    budget = Budget.of(as_vit.prune(network()))
    output, dense, labels = planted_output()
    student, teacher = output.logits.softmax(-1), dense.logits.softmax(-1)
    cross = torch.nn.functional.cross_entropy(output.logits, labels)
    distance = (student * (student / teacher).log()).sum(-1).mean()
    share = budget.of_counts(torch.tensor([[20.0] * 3, [0.0] * 3])).mean() / budget.dense
    expected = cross + 0.5 * distance + 2 * (share - 0.7).abs()
    torch.testing.assert_close(as_vit.objective(budget, 0.7)(output, labels, dense, [0, 1, 2]), expected)


def test_budget_in_absolute_operations_weighs_more_by_the_dense_cost() -> None:
    budget = Budget.of(as_vit.prune(build("deit_s")), as_released=True)
    macs = torch.tensor(0.8 * budget.dense)
    share = as_vit.budget_loss(macs, budget, 0.65)
    absolute = as_vit.budget_loss(macs, budget, 0.65, absolute=True)
    assert share.item() == pytest.approx(0.15, abs=1e-6)
    assert (absolute / share).item() == pytest.approx(4.574, abs=1e-3)


def test_default_weights_are_the_papers() -> None:
    assert as_vit.LossWeights() == as_vit.LossWeights(budget=2.0, distillation=0.5, absolute=False)


def test_a_host_without_thresholds_is_refused() -> None:
    with pytest.raises(WrongUse, match="no thresholds"):
        as_vit.thresholds_of(prune_by_class_attention(network(), (20, 10, 5)))


def test_a_threshold_in_front_of_the_first_block_is_refused() -> None:
    with pytest.raises(WrongUse, match="block 0"):
        as_vit.prune(network(), blocks=(0, 7, 10))
