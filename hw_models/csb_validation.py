"""Tables that set the CSB models against the figures of CSB-RNN (ICS 2020) and "Mobile or FPGA?".

The networks are those of Table 1 of CSB-RNN. Trained weights of them are not public, so they are random:

- `gaussian`: independent normal weights. Kernel sizes then vary by chance alone: the base case.
- `uneven`: the same times a scale per row (log-normal, sigma 0.2), per column (0.15) and per 32 x 32 tile
  (0.1). The spreads are near those of the four 512 x 128 recurrent matrices in silero-vad 6.2.3, a
  published speech network: logarithms of row norms deviate by 0.19 to 0.25, of column norms by 0.12 to
  0.15, of the norms of 32 x 32 blocks by 0.10 to 0.12.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hw_models.block_speedup import ArrayDesign, block_speedup, resnet18
from hw_models.csb import CsbMatrix, csr_index_overhead, fitted_block, index_overhead, project
from hw_models.csb_sharing import Sharing
from hw_models.errors import HardwareModelError
from hw_models.reference_points import points
from hw_models.sparse_array import PEArray, cycles

Weights = Literal["gaussian", "uneven"]
SHARINGS: tuple[Sharing, ...] = get_args(Sharing)
GATES = {"lstm": 4, "gru": 3, "ligru": 2}


@dataclass(frozen=True)
class RnnLayer:
    """A recurrent layer; `recurrent` is what it feeds back, less than `hidden` where it is projected."""

    name: str
    cell: Literal["lstm", "gru", "ligru"]
    inputs: int
    hidden: int
    recurrent: int

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the input and the recurrent matrix, gates stacked, and of the projection."""
        gates = GATES[self.cell] * self.hidden
        projection = ((self.recurrent, self.hidden),) if self.recurrent < self.hidden else ()
        return ((gates, self.inputs), (gates, self.recurrent), *projection)

    @property
    def weights(self) -> int:
        return sum(height * width for height, width in self.matrices)


def networks() -> dict[str, tuple[RnnLayer, ...]]:
    """The ten models of Table 1, 20 layers in all."""
    sizes: dict[str, tuple[Literal["lstm", "gru", "ligru"], tuple[int, ...], int | None]] = {
        "MT1": ("lstm", (128, 256, 256), None),
        "MT2": ("lstm", (1500, 1500, 1500), None),
        "SR1": ("lstm", (153, 1024, 1024), 512),
        "SR2": ("gru", (39, 1024, 1024), None),
        "SR3": ("ligru", (39, 512, 512), None),
        "SR4": ("gru", (39, 256), None),
        "SPP": ("lstm", (1, 128, 128), None),
        "SC1": ("lstm", (32, 512, 512, 512), None),
        "SC2": ("lstm", (50, 256), None),
        "QA": ("lstm", (50, 256, 256, 256), None),
    }
    found = {}
    for model, (cell, widths, projected) in sizes.items():
        layers = []
        for number, hidden in enumerate(widths[1:], start=1):
            inputs = widths[0] if number == 1 else projected or widths[number - 1]
            layers.append(RnnLayer(f"{model}-L{number}", cell, inputs, hidden, projected or hidden))
        found[model] = tuple(layers)
    return found


