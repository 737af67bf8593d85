"""HeatViT on its board, modelled: what pruning and what 8 bits gain, beside the published figures."""

from collections.abc import Sequence

import torch

from hw_models import Workload, load_device, trace
from hw_models.heatvit import LISTED_MHZ, TOKENS, HeatVit, at_clock, pruned, rebuild
from hw_models.reference_points import points
from lib.lab.backbones import build
from lib.vit.costs import block_macs
from lib.vit.heatvit import HeadSelector
from lib.vit.host import blocks_of, class_token_vit
from lib.vit.stages import LatencyTable, engine_table

NAMES = {
    "deit_t": "DeiT-T",
    "deit_s": "DeiT-S",
    "deit_b": "DeiT-B",
    "lv_vit_s": "LV-ViT-S",
    "lv_vit_m": "LV-ViT-M",
}
"""The papers' names of the networks."""
NETWORKS = ("deit_t", "deit_s", "deit_b", "lv_vit_s")
BOARD = "zcu102"


def traced(name: str) -> Workload:
    """The network `name` on one image of 224 pixels."""
    return trace(build(name), torch.zeros(1, 3, 224, 224))


def depth_of(network: Workload) -> int:
    """Number of transformer blocks."""
    return len({layer.name.split(".")[1] for layer in network.layers if layer.name.startswith("blocks.")})


def decompose(network: Workload, mhz: float = LISTED_MHZ) -> HeatVit:
    """Dense and pruned, at 16 and at 8 bits, on the ZCU102 at the clock that is listed with the 9.15 ms.

    DeiT-T's keep ratios stand in for those of the other networks, which are not public.
    """
    return rebuild(network, at_clock(load_device(BOARD), mhz), depth_of(network))


def pruned_macs(network: Workload) -> int:
    """Multiply-accumulates on DeiT-T's reported tokens, selectors left out."""
    return pruned(network, depth_of(network)).macs


def gain(board: HeatVit, by: str) -> float:
    """Speedup of a network: both together (`speedup`), by `pruning`, or by `quantisation`."""
    gains = {
        "speedup": board.speedup,
        "pruning": board.pruning_speedup,
        "quantisation": board.quantisation_speedup,
    }
    return gains[by]


def table(network: Workload, ratios: Sequence[float], mhz: float = LISTED_MHZ) -> LatencyTable:
    """Latency-sparsity table of a block at 16 bits, the precision of the dense baseline."""
    device = at_clock(load_device(BOARD), mhz)
    return engine_table(network, device, ratios, depth=depth_of(network), tokens=TOKENS)


def mac_line(network: Workload, ratios: Sequence[float]) -> list[float]:
    """Multiply-accumulates of a block, in millions, at the same keep ratios."""
    return [block_macs(network, TOKENS, 1 + round(ratio * (TOKENS - 1))) / 1e6 for ratio in ratios]


def attention_share(network: Workload) -> float:
    """Products of two activations, quadratic in the tokens, over all of a dense block, in percent."""
    block = [layer for layer in network.layers if layer.name.startswith("blocks.0.")]
    quadratic = sum(layer.macs for layer in block if not layer.weight_elements)
    return 100 * quadratic / sum(layer.macs for layer in block)


def published(quantity: str, variant: str) -> tuple[float, float]:
    """Ends of a published range over all networks, as it was seen; see hw_models/reference/heatvit.csv."""
    (row,) = (
        row
        for row in points("heatvit", "seen")
        if (row.quantity, row.network, row.variant) == (quantity, "all", variant)
    )
    return row.low, row.high


def implied_quantisation() -> tuple[float, float]:
    """Speedup by 8 bits that the two published ranges imply, at their lower and upper ends."""
    both, pruning = published("speedup", "pruned_8bit_over_dense"), published("speedup", "pruned_over_dense")
    return both[0] / pruning[0], both[1] / pruning[1]


def selector_mmacs(name: str) -> float:
    """Millions of multiply-accumulates of one selector of the network `name` on all its patches.

    The branch that weighs the heads is not in it, as in the figures it is held against.
    """
    vit = class_token_vit(build(name))
    selector = HeadSelector(vit.embed_dim, blocks_of(vit)[0].attn.num_heads, head_attention=False)
    weights = sum(parameter.numel() for parameter in selector.parameters() if parameter.dim() == 2)
    return weights * vit.patch_embed.num_patches / 1e6
