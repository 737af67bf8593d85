"""Figures of the Tri-Level notebook: what is easy and what is not, who still sees whom, arms and controls."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lib.lab.datasets import ImageSplit
from lib.lab.plots import bars, viewable


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


def beside_controls(scores: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """`scores` by arm, for grouped bars: what chose (the method, chance, a fixed ratio) -> arm -> score.

    Controls are named after what they control, `all_random` and `all_topk` after `all`.
    """
    endings = {"_random": "by lot", "_topk": "fixed-ratio top-k"}
    grouped: dict[str, dict[str, float]] = {"by the method": {}, **{kind: {} for kind in endings.values()}}
    for name, score in scores.items():
        ending = next((ending for ending in endings if name.endswith(ending)), "")
        kind = endings.get(ending, "by the method")
        grouped[kind][name.removesuffix(ending).replace("_", " ")] = score
    return grouped


def accuracies(scores: Mapping[str, float]) -> Figure:
    """Test accuracy in percent by arm, `scores`, each control beside what it controls."""
    figure = bars(beside_controls(scores), y="test accuracy (%)", decimals=1)
    figure.axes[0].set_ylim(top=1.3 * max(*scores.values(), 1.0))  # room for the legend
    return figure


def training_time(times: Mapping[str, float], operations: Mapping[str, float]) -> Figure:
    """Time and operations of whole trainings over the dense one, for the arms that `operations` holds.

    The title sets the attention level's time against dense attention with the fused kernel and without.
    """
    groups = {name: name.replace("_", " ") for name in operations}
    fused, unfused = (times["attention"] / times[name] for name in ("dense", "dense_unfused"))
    figure = bars(
        {
            "operations": {groups[name]: operations[name] for name in groups},
            "time": {groups[name]: times[name] for name in groups},
        },
        y="whole training, over dense",
        title=f"the attention level's time: {fused:.2f} x dense, {unfused:.2f} x dense unfused",
    )
    figure.axes[0].set_ylim(top=1.15 * max(*times.values(), *operations.values()))
    return figure
