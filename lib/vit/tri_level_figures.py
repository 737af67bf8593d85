"""Figures of the Tri-Level notebook: what is easy and what is not, and who still sees whom."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lib.lab.datasets import ImageSplit
from lib.lab.plots import viewable


def extremes(split: ImageSplit, counts: Tensor, *, each: int = 6) -> Figure:
    """The `each` least and most forgotten pictures of `split`, by their forgetting `counts (images,)`."""
    order = counts.argsort(stable=True)
    figure, axes = plt.subplots(2, each, figsize=(1.5 * each, 3.2), squeeze=False)
    for row, (name, places) in enumerate({"least": order[:each], "most": order[-each:]}.items()):
        pictures = viewable(
            torch.stack([split[place][0] for place in places.tolist()]), split.mean, split.std
        )
        for column, (picture, place) in enumerate(zip(pictures, places.tolist(), strict=True)):
            axes[row, column].imshow(picture, cmap="grey", interpolation="nearest")
            axes[row, column].axis("off")
            axes[row, column].set_title(f"{split.classes[int(split.labels[place])]}", fontsize=8)
        axes[row, 0].text(
            -0.1, 0.5, name, transform=axes[row, 0].transAxes, rotation=90, va="center", ha="right"
        )
    figure.tight_layout()
    return figure


def connections(masks: Sequence[Tensor], titles: Sequence[str]) -> Figure:
    """Who sees whom in one picture: a panel for each of `masks (patches, patches)`, one per stage."""
    figure, axes = plt.subplots(1, len(masks), figsize=(3 * len(masks), 3.3), squeeze=False)
    for panel, mask, title in zip(axes[0], masks, titles, strict=True):
        panel.imshow(mask.cpu(), cmap="Blues", interpolation="nearest")
        panel.set(xlabel="patch seen", ylabel="patch", title=title)
    figure.tight_layout()
    return figure
