"""RTMobile's arithmetic, done again: its network, its results table, and the FPGA that it is compared with.

Nothing here is trained or timed. The results table could not be read in the paper and is recalled: what is
derived from it says whether the figures agree with each other, not whether they are the paper's. One
multiply-accumulate is two operations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log2
from types import MappingProxyType

import torch
from torch import Tensor

from hw_models import load_device
from hw_models.csb_validation import networks
from hw_models.reference_points import points, table
from hw_models.unstructured_array import ese_cycles
from lib.kernels.formats.bspc import Bspc
from lib.kernels.formats.csr import Csr
from lib.rnn.gru_step import HIDDEN, LAYERS, PHONE, network, step
from lib.rnn.partition import even_parts
from lib.rnn.row_groups import csr_index_bits, imbalance, loads, reordered
from lib.rnn.rtmobile import BlockStructured

GOP: Mapping[int, float] = MappingProxyType(
    {
        **{1: 0.58, 10: 0.058, 19: 0.033, 29: 0.0207, 43: 0.0143},
        **{80: 0.008, 103: 0.006, 153: 0.0039, 245: 0.0028, 301: 0.002},
    }
)
"""Operations of an inference by pruning rate, results table, recalled."""

UNITS = {
    "gru_weights": "weights",
    "gru_macs_per_step": "MAC",
    "gru_mop_per_step": "MOP",
    "gop_in_steps": "steps",
    "pruned_rate": "x",
    "pattern_violations": "weights",
    "bspc_mismatches": "weights",
    "bspc_bits_per_weight": "bit/weight",
    "csr_bits_per_weight": "bit/weight",
    "dense_stream_us": "us",
    "unrolled_stream_ms": "ms",
    "dense_time_over_stream": "x",
    "gemv_ops_per_byte": "operations/byte",
    "gemv_cap_gops": "GOP/s",
    "table_speed_over_cap": "x",
    "ese_energy_uj": "uJ",
    "ese_evaluations": "evaluations",
    "ese_step_uj": "uJ",
    "phone_step_uj": "uJ",
    "gain_per_step": "x",
    "gain_if_batched": "x",
}
"""Units of the metrics below that have one."""

ESE_STREAMS = 32
"""Utterances that ESE computes side by side, recalled: the question is whether its figures confirm it."""


@dataclass(frozen=True)
class Row:
    """A row of the results table on one part of the phone. Recalled throughout."""

    rate: int
    gop: float
    latency_us: float
    gop_per_s: float
    gain_over_ese: float
    """Inferences a joule over those of ESE."""

    @property
    def speed_mismatch(self) -> float:
        """How far operations over time lie from the printed speed, relative to it."""
        return abs(self.gop / (self.latency_us * 1e-6) / self.gop_per_s - 1)

    @property
    def power_w(self) -> float:
        """Power at which the gain over ESE follows from the time."""
        return ese_energy_uj() / self.gain_over_ese / self.latency_us


def results(part: str) -> tuple[Row, ...]:
    """The results table on the `part` "gpu" or "cpu", by rising rate."""
    found: dict[int, dict[str, float]] = {}
    for point in points("phones", "recalled"):
        if (point.framework, point.device) == ("rtmobile", PHONE[part]) and point.rate is not None:
            found.setdefault(round(point.rate), {})[point.quantity] = point.value
    return tuple(
        Row(rate, GOP[rate], 1e3 * row["latency_ms"], row["gop_per_s"], row["efficiency_over_ese"])
        for rate, row in sorted(found.items())
    )


# --- the network


def network_counts() -> dict[str, float]:
    """Weights, operations of a time step (M), and what the recalled 0.58 GOP would be in time steps."""
    work = step()
    return {
        "gru_weights": work.params,
        "gru_macs_per_step": work.macs,
        "gru_mop_per_step": work.ops / 1e6,
        "gop_in_steps": 1e9 * GOP[1] / work.ops,
    }


def recurrent_weights() -> int:
    """Weights that are needed anew at each step, since what they multiply is known no earlier."""
    return LAYERS * 3 * HIDDEN * HIDDEN


# --- the results table against itself


def table_arithmetic() -> dict[str, float]:
    """Disagreements inside the recalled table, by metric name; mismatches and spreads in percent.

    `speed_mismatch_*`: largest distance of GOP / time from GOP/s. `power_spread_*`: largest over smallest
    implied power, less one. `gop_rate_excess`: how far the operations left exceed 0.58 GOP over the rate.
    """
    found = {}
    for part in PHONE:
        rows = results(part)
        powers = [row.power_w for row in rows]
        found[f"speed_mismatch_{part}"] = 100 * max(row.speed_mismatch for row in rows)
        found[f"power_spread_{part}"] = 100 * (max(powers) / min(powers) - 1)
        found[f"power_{part}"] = sum(powers) / len(powers)
    found["gop_rate_excess"] = 100 * max(GOP[rate] * rate / GOP[1] - 1 for rate in GOP)
    return found


def memory_arithmetic() -> dict[str, float]:
    """What reading weights from the phone's memory allows, by metric name (fp16, nothing cached).

    `dense_stream_us`: all weights once. `unrolled_stream_ms`: the recurrent weights as often as 0.58 GOP has
    steps. `dense_time_over_stream`: the recalled dense time over that. `gemv_ops_per_byte`: arithmetic
    intensity of a product with one vector, and `gemv_cap_gops` the speed that it leaves of the bandwidth.
    """
    bandwidth = load_device(PHONE["gpu"]).need("bandwidth").si
    work = step()
    steps = round(1e9 * GOP[1] / work.ops)
    unrolled_s = steps * recurrent_weights() * 2 / bandwidth
    intensity = work.ops / work.weight_bytes
    dense = results("gpu")[0]
    return {
        "dense_stream_us": 1e6 * work.weight_bytes / bandwidth,
        "unrolled_stream_ms": 1e3 * unrolled_s,
        "dense_time_over_stream": dense.latency_us * 1e-6 / unrolled_s,
        "gemv_ops_per_byte": intensity,
        "gemv_cap_gops": intensity * bandwidth / 1e9,
        "table_speed_over_cap": dense.gop_per_s / (intensity * bandwidth / 1e9),
    }


# --- ESE, which the energies are compared with


def ese() -> dict[str, float]:
    """ESE's published figures: `latency_us`, `power_w` and `pes` (CSB-RNN, Table 3); `sparse_gops` and
    `dense_gops` (its abstract)."""
    (row,) = (row for row in table("csb_rnn") if row["design"] == "ese")
    (fast,) = (fact.value for name, fact in load_device("ku060").facts.items() if name == "speed_ese_sparse")
    return {
        "latency_us": float(row["latency_us"]),
        "power_w": float(row["power_w"]),
        "pes": float(row["pes"]),
        "clock_mhz": float(row["clock_mhz"]),
        "sparse_gops": fast,
        "dense_gops": 2520.0,
    }


def ese_layer_weights() -> int:
    """Weights of ESE's layer: an LSTM of 1024 cells on 153 features, projected to 512 outputs."""
    return networks()["SR1"][0].weights


