"""Pictures of attention regions: what was scored, masked, boxed and looked at again."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from lib.finegrained.aftrans import Collected
from lib.finegrained.regions import Grid

TITLES = ("image", "score", "mask", "box (solid)\nrandom (dashed)", "second look")


def _box(axes: Axes, box: Tensor, colour: str, line: str) -> None:
    top, left, bottom, right = box.tolist()
    corner = (left - 0.5, top - 0.5)
    axes.add_patch(
        Rectangle(corner, right - left, bottom - top, fill=False, color=colour, linestyle=line, linewidth=1.8)
    )


def regions(images: NDArray[Any], crops: NDArray[Any], found: Collected, blind: Tensor, grid: Grid) -> Figure:
    """A row per image: the image, its gated scores, the mask, the box and a random one, and the crop.

    `images` and `crops` as from `lib.lab.plots.viewable`; `blind (n, 4)` are the random boxes. Scores and
    masks lie on the grid of patches, everything else on pixels.
    """
    figure, axes = plt.subplots(
        len(images), 5, figsize=(7.5, 1.5 * len(images)), squeeze=False, layout="constrained"
    )
    for row, panels in enumerate(axes):
        on_grid = [
            part[row].detach().cpu().view(grid.rows, grid.columns) for part in (found.scores, found.mask)
        ]
        shown = (images[row], *on_grid, images[row], crops[row])
        for panel, picture, title in zip(panels, shown, TITLES, strict=True):
            panel.imshow(picture, cmap="viridis" if title == "score" else "gray", interpolation="nearest")
            panel.axis("off")
            if row == 0:
                panel.set_title(title, fontsize=9)
        _box(panels[3], found.boxes[row], "#d1843c", "-")
        _box(panels[3], blind[row], "#3b9fe0", "--")
    return figure
