"""CSB-RNN's engine on the paper's own networks, by the cycle model of `hw_models.sparse_array`.

The trained weights are not public, so the matrices are random (`hw_models.csb_validation.synthetic`). Engines
take a matrix K x L blocks at a time; of a large matrix a random sample of these iterations, from its first
rows, tells the utilisation nearly as well as all of them, for a small part of the time.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from statistics import fmean

import numpy as np

from hw_models.csb import KernelGrid, fitted_block, project
from hw_models.csb_sharing import Sharing
from hw_models.csb_validation import SHARINGS, RnnLayer, Weights, networks, synthetic
from hw_models.reference_points import points
from hw_models.sparse_array import PEArray, cycles
from lib.errors import WrongUse
from lib.rnn.csb_checks import TABLE2_RATES, table3

FIG12 = PEArray(4, 4, 4, 4)
"""The engine of Fig 12: 4 x 4 groups of 4 x 4 PEs."""
BOARD = PEArray(4, 8, 4, 4)
"""512 PEs as on the board; how the paper groups them is not said, so this is a choice of ours."""
BOARD_BLOCK = 32
BLOCKS = (32, 64, 128)
TALLEST = 1024
"""Rows to which a taller matrix is cut where iterations are sampled: two rounds of the largest blocks."""


@dataclass(frozen=True)
class LayerUse:
    """Multiplications and cycles of one layer at one block size, by sharing. Sampled counts are scaled up."""

    model: str
    layer: str
    block: int
    rate: float
    macs: float
    cycles: Mapping[Sharing, float]
    passes: Mapping[Sharing, float]
    """Cycles times groups that were busy, whether or not every PE of the group had a weight."""
    array: PEArray

    def utilisation(self, sharing: Sharing) -> float:
        """Multiplications over cycles times PEs, in percent."""
        return 100 * self.macs / (self.cycles[sharing] * self.array.pes)

    def balance(self, sharing: Sharing) -> float:
        """The same if rounding kernels up to whole passes counted as work, in percent."""
        return 100 * self.passes[sharing] / self.cycles[sharing]


def sampled(
    kernels: KernelGrid, array: PEArray, count: int, rng: np.random.Generator
) -> tuple[KernelGrid, float]:
    """A grid of `count` random iterations of K x L blocks, and how many times it stands for the whole.

    All iterations, once, if `count` is 0 or there are no more of them. Edges are filled up with empty
    blocks."""
    if count < 0:
        raise WrongUse(f"the number of sampled iterations must be at least 0 (0 takes all), not {count}")
    down, across = array.group_rows, array.group_columns
    parts = []
    for sizes in (kernels.rows, kernels.columns):
        padded = np.pad(sizes, ((0, -sizes.shape[0] % down), (0, -sizes.shape[1] % across)))
        cut = padded.reshape(padded.shape[0] // down, down, padded.shape[1] // across, across)
        parts.append(cut.transpose(0, 2, 1, 3).reshape(-1, down, across))
    total = len(parts[0])
    if count == 0 or count >= total:
        return kernels, 1.0
    chosen = np.sort(rng.choice(total, count, replace=False))
    rows, columns = (part[chosen].transpose(1, 0, 2).reshape(down, count * across) for part in parts)
    return KernelGrid(rows, columns), total / count


def layer_use(
    model: str,
    layer: RnnLayer,
    rate: float,
    block: int,
    array: PEArray,
    sharings: Sequence[Sharing],
    *,
    weights: Weights = "gaussian",
    samples: int = 0,
    seed: int = 0,
) -> LayerUse:
    """One layer pruned at `rate` in blocks of `block` (smaller where a side is short) and run on `array`."""
    rng = np.random.default_rng([seed, *layer.name.encode()])
    taken = dict.fromkeys(sharings, 0.0)
    passes = dict.fromkeys(sharings, 0.0)
    macs = 0.0
    for height, width in layer.matrices:
        shape = (min(height, TALLEST) if samples else height), width
        sides = fitted_block(shape, block, (array.group_rows, array.group_columns))
        kernels = project(synthetic(shape, weights, rng), rate, sides).kernels
        grid, scale = sampled(kernels, array, samples, np.random.default_rng([seed, block]))
        scale *= height / shape[0]
        macs += scale * grid.macs
        for sharing in sharings:
            run = cycles(grid, array, sharing)
            taken[sharing] += scale * run.cycles
            passes[sharing] += scale * run.cycles * run.balance
    return LayerUse(model, layer.name, block, rate, macs, taken, passes, array)


def fig12(*, samples: int, seed: int, weights: Weights = "gaussian") -> tuple[LayerUse, ...]:
    """All 20 layers at the three block sizes and rates of the paper, with every kind of sharing."""
    rates = {
        (row["model"], int(row["block"])): float(row["rate"])
        for row in (point.model_dump() for point in points("csb_index_overhead"))
    }
    return tuple(
        layer_use(
            model,
            layer,
            rates[model, block],
            block,
            FIG12,
            SHARINGS,
            weights=weights,
            samples=samples,
            seed=seed,
        )
        for model, layers in networks().items()
        for layer in layers
        for block in BLOCKS
    )


def mean_utilisation(uses: Sequence[LayerUse], sharing: Sharing, block: int | None = None) -> float:
    """Mean over layers (and block sizes, if none is named) in percent."""
    return fmean(use.utilisation(sharing) for use in uses if block in (None, use.block))


def block_loss(uses: Sequence[LayerUse], sharing: Sharing) -> float:
    """Points of mean utilisation lost from one block size to the next smaller one, mean of both steps."""
    means = [mean_utilisation(uses, sharing, block) for block in BLOCKS]
    return (means[-1] - means[0]) / (len(BLOCKS) - 1)


def layer_loss(uses: Sequence[LayerUse], sharing: Sharing, layer: str, larger: int, smaller: int) -> float:
    """Points of utilisation that one layer loses from the larger to the smaller block."""
    by_block = {use.block: use.utilisation(sharing) for use in uses if use.layer == layer}
    return by_block[larger] - by_block[smaller]


def board_latencies_us(*, samples: int, seed: int, weights: Weights = "gaussian") -> dict[str, float]:
    """Microseconds of one step with sharing in both directions on 512 PEs, for the models of Table 3."""
    clocks = {row.model: row.clock_mhz for row in table3() if row.design == "csb_rnn"}
    return {
        model: sum(
            layer_use(
                model, layer, rate, BOARD_BLOCK, BOARD, ("2d",), weights=weights, samples=samples, seed=seed
            ).cycles["2d"]
            for layer in networks()[model]
        )
        / clocks[model]
        for model, rate in TABLE2_RATES.items()
    }


def summary(uses: Sequence[LayerUse]) -> dict[str, tuple[float, str]]:
    """What the paper says of Fig 12 in numbers, from all layers and blocks: value and unit by name."""
    busy = {sharing: mean_utilisation(uses, sharing) for sharing in SHARINGS}
    found = {
        "utilisation_none": (busy["none"], "percent"),
        "utilisation_one": ((busy["vertical"] + busy["horizontal"]) / 2, "percent"),
        "utilisation_both": (busy["2d"], "percent"),
        "balance_both": (fmean(use.balance("2d") for use in uses), "percent"),
    }
    sharings: dict[str, Sharing] = {"none": "none", "both": "2d"}
    for name, sharing in sharings.items():
        found[f"block_loss_{name}"] = block_loss(uses, sharing), "points"
        found[f"block_loss_mt1_l2_{name}"] = layer_loss(uses, sharing, "MT1-L2", 64, 32), "points"
    return found


def cycles_above_smt() -> float:
    """Cycles of the sharing found without a solver beyond Z3's proven least, in percent of the least."""
    ours, least = 0, 0
    for case in smt_cases():
        down, across, p, q = (
            int(case[key]) for key in ("group_rows", "group_columns", "pe_rows", "pe_columns")
        )
        rows, columns = (
            np.array(case[key].split(), dtype=int).reshape(down, across) for key in ("rows", "columns")
        )
        ours += cycles(KernelGrid(rows, columns), PEArray(down, across, p, q), "2d").cycles
        least += int(case["least_load"])
    return 100 * (ours / least - 1)


def smt_cases() -> list[dict[str, str]]:
    """The sharing problems that Z3 solved (`hw_models/reference/csb_sharing_z3.csv`)."""
    text = (files("hw_models") / "reference/csb_sharing_z3.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