def ese_energy_uj() -> float:
    """Latency times power: what the table divides by."""
    return ese()["latency_us"] * ese()["power_w"]


def ese_arithmetic(gain: float = 40.0) -> dict[str, float]:
    """How many layer evaluations ESE's latency holds at its own speed, and what that makes of `gain`.

    `ese_evaluations`: speed x latency over the operations of its dense layer. `ese_step_uj`: energy of one of
    them. `phone_step_uj`: energy of the phone's step if it is `gain` times under the undivided energy.
    `gain_per_step`: the gain with both sides per step, if the phone's inference is one step of one utterance.
    `gain_if_batched`: the same if the phone's inference is the recalled 0.58 GOP, so many steps side by side.
    """
    figures = ese()
    evaluations = figures["dense_gops"] * 1e9 * figures["latency_us"] * 1e-6 / (2 * ese_layer_weights())
    return {
        "ese_energy_uj": ese_energy_uj(),
        "ese_evaluations": evaluations,
        "ese_step_uj": ese_energy_uj() / evaluations,
        "phone_step_uj": ese_energy_uj() / gain,
        "gain_per_step": gain / evaluations,
        "gain_if_batched": gain * network_counts()["gop_in_steps"] / evaluations,
    }


def ese_step_us(streams: int, generator: torch.Generator, queue_depth: int = 8) -> float:
    """Time of one step of ESE's layer if its multipliers serve `streams` utterances side by side.

    Random weights at ESE's own density (sparse over dense speed), rows dealt to 1504 / streams multipliers,
    input queues of depth 8 (EIE's choice, recalled); no time but that of multiplications.
    """
    figures = ese()
    density = figures["sparse_gops"] / figures["dense_gops"]
    pes = round(figures["pes"] / streams)
    cycles = 0
    for rows, columns in networks()["SR1"][0].matrices:
        mask = torch.rand(rows, columns, generator=generator) < density
        cycles += ese_cycles(mask.numpy(), pes, queue_depth).cycles
    return cycles / figures["clock_mhz"]


