"""Figures of the DARB notebook: energy that masks keep, rows with blocks of their own, decoders."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from hw_models.darb_decoder import DecodeCycles
from lib.lab.plots import COLOURS, plain
from lib.rnn.darb_checks import BLOCKS
from lib.rnn.darb_rows import RowDensities


def energies(found: Mapping[str, Mapping[int, Mapping[str, float]]]) -> Figure:
    """Energy kept over the rate: block maxima against the largest weights anywhere, by distribution."""
    figure, axes = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
    for colour, (name, by_block) in zip(COLOURS, found.items(), strict=False):
        for style, kind in (("o--", "unstructured"), ("o-", "bmwm")):
            values = [by_block[k][kind] for k in BLOCKS]
            label = f"{name}, {'block maxima' if kind == 'bmwm' else kind}"
            axes.semilogx(BLOCKS, values, style, color=colour, label=label, base=2)
    axes.set_xticks(BLOCKS, [str(k) for k in BLOCKS])
    plain(axes, x="pruning rate (block of k)", y="energy kept").legend(fontsize=8, frameon=False)
    return figure


def rows(densities: Mapping[str, RowDensities], block_sizes: Tensor) -> Figure:
    """Densities of the rows of pruned matrices, densest first, and how many rows get each block size."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3), layout="constrained")
    for (name, found), (colour, style) in zip(
        densities.items(), ((COLOURS[0], "-"), ("grey", ":")), strict=False
    ):
        left.plot(100 * np.array(found.densities), style, color=colour, label=name)
    plain(left, x="row, densest first", y="weights kept (%)").legend(fontsize=8, frameon=False)
    sizes, counts = np.unique(block_sizes.numpy(), return_counts=True)
    drawn = right.bar([str(size) for size in sizes], counts, color=COLOURS[1])
    right.bar_label(drawn, fontsize=8)
    plain(right, x="block size k", y="rows")
    return figure


def decoders(found: Mapping[str, DecodeCycles]) -> Figure:
    """How busy the decoders are and what positions cost, by scheme."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 2.8), layout="constrained")
    names = list(found)
    for axes, values, label in (
        (left, [100 * each.utilisation for each in found.values()], "decoders busy (%)"),
        (right, [each.index_bits_per_weight for each in found.values()], "bits of position a weight"),
    ):
        drawn = axes.barh(names, values, color=COLOURS[: len(names)])
        axes.bar_label(drawn, fmt="%.1f", fontsize=8, padding=2)
        plain(axes, x=label, y="").invert_yaxis()
    return figure
