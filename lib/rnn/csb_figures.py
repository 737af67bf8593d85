"""Figures of the CSB-RNN notebook: what is printed beside what follows, and what the engine does."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

from hw_models.csb import KernelGrid
from hw_models.csb_sharing import Sharing
from hw_models.csb_validation import SHARINGS
from hw_models.sparse_array import PEArray, cycles
from lib.lab.plots import COLOURS, plain
from lib.rnn import csb_checks, csb_engine

PRINTED: Mapping[Sharing, float] = {"none": 42, "vertical": 72, "horizontal": 72, "2d": 94}
"""Mean utilisation in percent (section 6.3.2); one figure for both single directions."""


def index_overheads() -> Figure:
    """Printed index entries per weight over those of the closed form: the 40 bars of Fig 10b."""
    printed, formula = csb_checks.printed_index_overheads(), csb_checks.index_overheads()
    figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    for colour, block in zip(COLOURS, ("16", "32", "64", "128"), strict=False):
        keys = [key for key in printed if key.endswith(f"_{block}")]
        axes.loglog(
            [formula[key] for key in keys], [printed[key] for key in keys], "o", color=colour, label=block
        )
    ends = [min(formula.values()), max(formula.values())]
    axes.loglog(ends, ends, color="grey", linestyle=":", label="equal")
    axes.loglog(ends, [1.5 * end for end in ends], color="grey", linestyle="--", label="1.5x")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([2, 5, 10, 20, 50]))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    plain(axes, x="2 √rate / block (%)", y="printed index overhead (%)").legend(title="block", fontsize=8)
    return figure


def table3() -> Figure:
    """Printed latencies with the share that multiplications alone take, and ESE's divided by its steps."""
    rows = csb_checks.table3()
    names = [f"{row.model} {row.design.replace('_', '-')}" for row in rows]
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    axes.barh(names, [row.latency_us for row in rows], color=COLOURS[4], label="printed latency")
    compute = csb_checks.compute_times_us()
    own = [index for index, row in enumerate(rows) if row.design == "csb_rnn"]
    busy = [compute[rows[index].model] for index in own]
    axes.barh([names[index] for index in own], busy, color=COLOURS[0], label="multiplications on 512 PEs")
    step = csb_checks.ese_step()
    axes.barh(
        ["SR1 ese"], [step.latency_us / step.steps], color=COLOURS[1], label="ESE, one step of one layer"
    )
    axes.set_xscale("log")
    plain(axes, x="µs", y="").legend(fontsize=8, frameon=False)
    axes.invert_yaxis()
    return figure


def utilisations(uses: Sequence[csb_engine.LayerUse]) -> Figure:
    """Mean utilisation by sharing and block; printed means as black diamonds, rounding in grey."""
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    width = 0.8 / len(csb_engine.BLOCKS)
    for index, block in enumerate(csb_engine.BLOCKS):
        places = np.arange(len(SHARINGS)) + (index - 1) * width
        chosen = [use for use in uses if use.block == block]
        whole = [np.mean([use.balance(sharing) for use in chosen]) for sharing in SHARINGS]
        real = [csb_engine.mean_utilisation(chosen, sharing) for sharing in SHARINGS]
        axes.bar(
            places, whole, width * 0.92, color="#d9d9d9", label="passes count as work" if index == 0 else None
        )
        axes.bar(places, real, width * 0.92, color=COLOURS[index], label=f"block {block}")
    axes.plot(
        range(len(SHARINGS)),
        [PRINTED[sharing] for sharing in SHARINGS],
        "D",
        color="black",
        label="printed mean",
    )
    axes.set_xticks(range(len(SHARINGS)), ["no sharing", "vertical", "horizontal", "both"])
    plain(axes, x="", y="PEs busy (%)").legend(fontsize=8, frameon=False, ncols=2, loc="upper left")
    axes.set_ylim(0, 130)
    return figure


def loads(kernels: KernelGrid, array: PEArray) -> Figure:
    """Cycles of every group of the first iteration, without sharing and with it."""
    figure, panels = plt.subplots(1, len(SHARINGS), figsize=(9, 2.6), layout="constrained")
    tile = array.pe_rows * array.pe_columns
    found = {sharing: cycles(kernels, array, sharing).assignment.loads[0] / tile for sharing in SHARINGS}
    highest = max(float(load.max()) for load in found.values())
    for axes, (sharing, load) in zip(panels, found.items(), strict=True):
        axes.imshow(load, cmap="Blues", vmin=0, vmax=1.2 * highest)
        for (row, column), value in np.ndenumerate(load):
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8)
        axes.set_title(f"{sharing}: {load.max():.0f} cycles", fontsize=9)
        axes.set(xticks=[], yticks=[])
    return figure
