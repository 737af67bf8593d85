"""Figures of HeatViT's notebook: approximated functions, latency tables against arithmetic, accuracies."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from lib.lab import plots
from lib.vit import function_checks
from lib.vit.approximations import Function
from lib.vit.stages import LatencyTable


def three_views(functions: Mapping[str, Function], low: float, high: float) -> Figure:
    """Output, error and slope of `functions` from `low` to `high`; errors are against that named `exact`."""
    x = function_checks.grid(low, high, 2001)
    truth = functions["exact"](x)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    for name, function in functions.items():
        left.plot(x, function(x), label=name)
        middle.plot(x, function(x) - truth)
        right.plot(x, function_checks.slope(function, x))
    for axes, quantity in ((left, "output"), (middle, "error"), (right, "slope")):
        plots.plain(axes, x="input", y=quantity)
    left.legend(fontsize=7, frameon=False)
    return figure


def against_line(tables: Mapping[str, LatencyTable], lines: Mapping[str, Sequence[float]]) -> Figure:
    """A panel per table: latency of a block at each keep ratio, relative, and its arithmetic (dotted)."""
    figure, panels = plt.subplots(1, len(tables), figsize=(4.5 * len(tables), 3.2), squeeze=False)
    for axes, (name, table) in zip(panels[0], tables.items(), strict=True):
        times, macs = ([value / row[0] for value in row] for row in (table.block_ms, lines[name]))
        plots.curves(
            {name: times},
            table.ratios,
            x="keep ratio",
            y="block, relative",
            reference=macs,
            reference_name="MACs",
            axes=axes,
        )
    figure.tight_layout()
    return figure


def accuracy_panels(groups: Mapping[str, Mapping[str, float]]) -> Figure:
    """A panel of bars per group: test accuracy in percent of its variants."""
    figure, panels = plt.subplots(1, len(groups), figsize=(5.5 * len(groups), 3.2), squeeze=False)
    for axes, (title, scores) in zip(panels[0], groups.items(), strict=True):
        axes.bar_label(axes.bar(list(scores), list(scores.values())), fmt="%.1f", fontsize=8)
        plots.plain(axes, x="", y="test accuracy (%)", title=title)
    figure.tight_layout()
    return figure
