"""Figures of the GRIM notebook: what block size costs and buys, storage, published gains, layer times."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from lib.lab import plots
from lib.rnn.layer_times import LayerTimes


def block_size(
    retained: Mapping[int, float], accuracy: Mapping[int, float], us: Mapping[str, float], dense: float
) -> Figure:
    """What larger blocks do at one rate: norm left, accuracy after training (%), time of a compiled layer.

    `retained` and `accuracy` by the side of square blocks, `us` by "height x width"; `dense` is an accuracy.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.1), layout="constrained")
    sides = sorted(retained)
    left.semilogx(sides, [retained[side] for side in sides], "o-", base=2, color=plots.COLOURS[0])
    plots.plain(left, x="side of a block", y="norm left, ||W o mask|| / ||W||")
    sides = sorted(accuracy)
    middle.semilogx(sides, [accuracy[side] for side in sides], "o-", base=2, color=plots.COLOURS[1])
    middle.axhline(dense, color="grey", linestyle=":", label="dense")
    plots.plain(middle, x="side of a block", y="test accuracy (%)").legend(fontsize=8, frameon=False)
    right.bar(list(us), list(us.values()), color=plots.COLOURS[2])
    plots.plain(right, x="block", y="time of a layer (us)")
    return figure


def index_bits(storages: Mapping[str, Mapping[str, float]]) -> Figure:
    """Index bits a kept weight by format, a group of bars for each matrix."""
    formats = ("coo", "csr", "bcrc", "csb")
    found = {
        name.upper(): {matrix.replace(" ", ""): bits[name] for matrix, bits in storages.items()}
        for name in formats
    }
    return plots.bars(found, y="index bits a kept weight", decimals=1)


def published_gains(plausible: Mapping[str, float], split: Mapping[str, float], claimed: float) -> Figure:
    """The sibling's gains over three runtimes, the claimed maximum, and its gain over MNN in two factors.

    Gains are in energy and the claimed maximum is in time: they compare if all draw the same power.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained")
    names = [key.replace("_", " ") for key in plausible]
    left.barh(names, list(plausible.values()), color=plots.COLOURS[0])
    left.axvline(claimed, color="grey", linestyle=":", label=f"claimed maximum of speed, {claimed}x")
    left.invert_yaxis()
    plots.plain(left, x="frames a joule over the runtime's (x)", y="")
    left.legend(fontsize=8, frameon=False, loc="lower right")
    networks = [key.removeprefix("published_compiler_gain_") for key in split if "compiler" in key]
    places = range(len(networks))
    for offset, (colour, factor) in enumerate(zip(plots.COLOURS, ("compiler", "pruning"), strict=False)):
        heights = [split[f"published_{factor}_gain_{name}"] for name in networks]
        drawn = right.bar([p + 0.4 * offset for p in places], heights, 0.38, color=colour, label=factor)
        right.bar_label(drawn, fmt="%.2f", fontsize=8)
    right.set_xticks([p + 0.2 for p in places], [name.replace("_", " ") for name in networks], fontsize=8)
    plots.plain(right, x="", y="factor of the gain over MNN (x)").legend(fontsize=8, frameon=False)
    return figure


def layer_gains(times: Mapping[str, LayerTimes], rate: float) -> Figure:
    """Speed of each contender over PyTorch's dense product, by layer, and the pruning rate."""
    names = {
        "csr": "CSR, PyTorch",
        "compiled_dense": "dense, compiled",
        "unstructured": "unstructured, compiled",
        "bcr": "BCR, compiled",
    }
    gains = {
        title: {layer: each.us["dense"] / each.us[key] for layer, each in times.items()}
        for key, title in names.items()
    }
    figure = plots.bars(gains, y="speed over dense PyTorch (x)")
    axes = figure.axes[0]
    axes.axhline(rate, color="grey", linestyle=":", label="pruning rate")
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set_ylim(top=1.5 * max(rate, axes.get_ylim()[1]))  # room for the legend
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper left")
    return figure