def synthetic(shape: tuple[int, int], weights: Weights, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random matrix of the kind `weights`; see the module."""
    if weights not in get_args(Weights):
        raise HardwareModelError(f"weights must be one of {', '.join(get_args(Weights))}, got {weights!r}")
    drawn = rng.standard_normal(shape, dtype=np.float32)
    if weights == "uneven":
        height, width = shape
        tiles = rng.normal(0, 0.1, (-(-height // 32), -(-width // 32)))
        scale = np.repeat(np.repeat(tiles, 32, axis=0), 32, axis=1)[:height, :width]
        scale = scale + rng.normal(0, 0.2, (height, 1)) + rng.normal(0, 0.15, width)
        drawn *= np.exp(scale, dtype=np.float32)
    return drawn


def _pruned(
    layer: RnnLayer, rate: float, block: int, groups: tuple[int, int] | None, weights: Weights, seed: int
) -> Iterator[CsbMatrix]:
    """Each matrix of a layer pruned, of equal weights whatever the block; `groups` shrinks blocks to fit."""
    rng = np.random.default_rng([seed, *layer.name.encode()])
    for shape in layer.matrices:
        sides = fitted_block(shape, block, groups) if groups else block
        yield project(synthetic(shape, weights, rng), rate, sides)


def _chosen(models: tuple[str, ...] | None) -> dict[str, tuple[RnnLayer, ...]]:
    known = networks()
    unknown = sorted(set(models or ()) - set(known))
    if unknown:
        raise HardwareModelError(f"models unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return {model: layers for model, layers in known.items() if models is None or model in models}


def utilisation_table(
    seed: int,
    array: PEArray,
    weights: Weights = "gaussian",
    blocks: tuple[int, ...] = (32, 64, 128),
    models: tuple[str, ...] | None = None,
) -> list[dict[str, Any]]:
    """One row per layer and block: `<sharing>` is utilisation, `<sharing>_balance` the same but for rounding.

    Layers are pruned at the rates of Fig 10; a model that was pruned 1x there is dense here. Fig 12 of
    the paper shows the same on 4 x 4 groups of 4 x 4 PEs: 42 % without sharing, 72 % with sharing in one
    direction, 94 % in two, on average over all layers and blocks."""
    rates = {
        (point["model"], int(point["block"])): float(point["rate"]) for point in _rows("csb_index_overhead")
    }
    table: list[dict[str, Any]] = []
    groups = array.group_rows, array.group_columns
    for model, layers in _chosen(models).items():
        for layer in layers:
            for block in blocks:
                rate = rates[model, block]
                pruned = list(_pruned(layer, rate, block, groups, weights, seed))
                row: dict[str, Any] = {"model": model, "layer": layer.name, "block": block, "rate": rate}
                row["measured_rate"] = layer.weights / sum(matrix.nonzeros for matrix in pruned)
                for sharing in SHARINGS:
                    runs = [cycles(matrix.kernels, array, sharing) for matrix in pruned]
                    taken = sum(run.cycles for run in runs)
                    row[sharing] = sum(run.macs for run in runs) / (taken * array.pes)
                    row[f"{sharing}_balance"] = sum(run.balance * run.cycles for run in runs) / taken
                table.append(row)
    return table


def index_overhead_table(
    seed: int, weights: Weights = "gaussian", models: tuple[str, ...] | None = None
) -> list[dict[str, Any]]:
    """Published, closed-form and measured index entries per weight in percent, by model and block (Fig 10b).

    CSR belongs to the non-structured model and is the same for all blocks: `csr_layers` counts the row
    pointers of one matrix per layer, `csr_matrices` those of the input, recurrent and projection matrix
    apart."""
    table = []
    chosen = _chosen(models)
    for point in _rows("csb_index_overhead"):
        if point["model"] not in chosen:
            continue
        layers, rate, block = chosen[point["model"]], float(point["rate"]), int(point["block"])
        storages = [
            matrix.storage()
            for layer in layers
            for matrix in _pruned(layer, rate, block, None, weights, seed)
        ]
        kept = round(sum(layer.weights for layer in layers) / float(point["csr_rate"]))
        rows = [[height for height, _ in layer.matrices] for layer in layers]
        entries = sum(storage.row_entries + storage.column_entries for storage in storages)
        table.append(
            {
                "model": point["model"],
                "block": block,
                "rate": rate,
                "published": float(point["nio_percent"]),
                "closed_form": 100 * index_overhead(rate, block),
                "measured": 100 * entries / sum(storage.values for storage in storages),
                "csr_published": float(point["csr_nio_percent"]),
                "csr_layers": 100 * csr_index_overhead(kept, sum(heights[0] for heights in rows)),
                "csr_matrices": 100 * csr_index_overhead(kept, sum(map(sum, rows))),
            }
        )
    return table


def latency_table(
    seed: int,
    array: PEArray,
    block: int,
    weights: Weights = "gaussian",
    models: tuple[str, ...] | None = None,
) -> list[dict[str, Any]]:
    """Published and modelled latency of the three models of Table 3, in microseconds at 200 MHz.

    Rates are those of Table 2. `full_us` is the time at a utilisation of 1, `implied` the utilisation
    that makes it the published one, `modelled` that of the model with 2-D sharing. The paper does not
    give the grouping of its 512 PEs, nor the block of these runs."""
    rates = {"MT1": 12.5, "SR1": 13.0, "SR2": 20.0}
    known = _chosen(models)
    table = []
    for point in _rows("csb_rnn"):
        model = point["model"]
        if point["design"] != "csb_rnn" or model not in known:
            continue
        published, clock_mhz = float(point["latency_us"]), float(point["clock_mhz"])
        groups = array.group_rows, array.group_columns
        runs = [
            cycles(matrix.kernels, array, "2d")
            for layer in known[model]
            for matrix in _pruned(layer, rates[model], block, groups, weights, seed)
        ]
        full = sum(layer.weights for layer in known[model]) / rates[model] / int(point["pes"]) / clock_mhz
        taken = sum(run.cycles for run in runs)
        table.append(
            {
                "model": model,
                "rate": rates[model],
                "published_us": published,
                "full_us": full,
                "implied": full / published,
                "modelled": sum(run.macs for run in runs) / (taken * array.pes),
                "modelled_us": taken / clock_mhz,
            }
        )
    return table


def block_speedup_table(
    seed: int, design: ArrayDesign, dense_layers: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Published and modelled speedup of ResNet-18 at 6x, one row per block (Fig 9 of "Mobile or FPGA?")."""
    table = []
    for point in _rows("block_speedup_zcu102"):
        side = int(point["block"]) if point["block"] else None
        block = (side, side) if side else None
        result = block_speedup(resnet18(), block, 6.0, design, np.random.default_rng(seed), dense_layers)
        table.append(
            {
                "block": side,
                "published": float(point["speedup"]),
                "speedup": result.speedup,
                "compute_speedup": result.compute_speedup,
                "rate": result.rate,
                "memory_bound": result.memory_bound,
            }
        )
    return table


def _rows(name: str) -> list[dict[str, Any]]:
    return [point.model_dump() for point in points(name)]
