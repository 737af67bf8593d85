"""The fixed-ratio control: top-k by class attention, in front of a block or inside it."""

import pytest
import torch

from lib.errors import WrongUse
from lib.vit.attention import attend
from lib.vit.host import TokenHost, TokenStage, blocks_of
from lib.vit.selectors import Count, Threshold
from lib.vit.topk import ClassAttentionSelector, prune_by_class_attention
from tests.vit.parts import PATCHES, network, pictures

CLOSE = 1.0e-4


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", ["small", "lv"])
@pytest.mark.parametrize("batch", [1, 3])
def test_masked_equals_gathered(name: str, batch: int, inside: bool) -> None:
    backbone = network(name)
    blocks = (2, 4, 7)
    patches = backbone.patch_embed.num_patches
    counts = (patches // 2, patches // 3, 1)
    for package in (True, False):
        host = prune_by_class_attention(backbone, counts, blocks=blocks, inside=inside, package=package)
        images = pictures(batch, backbone)
        with torch.inference_mode():
            masked, gathered = host.eval()(images, execution="masked"), host(images)
        assert [int(trace.keep.sum(1)[0]) for trace in gathered.stages] == list(counts)
        for left, right in zip(masked.stages, gathered.stages, strict=True):
            assert torch.equal(left.keep, right.keep)
        assert (masked.logits - gathered.logits).abs().max() < CLOSE


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("execution", ["masked", "gathered"])
def test_looking_without_dropping_is_the_backbone_bit_for_bit(inside: bool, execution: str) -> None:
    backbone = network()
    stages = {
        block: TokenStage(ClassAttentionSelector(), Threshold(0.0), package=True, inside=inside)
        for block in (3, 6)
    }
    images = pictures(3, backbone)
    with torch.inference_mode():
        expected = backbone(images)
        assert torch.equal(TokenHost(backbone, stages).eval()(images, execution=execution).logits, expected)


@pytest.mark.parametrize("inside", [True, False])
def test_patches_kept_are_those_that_the_right_block_looks_at(inside: bool) -> None:
    backbone = network()
    images = pictures(2, backbone)
    host = prune_by_class_attention(backbone, (10,), blocks=(3,), inside=inside).eval()
    with torch.inference_mode():
        x = backbone._pos_embed(backbone.patch_embed(images))
        looking = 3 if inside else 2
        for block in blocks_of(backbone)[:looking]:
            x = block(x)
        block = blocks_of(backbone)[looking]
        scores = attend(block.attn, block.norm1(x))[1].class_attention().mean(1)[:, 1:]
        kept = host(images).stages[0].keep
    for image in range(2):
        assert set(kept[image].nonzero()[:, 0].tolist()) == set(scores[image].topk(10).indices.tolist())


def test_training_gathered_reaches_every_parameter() -> None:
    backbone = network()
    host = prune_by_class_attention(backbone, (30, 20, 10)).train()
    host(pictures(4, backbone)).logits.square().sum().backward()
    unreached = [name for name, p in host.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


def test_connected_patches_are_seen_alike_in_both_executions() -> None:
    backbone = network()

    def strongest(attention: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return (attention >= attention.quantile(0.8, dim=-1, keepdim=True)).to(attention)

    stages = {
        block: TokenStage(
            ClassAttentionSelector(), Count(count), package=False, inside=True, connect=strongest
        )
        for block, count in ((3, 30), (6, 20))
    }
    host, images = TokenHost(backbone, stages).eval(), pictures(3, backbone)
    with torch.inference_mode():
        masked, gathered = host(images, execution="masked"), host(images)
        for stage in host.ordered:
            stage.connect = None
        free = host(images)
    assert (masked.logits - gathered.logits).abs().max() < CLOSE
    assert (free.logits - gathered.logits).abs().max() > CLOSE
    assert gathered.stages[0].connected is not None
    assert gathered.stages[0].connected.shape == (3, PATCHES, PATCHES)


def test_all_patches_need_no_stage() -> None:
    assert len(prune_by_class_attention(network(), (PATCHES,) * 3).stages) == 0


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(WrongUse, match="one per block"):
        prune_by_class_attention(network(), (10, 5))
    with pytest.raises(WrongUse, match="between 1 and 49"):
        prune_by_class_attention(network(), (50, 5, 5))
    with pytest.raises(WrongUse, match="in front of block 0"):
        prune_by_class_attention(network(), (20,), blocks=(0,), inside=False)
