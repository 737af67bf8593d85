"""Pruned tokens: resizing a trace gives what tracing the smaller input gives."""

import pytest
import torch
from torch import nn

from hw_models import HardwareModelError, Layer, Workload, trace, with_tokens
from hw_models.tokens import per_image
from tests.hw.toys import attention, convolution, gemm, workload

FULL, FEW = 13, 5
WIDTH, HEADS = 24, 3


class Block(nn.Module):
    """A transformer block; attention as one operation, or its scores apart."""

    def __init__(self, fused: bool = True) -> None:
        super().__init__()
        self.fused = fused
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 40), nn.GELU(), nn.Linear(40, WIDTH))

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        images, tokens, _ = x.shape
        split = self.qkv(x).reshape(images, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind(0)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q * 0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(images, tokens, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ScaledScores(nn.Module):
    """Attention that scales its scores instead of its queries."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ x.transpose(-2, -1) * 0.5).softmax(-1) @ x


def traced(module: nn.Module, tokens: int = FULL, images: int = 1) -> Workload:
    return trace(module, torch.empty(images, tokens, WIDTH))


@pytest.fixture(scope="module")
def two_blocks() -> Workload:
    return traced(nn.Sequential(Block(), Block()))


@pytest.mark.parametrize("few", [2, 5, 12])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("fused", [True, False])
def test_resized_block_equals_a_traced_smaller_one(fused: bool, images: int, few: int) -> None:
    module = nn.Sequential(Block(fused))
    resized = with_tokens(traced(module, FULL, images), FULL, {"0": few})
    smaller = traced(module, few, images)
    assert [layer.shape for layer in resized.layers] == [layer.shape for layer in smaller.layers]
    assert resized.macs == smaller.macs


@pytest.mark.parametrize("fused", [True, False])
def test_a_single_token_is_left_to_do(fused: bool) -> None:
    """Tracing one token takes fewer copies, but as many multiplications."""
    module = nn.Sequential(Block(fused))
    assert with_tokens(traced(module), FULL, {"0": 1}).macs == traced(module, 1).macs


@pytest.mark.parametrize("fused", [True, False])
def test_data_shrink_as_in_a_traced_smaller_block(fused: bool) -> None:
    module = nn.Sequential(Block(fused))
    resized, smaller = with_tokens(traced(module), FULL, {"0": FEW}), traced(module, FEW)
    for ours, theirs in zip(resized.layers, smaller.layers, strict=True):
        sizes = (ours.input_elements, ours.output_elements, ours.weight_elements)
        assert sizes == (theirs.input_elements, theirs.output_elements, theirs.weight_elements), ours


def test_scaled_scores_shrink_in_queries_and_keys() -> None:
    module = nn.Sequential(ScaledScores())
    resized, smaller = with_tokens(traced(module), FULL, {"0": FEW}), traced(module, FEW)
    assert resized.activation_bytes == smaller.activation_bytes


@pytest.mark.parametrize("images", [1, 2])
def test_encoder_layer_of_torch(images: int) -> None:
    module = nn.Sequential(nn.TransformerEncoderLayer(WIDTH, HEADS, 40, batch_first=True))
    resized = with_tokens(traced(module, FULL, images), FULL, {"0": FEW})
    assert resized.macs == traced(module, FEW, images).macs


def test_heads_as_wide_as_twice_the_tokens_keep_their_width() -> None:
    """Of unfused scores, (4, 8) by (8, 4), four tokens become three."""
    module = nn.Sequential(Block(fused=False))
    resized = with_tokens(traced(module, 4), 4, {"0": 3})
    assert resized.macs == traced(module, 3).macs


def test_all_tokens_change_nothing(two_blocks: Workload) -> None:
    assert with_tokens(two_blocks, FULL, {"0": FULL, "1": FULL}) == two_blocks


def test_other_modules_stay_as_they_are(two_blocks: Workload) -> None:
    resized = with_tokens(two_blocks, FULL, {"1": FEW})
    for before, after in zip(two_blocks.layers, resized.layers, strict=True):
        assert (before == after) == before.name.startswith("0")


def test_weights_stay_as_they_are(two_blocks: Workload) -> None:
    resized = with_tokens(two_blocks, FULL, {"0": FEW, "1": 1})
    assert resized.weight_bytes == two_blocks.weight_bytes


def test_a_name_does_not_stand_for_longer_names() -> None:
    both = workload(gemm(FULL, 4, 4, name="blocks.1"), gemm(FULL, 4, 4, name="blocks.10"))
    first, second = with_tokens(both, FULL, {"blocks.1": FEW}).layers
    assert (first.macs, second.macs) == (FEW * 16, FULL * 16)


def test_the_innermost_named_module_decides() -> None:
    both = workload(gemm(FULL, 4, 4, name="block.attn"), gemm(FULL, 4, 4, name="block.mlp"))
    first, second = with_tokens(both, FULL, {"block": 2, "block.mlp": 7}).layers
    assert (first.macs, second.macs) == (2 * 16, 7 * 16)


def test_one_workload_for_each_image(two_blocks: Workload) -> None:
    counts = [{"0": 3}, {"0": 7, "1": 2}]
    assert per_image(two_blocks, FULL, counts) == [with_tokens(two_blocks, FULL, each) for each in counts]


def test_unknown_module_is_named(two_blocks: Workload) -> None:
    with pytest.raises(HardwareModelError, match="no operation of Sequential ran in a module '2'"):
        with_tokens(two_blocks, FULL, {"0": FEW, "2": FEW})


@pytest.mark.parametrize("count", [0, -1, 2.5])
def test_no_tokens_are_refused(two_blocks: Workload, count: int) -> None:
    with pytest.raises(HardwareModelError, match=f"1: tokens must be a whole .* at least 1, got {count}"):
        with_tokens(two_blocks, FULL, {"1": count})


@pytest.mark.parametrize("full", [0, -1, 2.5])
def test_a_trace_without_tokens_is_refused(two_blocks: Workload, full: int) -> None:
    with pytest.raises(HardwareModelError, match=f"^full must be a whole number of at least 1, got {full}"):
        with_tokens(two_blocks, full, {"1": 1})


@pytest.mark.parametrize(
    ("layer", "looked_at"),
    [
        (gemm(1, FULL, FULL), r"m \(1\) and batch \(1\)"),
        (gemm(3, 4, 5, weight=None), r"m \(3\), k \(4\) and n \(5\)"),
        (attention(2, 1, FULL, 8), rf"queries \(1\) and keys \({FULL}\)"),
        (convolution(3, 4, (5, 5)), "none, in a convolution"),
    ],
)
def test_product_without_tokens_is_named_with_the_axes_looked_at(layer: Layer, looked_at: str) -> None:
    message = f"^{layer.name}: {layer.operation} .* has no axis of {FULL} tokens; looked at {looked_at}"
    with pytest.raises(HardwareModelError, match=message):
        with_tokens(workload(layer), FULL, {layer.name: FEW})


def test_heads_as_wide_as_the_tokens_are_many_are_refused() -> None:
    module = nn.Sequential(Block(fused=False))
    with pytest.raises(HardwareModelError, match=r"^0: aten\.bmm .* 8 long in every axis"):
        with_tokens(traced(module, WIDTH // HEADS), WIDTH // HEADS, {"0": FEW})


def test_heads_as_wide_as_the_tokens_are_many_can_keep_all_tokens() -> None:
    whole = traced(nn.Sequential(Block(fused=False)), WIDTH // HEADS)
    assert with_tokens(whole, WIDTH // HEADS, {"0": WIDTH // HEADS}) == whole


def test_computed_weights_do_not_shrink() -> None:
    module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)))
    resized, smaller = with_tokens(traced(module), FULL, {"0": FEW}), traced(module, FEW)
    assert resized == smaller
