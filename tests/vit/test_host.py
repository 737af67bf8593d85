"""Masked and gathered execution agree, whatever is dropped; tokens are conserved."""

import pytest
import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.lab.backbones import build
from lib.vit import spvit
from lib.vit.host import Output, TokenHost, TokenStage
from lib.vit.selectors import RandomSelector, Rule, Threshold
from tests.vit.parts import BLOCKS, PATCHES, network, pictures, planted_host, random_scores

CLOSE = 1.0e-4


def both(host: TokenHost, images: Tensor, seed: int = 0) -> tuple[Output, Output]:
    """Masked and gathered outputs under equal generators."""
    with torch.inference_mode():
        masked = host(images, execution="masked", generator=torch.Generator().manual_seed(seed))
        gathered = host(images, execution="gathered", generator=torch.Generator().manual_seed(seed))
    return masked, gathered


def check_agreement(host: TokenHost, images: Tensor) -> tuple[Output, Output]:
    """Asserts that both executions drop the same patches and give the same logits."""
    masked, gathered = both(host, images)
    for left, right in zip(masked.stages, gathered.stages, strict=True):
        assert torch.equal(left.keep, right.keep)
    assert (masked.logits - gathered.logits).abs().max() < CLOSE
    return masked, gathered


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("name", ["small", "lv"])
def test_masked_equals_gathered_with_fixed_counts(name: str, batch: int, soft: bool) -> None:
    backbone = network(name)
    patches = backbone.patch_embed.num_patches
    torch.manual_seed(0)
    targets = (0.7, 0.49, 0.343)
    host = spvit.prune(backbone, targets, soft=soft, counts=spvit.kept_patches(targets, patches)).eval()
    masked, _ = check_agreement(host, pictures(batch, backbone))
    counts = [trace.keep.sum(1).unique().tolist() for trace in masked.stages]
    assert counts == [[count] for count in spvit.kept_patches(targets, patches)]


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("name", ["small", "lv"])
def test_masked_equals_gathered_with_unequal_counts(name: str, batch: int, soft: bool) -> None:
    backbone = network(name)
    scores = random_scores(batch, backbone.patch_embed.num_patches)
    scores[0] = scores[0] + torch.linspace(-0.3, 0.3, batch)[:, None]
    host = planted_host(backbone, scores, package=soft)
    masked, _ = check_agreement(host, pictures(batch, backbone))
    if batch > 1:
        assert len(masked.stages[0].keep.sum(1).unique()) > 1


@pytest.mark.parametrize("soft", [True, False])
def test_masked_equals_gathered_with_learned_scores_and_thresholds(soft: bool) -> None:
    backbone = network()
    torch.manual_seed(2)
    host = spvit.prune(backbone, (0.7, 0.49, 0.343), soft=soft).eval()
    for stage in host.ordered:
        for parameter in stage.parameters():
            nn.init.normal_(parameter, std=0.5)
    images = pictures(6, backbone)
    with torch.inference_mode():
        first = host(images, execution="masked")
    host.decide_by([Threshold(trace.scores.median().item()) for trace in first.stages])
    masked, _ = check_agreement(host, images)
    assert len(masked.stages[0].keep.sum(1).unique()) > 1


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("name", ["small", "lv"])
def test_masked_equals_gathered_when_all_patches_are_dropped(name: str, soft: bool) -> None:
    backbone = network(name)
    scores = [torch.full((3, backbone.patch_embed.num_patches), 0.1)] * 3
    host = planted_host(backbone, scores, package=soft)
    masked, gathered = check_agreement(host, pictures(3, backbone))
    assert masked.stages[0].keep.sum() == 0
    assert gathered.logits.isfinite().all()


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("name", ["small", "lv"])
def test_masked_equals_gathered_when_one_image_loses_all_and_one_nothing(name: str, soft: bool) -> None:
    backbone = network(name)
    scores = random_scores(3, backbone.patch_embed.num_patches)
    for values in scores:
        values[0], values[2] = 0.1, 0.9
    check_agreement(planted_host(backbone, scores, package=soft), pictures(3, backbone))


