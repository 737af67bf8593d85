"""Where to put selectors, and how much each drops, so that a device meets its latency (SPViT).

The released code holds no latency table and no search; the published outline is a table from keep ratio to
block latency and an insertion of selectors from the last block towards the front. The procedure here is that
outline made concrete; its constants are arguments.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy
import torch
from torch import nn

from hw_models import Device, Workload, best_design, compare, estimate, load_device, trace, with_tokens
from lib.errors import WrongUse
from lib.lab.measure import latencies

ROUNDING = 1.0e-6
"""By how much a share in float32 may miss the end of a table."""


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of one block at each keep ratio, on one device; ratios fall from 1."""

    device: str
    ratios: tuple[float, ...]
    block_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.ratios) != len(self.block_ms) or len(self.ratios) < 2:
            raise WrongUse("a latency table needs one latency per keep ratio, and at least two")
        if self.ratios[0] != 1 or list(self.ratios) != sorted(set(self.ratios), reverse=True):
            raise WrongUse(f"keep ratios {list(self.ratios)} must fall from 1")

    def check(self, ratio: float) -> None:
        """Raises WrongUse unless `ratio` lies within the table, to the rounding of float32."""
        if not self.ratios[-1] - ROUNDING <= ratio <= 1 + ROUNDING:
            raise WrongUse(
                f"the latency table of {self.device} covers keep ratios from {self.ratios[-1]:g} to 1, "
                f"not {ratio:.4g}: make it with smaller ratios"
            )

    def block(self, ratio: float) -> float:
        """Milliseconds of a block that holds `ratio` of the patches, interpolated; never extrapolated."""
        self.check(ratio)
        return float(numpy.interp(ratio, self.ratios[::-1], self.block_ms[::-1]))

    def excess(self, work: Sequence[float]) -> list[float]:
        """How far the latencies lie above `work`, both relative to their first entry, at every keep ratio."""
        return [ms / self.block_ms[0] - w / work[0] for ms, w in zip(self.block_ms, work, strict=True)]

    def network(self, stages: Mapping[int, float], blocks: int) -> float:
        """Milliseconds of `blocks` blocks under `stages`: block -> cumulative keep ratio from there on."""
        ratio, total = 1.0, 0.0
        for block in range(blocks):
            ratio = stages.get(block, ratio)
            total += self.block(ratio)
        return total


def latency_tables(
    block: nn.Module, width: int, patches: int, ratios: Sequence[float], devices: Sequence[str]
) -> dict[str, LatencyTable]:
    """Tables of `block` at batch 1: measured on "this machine", and modelled at 16 bits on each of `devices`.

    Measured latencies are made monotone from the left: a block does not get slower by losing tokens, noise
    does that.
    """
    inputs = {ratio: torch.zeros(1, 1 + int(ratio * patches), width) for ratio in ratios}
    timed = latencies({str(ratio): partial(block, x) for ratio, x in inputs.items()}, rounds=5, burst_s=0.05)
    measured = numpy.minimum.accumulate([1e3 * timed[str(ratio)].minimum_s for ratio in ratios])
    tables = {"this machine": LatencyTable("this machine", tuple(ratios), tuple(measured.tolist()))}
    work = [trace(block, x) for x in inputs.values()]
    for name in devices:
        modelled = compare(work, load_device(name), bits=16)
        tables[name] = LatencyTable(name, tuple(ratios), tuple(each.latency_ms for each in modelled))
    return tables


def engine_table(
    network: Workload, device: Device, ratios: Sequence[float], *, depth: int, tokens: int, bits: int = 16
) -> LatencyTable:
    """Table of a block inside `network`, traced at `tokens` tokens (patches and a class token), on an FPGA.

    The engine is the one that suits the whole dense network best: hardware is not rebuilt block by block.
    """
    work = network.at_bits(bits)
    design = best_design(work, device, bits=bits, packing=bits <= 8)
    times = []
    for ratio in ratios:
        count = 1 + round(ratio * (tokens - 1))
        changed = with_tokens(work, tokens, {f"blocks.{block}": count for block in range(depth)})
        layers = estimate(changed, device, design=design).layers
        times.append(sum(layer.latency_ms for layer in layers if layer.name.startswith("blocks.")) / depth)
    return LatencyTable(device.name, tuple(ratios), tuple(times))


@dataclass(frozen=True)
class Plan:
    """Chosen `stages` (block -> cumulative keep ratio), their latency, and whether the budget is `met`."""

    stages: dict[int, float]
    latency_ms: float
    accuracy: float
    met: bool


def choose_stages(
    table: LatencyTable,
    blocks: int,
    budget_ms: float,
    accuracy: Callable[[Mapping[int, float]], float],
    *,
    ratios: Sequence[float],
    first_block: int = 3,
    largest_drop: float = 0.005,
    merge_below: float = 0.085,
) -> Plan:
    """Insert stages from the last block towards `first_block` until the network fits in `budget_ms`.

    In front of each block the smallest of `ratios` is taken with which `accuracy(stages)` stays within
    `largest_drop` of the dense accuracy; stages behind it keep at most as much. Then neighbours whose ratios
    differ by less than `merge_below` become one stage, the earlier one. The plan says whether the budget was
    met: a budget that accuracy does not allow is not forced.
    """
    if budget_ms <= 0:
        raise WrongUse(f"the latency budget must be positive, not {budget_ms} ms")
    dense = accuracy({})
    stages: dict[int, float] = {}
    for block in reversed(range(first_block, blocks)):
        for ratio in sorted(ratios):
            candidate = {block: ratio} | {later: min(r, ratio) for later, r in stages.items()}
            if accuracy(candidate) >= dense - largest_drop:
                stages = candidate
                break
        if table.network(stages, blocks) <= budget_ms:
            break
    merged = merge(stages, merge_below)
    latency = table.network(merged, blocks)
    return Plan(merged, latency, accuracy(merged), latency <= budget_ms)


def merge(stages: Mapping[int, float], below: float) -> dict[int, float]:
    """`stages` without those whose keep ratio is less than `below` under that of the stage before them."""
    merged: dict[int, float] = {}
    ratio = 1.0
    for block in sorted(stages):
        if ratio - stages[block] >= below:
            ratio = merged[block] = stages[block]
    return merged