def ese_hypotheses(generator: torch.Generator) -> dict[str, float]:
    """ESE's 82.7 us as the step of one of 32 streams, or of all multipliers on a single one.

    `ese_step_us_*` is the modelled time, `ese_miss_*` its distance from 82.7 us in doublings.
    """
    found = {}
    for name, streams in (("of_32", ESE_STREAMS), ("alone", 1)):
        found[f"ese_step_us_{name}"] = time = ese_step_us(streams, generator)
        found[f"ese_miss_{name}"] = abs(log2(ese()["latency_us"] / time))
    return found


# --- pruned matrices of the network


def random_gates(generator: torch.Generator) -> dict[str, Tensor]:
    """Gate matrices of the network by name, gates' rows stacked, with independent normal weights."""
    return {
        name: torch.randn(weight.shape, generator=generator) for name, weight in network().named_parameters()
    }


def compile_time_facts(
    weights: Mapping[str, Tensor],
    structure: BlockStructured,
    rate: float,
    *,
    lanes: int = 32,
    unroll: int = 8,
) -> dict[str, float]:
    """What pruning by `structure` leaves the compiler of all `weights` together, by metric name.

    `pattern_violations` and `bspc_mismatches` count weights. `imbalance_*` is the time of `lanes` rows in
    step over even work, before and after reordering; `loads_*` the loads of inputs a weight, apart and
    shared by `unroll` rows; `*_bits_per_weight` index bits of two formats.
    """
    masks = {name: structure.mask(weight, rate) for name, weight in weights.items()}
    kept = sum(int(mask.sum()) for mask in masks.values())
    sorted_masks = {name: mask[reordered(mask)] for name, mask in masks.items()}
    stored = {name: Bspc.encode(weights[name].numpy(), mask.numpy()) for name, mask in masks.items()}
    decoded = {name: torch.from_numpy(each.decode()) for name, each in stored.items()}

    def mean(measure: Callable[[Tensor], float], chosen: Mapping[str, Tensor]) -> float:
        return sum(measure(mask) * int(mask.sum()) for mask in chosen.values()) / kept

    return {
        "pruned_rate": sum(mask.numel() for mask in masks.values()) / kept,
        "pattern_violations": sum(
            pattern_violations(mask, structure.strips, structure.blocks_per_strip) for mask in masks.values()
        ),
        "bspc_mismatches": sum(
            int((decoded[name] != weights[name] * mask).sum()) for name, mask in masks.items()
        ),
        "imbalance_as_stored": mean(lambda mask: imbalance(mask, lanes), masks),
        "imbalance_reordered": mean(lambda mask: imbalance(mask, lanes), sorted_masks),
        "loads_apart": sum(loads(mask, 1) for mask in sorted_masks.values()) / kept,
        "loads_shared": sum(loads(mask, unroll) for mask in sorted_masks.values()) / kept,
        "bspc_bits_per_weight": sum(each.index_bits for each in stored.values()) / kept,
        "csr_bits_per_weight": sum(csr_index_bits(mask) for mask in masks.values()) / kept,
    }


def column_entries_saved(strips: int, blocks: int, rate: float, generator: torch.Generator) -> float:
    """Column indices of CSR over those of the compact format; a matrix of 1024 x 1024, columns pruned
    only."""
    weight = torch.randn(HIDDEN, HIDDEN, generator=generator)
    mask = BlockStructured(strips, blocks).mask(weight, rate).numpy()
    return len(Csr.encode(weight.numpy(), mask).column_index) / len(
        Bspc.encode(weight.numpy(), mask).column_index
    )


def pattern_violations(mask: Tensor, strips: int, blocks: int) -> int:
    """Weights of `mask (P, Q)` that block-structured pruning would not leave as they are.

    Counted are zeros in a row that keeps anything, at columns that another row of the same strip and block
    keeps: after whole columns of blocks and whole rows are removed there are none.
    """
    filled = mask.any(1)
    found = 0
    for rows in even_parts(mask.shape[0], strips):
        for columns in even_parts(mask.shape[1], blocks):
            block = mask[rows, columns]
            found += int((block.any(0)[None, :] & filled[rows][:, None] & ~block).sum())
    return found