def test_random_selector_drops_the_same_patches_in_both_executions() -> None:
    backbone = network()
    host = spvit.prune_randomly(backbone, (30, 20, 10), soft=True).eval()
    first, _ = check_agreement(host, pictures(4, backbone))
    other, _ = both(host, pictures(4, backbone), seed=1)
    assert not torch.equal(first.stages[0].keep, other.stages[0].keep)


def test_image_does_not_depend_on_the_others_of_its_batch() -> None:
    backbone = network()
    scores, images = random_scores(4), pictures(4, backbone)
    with torch.inference_mode():
        together = planted_host(backbone, scores)(images).logits
        alone = planted_host(backbone, [values[1:2] for values in scores])(images[1:2]).logits
    assert (together[1:2] - alone).abs().max() < CLOSE


def test_kept_and_dropped_patches_add_up_and_are_nested() -> None:
    backbone = network()
    scores = random_scores(5)
    masked, _ = both(planted_host(backbone, scores), pictures(5, backbone))
    alive, dropped_before = torch.ones(5, PATCHES), torch.zeros(5)
    for trace, values in zip(masked.stages, scores, strict=True):
        kept, wanted = trace.keep.sum(1), alive * (values >= 0.5)
        dropped = (alive - trace.keep).sum(1)
        assert torch.equal(trace.keep, wanted)
        assert torch.equal(kept + dropped + dropped_before, torch.full((5,), float(PATCHES)))
        alive, dropped_before = trace.keep, dropped_before + dropped


def test_dropped_patch_never_returns_while_training() -> None:
    backbone = network()
    torch.manual_seed(0)
    host = spvit.prune(backbone, (0.7, 0.6, 0.5)).train()
    output = host(pictures(8, backbone), execution="masked", generator=torch.Generator().manual_seed(0))
    first, second, third = (trace.keep for trace in output.stages)
    assert 0 < first.mean() < 1
    assert (second <= first).all()
    assert (third <= second).all()


def test_dropped_patch_never_returns_although_its_score_rises() -> None:
    scores = [torch.full((1, PATCHES), value) for value in (0.9, 0.9, 0.9)]
    scores[0][0, 7] = 0.1
    backbone = network()
    masked, gathered = check_agreement(planted_host(backbone, scores), pictures(1, backbone))
    assert [trace.keep[0, 7] for trace in (*masked.stages, *gathered.stages)] == [0] * 6


def test_class_token_goes_on_alone_when_every_patch_is_dropped() -> None:
    backbone = network()
    host = planted_host(backbone, [torch.zeros(2, PATCHES)], package=False, blocks=(0,))
    images = pictures(2, backbone)
    with torch.inference_mode():
        class_token = backbone._pos_embed(backbone.patch_embed(images))[:, :1]
        expected = backbone.forward_head(backbone.norm(backbone.blocks(class_token)))
    masked, gathered = check_agreement(host, images)
    assert (gathered.logits - expected).abs().max() < CLOSE
    assert (masked.logits - expected).abs().max() < CLOSE


@pytest.mark.parametrize("execution", ["masked", "gathered"])
def test_package_is_the_score_weighted_mean_and_no_package_where_nothing_fell(execution: str) -> None:
    backbone = network()
    scores = torch.full((2, PATCHES), 0.9)
    scores[0, 3], scores[0, 11] = 0.1, 0.3
    host = planted_host(backbone, [scores], blocks=(0,))
    images = pictures(2, backbone)
    with torch.inference_mode():
        x = backbone._pos_embed(backbone.patch_embed(images))
        first = x[0, [0, *(1 + n for n in range(PATCHES) if n not in (3, 11))]]
        package = (0.1 * x[0, 1 + 3] + 0.3 * x[0, 1 + 11]) / 0.4
        sequences = [torch.cat((first, package[None]))[None], x[1:]]
        expected = torch.cat([backbone.forward_head(backbone.norm(backbone.blocks(s))) for s in sequences])
        logits = host(images, execution=execution).logits
    assert (logits - expected).abs().max() < CLOSE


