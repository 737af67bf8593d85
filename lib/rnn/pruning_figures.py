"""Figures that notebooks of structured pruning share: masks, accuracies and times over the pruning rate."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from lib.lab import plots


def mask_pictures(masks: Mapping[str, Tensor], *, columns: int = 4, side: int = 128) -> Figure:
    """Kept weights (dark) of the upper left corner of each mask `(P, Q)`, at most `side` rows and columns."""
    lines = -(-len(masks) // columns)
    figure, panels = plt.subplots(
        lines, min(columns, len(masks)), figsize=(2.5 * min(columns, len(masks)), 2.6 * lines), squeeze=False
    )
    for axes in panels.flat:
        axes.axis("off")
    for axes, (name, mask) in zip(panels.flat, masks.items(), strict=False):
        axes.imshow(mask[:side, :side].cpu(), cmap="Blues", interpolation="nearest", vmin=0, vmax=1.2)
        axes.set_title(name, fontsize=9)
    figure.tight_layout()
    return figure


def latencies_over_rate(
    lines: Mapping[str, Mapping[float, float]], *, y: str, levels: Mapping[str, float]
) -> Figure:
    """Time over pruning rate, both logarithmic; `levels` are dotted lines across, by name."""
    figure, axes = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    for colour, (name, times) in zip(plots.COLOURS, lines.items(), strict=False):
        axes.loglog(list(times), list(times.values()), "o-", color=colour, label=name)
    for style, (name, level) in zip((":", "--", "-."), levels.items(), strict=False):
        axes.axhline(level, color="grey", linestyle=style, label=name)
    plots.plain(axes, x="pruning rate", y=y).legend(fontsize=8, frameon=False)
    return figure


def accuracies(curves: Mapping[str, Mapping[float, float]], dense: float) -> Figure:
    """Test accuracy over pruning rate by structure, and the dense network's as a dotted line."""
    figure, axes = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    for colour, (name, points) in zip(plots.COLOURS, curves.items(), strict=False):
        rates: Sequence[float] = sorted(points)
        axes.semilogx(rates, [points[rate] for rate in rates], "o-", color=colour, label=name)
    axes.axhline(dense, color="grey", linestyle=":", label="dense")
    ticks = sorted({rate for points in curves.values() for rate in points})
    axes.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
    axes.set_xticks([], minor=True)
    plots.plain(axes, x="pruning rate", y="test accuracy (%)").legend(fontsize=8, frameon=False)
    return figure


def accuracy_dots(scores: Mapping[str, float], dense: float) -> Figure:
    """Test accuracies at one rate, a dot an arm, and the dense network's as a dotted line.

    Dots, since bars from zero would hide the differences and bars from elsewhere exaggerate them.
    """
    figure, axes = plt.subplots(figsize=(6.5, 0.6 + 0.32 * len(scores)), layout="constrained")
    axes.plot(list(scores.values()), list(scores), "o", color=plots.COLOURS[0])
    for name, score in scores.items():
        axes.annotate(f"{score:.1f}", (score, name), (6, -3), textcoords="offset points", fontsize=8)
    axes.axvline(dense, color="grey", linestyle=":", label="dense")
    axes.invert_yaxis()
    axes.margins(x=0.1)
    plots.plain(axes, x="test accuracy (%)", y="").legend(fontsize=8, frameon=False)
    return figure
