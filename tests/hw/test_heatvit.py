"""HeatViT's accelerator on a small network: tokens, order of the four latencies, normalisation."""

from functools import partial

import pytest
import torch
from torch import nn

from hw_models import Workload, best_design, heatvit, trace
from hw_models.heatvit import HeatVit, at_clock, pruned, rebuild
from hw_models.search import Grid
from tests.hw.toys import board, fabric, quantity

WIDTH, HEADS = 48, 3
GRID = Grid(inputs=(8, 16), outputs=(4, 8), heads=(1, 3), rows=(64, 197), depths=(1, 2), widths=(1, 4))
BOARD = board(fabric=fabric(300, 400))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 96), nn.GELU(), nn.Linear(96, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images, tokens, _ = x.shape
        split = self.qkv(self.norm(x)).reshape(images, tokens, 3, HEADS, WIDTH // HEADS)
        mixed = nn.functional.scaled_dot_product_attention(*split.permute(2, 0, 3, 1, 4).unbind(0))
        x = x + self.proj(mixed.transpose(1, 2).reshape(images, tokens, WIDTH))
        return x + self.mlp(x)


class Small(nn.Module):
    """Twelve blocks by the names that DeiT gives them, with a norm and a head behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(12)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.blocks(x))[:, 0])


@pytest.fixture(scope="module")
def dense() -> Workload:
    return trace(Small(), torch.empty(1, 197, WIDTH))


@pytest.fixture(scope="module")
def rebuilt(dense: Workload) -> HeatVit:
    with pytest.MonkeyPatch.context() as patch:  # the fine grid takes seconds
        patch.setattr(heatvit, "best_design", partial(best_design, grid=GRID))
        return rebuild(dense, BOARD)


def tokens(network: Workload, block: int) -> int:
    (rows,) = (layer.shape for layer in network.layers if layer.name == f"blocks.{block}.qkv")
    assert rows is not None
    return rows.macs // (WIDTH * 3 * WIDTH)


def test_tokens_of_each_block(dense: Workload) -> None:
    kept = [tokens(pruned(dense), block) for block in range(12)]
    assert kept == [197] * 3 + [88] * 3 + [45] * 3 + [32] * 3


def test_selectors_stand_in_front_of_blocks_4_7_and_10(dense: Workload) -> None:
    kept = [tokens(pruned(dense), block) for block in range(12)]
    changes = [block + 1 for block in range(1, 12) if kept[block] != kept[block - 1]]
    assert changes == [4, 7, 10]


def test_what_lies_behind_the_blocks_is_left_as_it_is(dense: Workload) -> None:
    behind = [layer for layer in dense.layers if not layer.name.startswith("blocks")]
    assert [layer for layer in pruned(dense).layers if not layer.name.startswith("blocks")] == behind


def test_order_of_the_four_latencies(rebuilt: HeatVit) -> None:
    assert rebuilt.pruned_8.latency_ms < rebuilt.pruned_16.latency_ms < rebuilt.dense_16.latency_ms
    assert rebuilt.pruned_8.latency_ms < rebuilt.dense_8.latency_ms < rebuilt.dense_16.latency_ms


def test_both_variants_of_a_width_run_on_one_engine(rebuilt: HeatVit) -> None:
    assert rebuilt.dense_16.design == rebuilt.pruned_16.design
    assert rebuilt.dense_8.design == rebuilt.pruned_8.design


def test_only_eight_bit_products_share_a_slice(rebuilt: HeatVit) -> None:
    wide, narrow = rebuilt.dense_16.design, rebuilt.dense_8.design
    assert wide is not None
    assert narrow is not None
    assert (wide.bits, wide.packing) == (16, False)
    assert (narrow.bits, narrow.packing) == (8, True)


def test_speedups_are_quotients_of_latencies(rebuilt: HeatVit) -> None:
    assert rebuilt.speedup == pytest.approx(rebuilt.dense_16.latency_ms / rebuilt.pruned_8.latency_ms)
    assert rebuilt.speedup == pytest.approx(rebuilt.pruning_speedup * rebuilt.quantisation_speedup)
    assert rebuilt.pruning_speedup > 1
    assert rebuilt.quantisation_speedup > 1


def test_layer_normalisation_runs_on_the_host_and_counts(rebuilt: HeatVit) -> None:
    norms = [layer for layer in rebuilt.dense_16.layers if layer.kind == "normalisation"]
    assert len(norms) == 2 * 12 + 1
    for layer in norms:
        assert layer.latency_ms == pytest.approx(1e3 * (197 * WIDTH * 2e-9 + 10e-6))


def test_layer_normalisation_shrinks_with_the_tokens(rebuilt: HeatVit) -> None:
    times = {
        layer.name: layer.latency_ms for layer in rebuilt.pruned_16.layers if layer.name.endswith("norm")
    }
    assert times["blocks.11.norm"] == pytest.approx(1e3 * (32 * WIDTH * 2e-9 + 10e-6))
    assert times["blocks.0.norm"] == pytest.approx(times["norm"])


def test_a_chosen_clock_has_no_range() -> None:
    device = at_clock(board(clock=quantity(100, "MHz", 50, 200)), 150)
    assert device.need("clock").si_range == (150e6, 150e6)