def test_package_goes_on_although_the_next_stage_drops_every_patch() -> None:
    backbone = network()
    scores = [torch.rand(2, PATCHES), torch.full((2, PATCHES), 0.1)]
    host = planted_host(backbone, scores, blocks=(3, 6))
    lengths: list[int] = []
    backbone.blocks[6].register_forward_hook(
        lambda _module, inputs, _output: lengths.append(inputs[0].shape[1])
    )
    check_agreement(host, pictures(2, backbone))
    assert lengths[-1] == 3


@pytest.mark.parametrize("soft", [True, False])
def test_gathered_blocks_compute_on_the_tokens_left(soft: bool) -> None:
    backbone = network()
    host = spvit.prune(backbone, (0.7, 0.49, 0.343), soft=soft, counts=(34, 24, 16)).eval()
    lengths: list[int] = []
    for block in backbone.blocks:
        block.register_forward_hook(lambda _module, inputs, _output: lengths.append(inputs[0].shape[1]))
    with torch.inference_mode():
        host(pictures(2, backbone))
    packages = (1, 2, 3) if soft else (0, 0, 0)
    tokens = [1 + count + more for count, more in zip((34, 24, 16), packages, strict=True)]
    assert lengths == [50] * 3 + [tokens[0]] * 3 + [tokens[1]] * 3 + [tokens[2]] * 3


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("share_heads", [True, False])
def test_gradients_reach_every_parameter_of_every_stage(batch: int, share_heads: bool) -> None:
    backbone = network()
    torch.manual_seed(0)
    targets = (0.7, 0.49, 0.343)
    host = spvit.prune(backbone, targets, share_heads=share_heads).eval()
    host.stages.train()  # batch normalisation of one image stays as it is
    output = host(pictures(batch, backbone), execution="masked", generator=torch.Generator().manual_seed(0))
    dense = TokenHost(network(), {})(pictures(batch, backbone), execution="masked")
    labels = torch.zeros(batch, dtype=torch.long)
    spvit.loss(output, labels, dense.logits, dense.tokens, targets, spvit.LossWeights()).backward()
    silent = [
        name
        for name, parameter in host.stages.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or parameter.grad.abs().max() == 0
    ]
    assert silent == []


def test_classification_alone_teaches_every_selector() -> None:
    backbone = network()
    torch.manual_seed(0)
    host = spvit.prune(backbone, (0.7, 0.49, 0.343)).train()
    output = host(pictures(4, backbone), execution="masked", generator=torch.Generator().manual_seed(0))
    output.logits.logsumexp(1).sum().backward()
    for stage in host.ordered:
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in stage.parameters())


@pytest.mark.parametrize("name", ["swin_t", "pit_ti"])
def test_backbone_without_class_token_is_refused(name: str) -> None:
    with pytest.raises(WrongUse, match="class token"):
        TokenHost(build(name), {})


@pytest.mark.parametrize("block", [-1, 12])
def test_stage_in_front_of_a_missing_block_is_refused(block: int) -> None:
    stage = TokenStage(RandomSelector(), Threshold(), package=True)
    with pytest.raises(WrongUse, match=rf"\[{block}\].*0 to 11"):
        TokenHost(network(), {block: stage})


def test_gathered_execution_cannot_be_trained() -> None:
    backbone = network()
    host = spvit.prune(backbone, (0.7, 0.5, 0.3)).train()
    with pytest.raises(WrongUse, match="masked"):
        host(pictures(2, backbone), execution="gathered")


def test_rules_are_replaced_in_the_order_of_the_blocks() -> None:
    host = planted_host(network(), random_scores(1))
    rules: list[Rule] = [Threshold(value) for value in (0.1, 0.2, 0.3)]
    host.decide_by(rules)
    assert [stage.rule for stage in host.ordered] == rules
    assert [int(name) for name in host.stages] == list(BLOCKS)
    with pytest.raises(ValueError, match="zip"):
        host.decide_by(rules[:2])
