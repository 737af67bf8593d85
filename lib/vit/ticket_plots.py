"""Figures of lottery tickets: pictures made of patches, and accuracy over the weights that are left."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lib.lab.plots import COLOURS, plain


def picture_rows(rows: Mapping[str, NDArray[Any]]) -> Figure:
    """A row of pictures per name: `(n, height, width)` grey, or `(n, height, width, 3)` colour."""
    columns = max(len(pictures) for pictures in rows.values())
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(1.3 * columns, 1.5 * len(rows)), squeeze=False, layout="constrained"
    )
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.axis("off")
        for axis, picture in zip(line, pictures, strict=False):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        line[0].set_title(f"{name}: {pictures.shape[2]} pixels", fontsize=9, loc="left")
    return figure


def sparsity_curve(
    left: Sequence[float], accuracies: Sequence[float], controls: Mapping[str, float]
) -> Figure:
    """Accuracy in percent of rewound networks over the share of weights `left`, and controls at the last."""
    figure, axes = plt.subplots(figsize=(6, 3.2))
    axes.plot(left, accuracies, "o-", color=COLOURS[0], label="rewound")
    for (name, accuracy), colour in zip(controls.items(), COLOURS[1:], strict=False):
        axes.plot(left[-1], accuracy, "s", color=colour, label=name)
    axes.invert_xaxis()
    plain(axes, x="share of block weights left", y="test accuracy (%)").legend(fontsize=8, frameon=False)
    return figure
