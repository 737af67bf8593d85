"""Figures that several notebooks draw: quiet axes, units on every label, one colour per variant."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

COLOURS = ("#3b6fb6", "#d1843c", "#5c9e5f", "#a95aa1", "#7f7f7f", "#c44e52")


def plain(axes: Axes, *, x: str, y: str, title: str = "") -> Axes:
    """`axes` with labels (`x`, `y`: quantity and unit), a light grid and no box."""
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return axes


def viewable(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> NDArray[Any]:
    """Normalised `images (n, channels, height, width)` as they look: grey `(n, height, width)`, or colour.

    Colours are the last dimension. `mean` and `std`, per channel, are those of the normalisation.
    """
    scale, shift = (torch.tensor(values)[:, None, None] for values in (std, mean))
    pixels = (images.detach().cpu() * scale + shift).clamp(0, 1).permute(0, 2, 3, 1)
    return pixels.squeeze(-1).numpy()


def kept_patches(
    images: NDArray[Any], keeps: Sequence[NDArray[Any]], grid: tuple[int, int], *, titles: Sequence[str]
) -> Figure:
    """A row per image: the image, then what each stage left of it; dropped patches are dimmed and tinted.

    `images` in [0, 1] are grey `(n, height, width)` or colour `(n, height, width, 3)`, see `viewable`; each
    of `keeps` is `(n, patches)` with 1 for kept; `grid` is rows by columns.
    """
    count, columns = len(images), 1 + len(keeps)
    figure, axes = plt.subplots(count, columns, figsize=(1.5 * columns, 1.5 * count), squeeze=False)
    patch = (images.shape[1] // grid[0], images.shape[2] // grid[1])
    for row in range(count):
        picture = images[row] if images.ndim == 4 else numpy.repeat(images[row][..., None], 3, -1)
        for column in range(columns):
            shown = picture
            if column:
                mask = numpy.kron(keeps[column - 1][row].reshape(grid), numpy.ones(patch))[..., None]
                shown = picture * mask + (0.35 * picture + numpy.array([0.45, 0.2, 0.15])) * (1 - mask)
            axes[row, column].imshow(shown.clip(0, 1), interpolation="nearest")
            axes[row, column].axis("off")
            if row == 0:
                axes[row, column].set_title(titles[column], fontsize=9)
    figure.tight_layout()
    return figure


def bars(
    variants: Mapping[str, Mapping[str, float]], *, y: str, title: str = "", decimals: int = 2
) -> Figure:
    """Grouped bars, each with its value above: `variants` maps a name (a colour) to group -> height."""
    groups = list(dict.fromkeys(group for heights in variants.values() for group in heights))
    figure, axes = plt.subplots(figsize=(2.2 + 1.3 * len(groups), 3.2))
    width = 0.8 / len(variants)
    for index, (name, heights) in enumerate(variants.items()):
        places = numpy.arange(len(groups)) + (index - (len(variants) - 1) / 2) * width
        drawn = axes.bar(
            places,
            [heights.get(group, numpy.nan) for group in groups],
            width * 0.92,
            label=name,
            color=COLOURS[index % len(COLOURS)],
        )
        axes.bar_label(drawn, fmt=f"%.{decimals}f", fontsize=7, padding=1)
    axes.set_xticks(range(len(groups)), [group.replace(" ", "\n") for group in groups], fontsize=8)
    plain(axes, x="", y=y, title=title)
    if len(variants) > 1:
        axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def histogram(counts: Mapping[str, Sequence[float]], *, x: str, y: str) -> Figure:
    """How often each whole number occurs: a panel per variant, one below the other, on shared axes."""
    figure, panels = plt.subplots(
        len(counts), 1, figsize=(6, 1.3 * len(counts)), sharex=True, squeeze=False, layout="constrained"
    )
    highest = int(max(max(values) for values in counts.values()))
    bins = (numpy.arange(highest + 2) - 0.5).tolist()
    for index, (axes, (name, values)) in enumerate(zip(panels[:, 0], counts.items(), strict=True)):
        axes.hist(values, bins=bins, color=COLOURS[index % len(COLOURS)])
        plain(axes, x="", y="", title=name)
    figure.supxlabel(x, fontsize=10)
    figure.supylabel(y, fontsize=10)
    return figure


def curves(
    lines: Mapping[str, Sequence[float]],
    places: Sequence[float] | None = None,
    *,
    x: str,
    y: str,
    reference: Sequence[float] | float | None = None,
    reference_name: str = "reference",
    axes: Axes | None = None,
) -> Figure:
    """A line per variant over `places` (0, 1, 2 ... if none), and a dotted grey `reference` (line, level)."""
    if axes is None:
        _, axes = plt.subplots(figsize=(6, 3.2))
    for index, (name, values) in enumerate(lines.items()):
        where = range(len(values)) if places is None else places
        axes.plot(
            where, values, label=name, color=COLOURS[index % len(COLOURS)], marker="o" if places else None
        )
    if isinstance(reference, int | float):
        axes.axhline(reference, color="grey", linestyle=":", label=reference_name)
    elif reference is not None:
        axes.plot(
            places or range(len(reference)), reference, color="grey", linestyle=":", label=reference_name
        )
    plain(axes, x=x, y=y).legend(fontsize=8, frameon=False)
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure
