"""Figures of the two channel-pruning notebooks."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lib.cnn.adapruner import Candidate, Prunable
from lib.cnn.bisection import largest_tau, widths_at
from lib.cnn.importance import scales_of
from lib.lab.plots import COLOURS, plain


def block_costs(parent: Prunable) -> Figure:
    """MACs of each block that can be pruned, and of all other layers together."""
    costs = {
        block.rpartition(".")[2]: sum(
            layer.positions * layer.weights({})
            for layer in parent.count.layers
            if layer.name.startswith(f"{block}.")
        )
        / 1e6
        for block in parent.blocks
    }
    costs["rest"] = parent.count.macs({}) / 1e6 - sum(costs.values())
    figure, axes = plt.subplots(figsize=(8, 3))
    colours = [COLOURS[0]] * len(parent.blocks) + [COLOURS[4]]
    axes.bar(range(len(costs)), list(costs.values()), color=colours)
    axes.set_xticks(range(len(costs)), list(costs))
    plain(axes, x="block", y="MMACs")
    return figure


def staircase(parent: Prunable, multiple: int) -> Figure:
    """The cost F(tau) over tau, for planted importances that differ by a factor of four."""
    importance = dict(zip(parent.blocks, numpy.linspace(1, 0.25, len(parent.blocks)).tolist(), strict=True))
    end = largest_tau(importance)
    taus = numpy.linspace(0, end, 400)
    costs = [
        parent.count.macs(widths_at(tau, parent.blocks, importance, multiple=multiple, least=0.1)[1]) / 1e6
        for tau in taus.tolist()
    ]
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.step(taus, costs, color=COLOURS[0], where="post")
    plain(axes, x="tau", y="MMACs F(tau)")
    return figure


def scales(parents: Mapping[str, Prunable]) -> Figure:
    """Histogram of the scales of prunable channels after sparse training, a panel a network."""
    figure, panels = plt.subplots(1, len(parents), figsize=(4 * len(parents), 2.8), squeeze=False)
    for axes, (name, parent) in zip(panels[0], parents.items(), strict=True):
        values = torch.cat([scale.detach().abs() for scale in scales_of(parent.model, parent.inner)])
        axes.hist(values.cpu().numpy(), bins=30, color=COLOURS[0])
        plain(axes, x="|gamma|", y="channels", title=name)
    figure.tight_layout()
    return figure


def candidates(found: Mapping[str, Sequence[Candidate]]) -> Figure:
    """Held-out accuracy of each criterion, before and after recalibration, a panel a network."""
    figure, panels = plt.subplots(1, len(found), figsize=(5 * len(found), 3), squeeze=False, sharey=True)
    for axes, (name, tried) in zip(panels[0], found.items(), strict=True):
        places = numpy.arange(len(tried))
        axes.bar(
            places - 0.2, [100 * c.before for c in tried], 0.38, color=COLOURS[4], label="parent's statistics"
        )
        axes.bar(
            places + 0.2, [100 * c.accuracy for c in tried], 0.38, color=COLOURS[0], label="re-estimated"
        )
        axes.set_xticks(places, [c.criterion.replace("_", "\n") for c in tried], fontsize=8)
        plain(axes, x="", y="held-out accuracy (%)", title=name)
    panels[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def trade_offs(curves: Mapping[str, Sequence[tuple[float, float, float]]]) -> Figure:
    """Accuracy over MACs, and over measured time: points (MACs, time, both relative to dense, accuracy)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for index, (name, points) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        for axes, column in ((left, 0), (right, 1)):
            ordered = sorted((point[column], point[2]) for point in points)
            axes.plot(*zip(*ordered, strict=True), marker="o", color=colour, label=name)
    plain(left, x="MACs, relative to dense", y="test accuracy (%)").legend(frameon=False, fontsize=8)
    plain(right, x="measured time at batch 32, relative to dense", y="")
    figure.tight_layout()
    return figure


def masks(pictures: Mapping[str, Tensor], *, title: str) -> Figure:
    """Masks as rows of black (kept) and white channels: name -> bools `(channels,)`."""
    figure, axes = plt.subplots(figsize=(8, 0.5 + 0.28 * len(pictures)))
    rows = torch.stack([mask.float() for mask in pictures.values()]).cpu().numpy()
    axes.imshow(rows, aspect="auto", cmap="Greys", interpolation="nearest", vmin=0, vmax=1)
    axes.set_yticks(range(len(pictures)), list(pictures), fontsize=8)
    axes.set(xlabel="channel", title=title)
    return figure


def similarities(lines: Mapping[str, tuple[Sequence[float], float]], first: int) -> Figure:
    """Least similarity to the masks before, by epoch from `first` on; thresholds are dotted."""
    figure, axes = plt.subplots(figsize=(6, 3.2))
    for index, (name, (values, threshold)) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(range(first, first + len(values)), values, marker="o", color=colour, label=name)
        axes.axhline(threshold, color=colour, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain(axes, x="epoch", y="cosine similarity of masks").legend(frameon=False, fontsize=8)
    return figure


def fronts(points: Mapping[str, Sequence[tuple[float, float]]], *, x: str) -> Figure:
    """Accuracy over cost, on a logarithmic axis: name -> (cost, accuracy in percent) of each network."""
    figure, axes = plt.subplots(figsize=(6, 3.4))
    for index, (name, pairs) in enumerate(points.items()):
        costs, accuracies = zip(*sorted(pairs), strict=True)
        axes.plot(costs, accuracies, marker="o", color=COLOURS[index % len(COLOURS)], label=name)
    axes.set_xscale("log")
    plain(axes, x=x, y="test accuracy (%)").legend(frameon=False, fontsize=8)
    return figure
