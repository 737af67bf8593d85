"""HeatViT's accelerator rebuilt from its published structure, to hold the FPGA model against its figures.

Assumptions, beyond those of `fpga.py`, because the paper's tile sizes and keep ratios are not public:
- the engine is the fastest that fits the board, chosen for each network and each bit width apart;
- 8-bit products are packed two to a DSP slice, 16-bit ones are not;
- every network keeps the tokens that are reported for DeiT-T (88, 45, 32 of 197, from blocks 4, 7 and 10 on);
- the selectors themselves, 0.06 to 0.22 % of the arithmetic, are left out.
"""

from dataclasses import dataclass, replace

from hw_models.device import Device
from hw_models.estimate import estimate
from hw_models.quantity import Quantity
from hw_models.result import Estimate
from hw_models.search import FINE, best_design
from hw_models.tokens import with_tokens
from hw_models.workload import Workload

LISTED_MHZ, RECALLED_MHZ = 300.0, 150.0
"""Clock of the design as listed where its 9.15 ms are quoted, and as it is recalled of the paper itself."""
DEITS = {"deit_t": "deit_tiny", "deit_s": "deit_small", "deit_b": "deit_base"}
"""Name in reference/heatvit.csv -> name of the network."""
TOKENS = 197
KEPT = (88, 45, 32)
"""Tokens behind each of the three selectors, reported for DeiT-T."""
DEPTH = 12
"""Blocks of a DeiT; the selectors stand in front of the second, third and last quarter of them."""
GRID = replace(FINE, rows=(64, 128, 197, 256), depths=(1, 4, 16), widths=(1, 4, 16))
"""All arrays, but fewer buffers: they hardly matter here, and six networks are searched for."""


@dataclass(frozen=True)
class HeatVit:
    """One network on the board: dense at 16 and at 8 bits, and pruned at both."""

    dense_16: Estimate
    dense_8: Estimate
    pruned_16: Estimate
    pruned_8: Estimate

    @property
    def speedup(self) -> float:
        """Pruned 8-bit over dense 16-bit, as the abstract counts."""
        return self.dense_16.latency_ms / self.pruned_8.latency_ms

    @property
    def pruning_speedup(self) -> float:
        """Pruned over dense, both at 16 bits."""
        return self.dense_16.latency_ms / self.pruned_16.latency_ms

    @property
    def quantisation_speedup(self) -> float:
        """8-bit over 16-bit, both pruned."""
        return self.pruned_16.latency_ms / self.pruned_8.latency_ms


def at_clock(device: Device, mhz: float) -> Device:
    """`device` with a design that runs at `mhz`, without a range."""
    clock = Quantity(value=mhz, unit="MHz", confidence="derived", basis="chosen for this comparison")
    return device.model_copy(update={"clock": clock})


def pruned(workload: Workload, depth: int = DEPTH) -> Workload:
    """A DeiT, or an LV-ViT of `depth` blocks, that keeps HeatViT's tokens; selectors at its quarters."""
    counts = (TOKENS, *KEPT)
    return with_tokens(
        workload, TOKENS, {f"blocks.{block}": counts[len(counts) * block // depth] for block in range(depth)}
    )


def rebuild(network: Workload, device: Device, depth: int = DEPTH) -> HeatVit:
    """The four estimates of a network of `depth` blocks traced at 197 tokens."""
    wide, narrow = network.at_bits(16), network.at_bits(8)
    engine_16 = best_design(wide, device, bits=16, grid=GRID)
    engine_8 = best_design(pruned(narrow, depth), device, bits=8, packing=True, grid=GRID)
    return HeatVit(
        estimate(wide, device, design=engine_16),
        estimate(narrow, device, design=engine_8),
        estimate(pruned(wide, depth), device, design=engine_16),
        estimate(pruned(narrow, depth), device, design=engine_8),
    )
