"""Figures of the RAPQ notebook."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lib.cnn.quant_graph import QuantNetwork
from lib.cnn.quantizers import dequantized
from lib.cnn.rapq_experiment import Row
from lib.lab.plots import COLOURS, bars, plain


def staircases(scales: Mapping[str, float], bits: int = 2) -> Figure:
    """x_hat against x for each scale, at zero point 2."""
    figure, axes = plt.subplots(figsize=(5, 3.2))
    x = torch.linspace(-2, 2, 801)
    for index, (name, scale) in enumerate(scales.items()):
        values = dequantized(x, torch.tensor(scale), torch.tensor(2.0), 2**bits)
        axes.plot(x, values, label=name, color=COLOURS[index])
    axes.plot(x, x, color="grey", linestyle=":")
    plain(axes, x="weight x", y="quantized x̂").legend(fontsize=8, frameon=False)
    return figure


def source_errors(errors: Mapping[str, Mapping[int, Mapping[int, float]]]) -> Figure:
    """Error against the exponent for each source, a line for each number of bits."""
    figure, panels = plt.subplots(1, len(errors), figsize=(7.5, 3), sharey=True)
    for axes, (source, by_bits) in zip(panels, errors.items(), strict=True):
        for index, (bits, by_exponent) in enumerate(by_bits.items()):
            where = list(by_exponent)
            axes.plot(
                where, list(by_exponent.values()), marker="o", label=f"{bits} bits", color=COLOURS[index]
            )
        plain(axes, x="exponent e (step 2^e, deviation 1)", y="squared error / variance", title=source)
        axes.set_yscale("log")
    panels[0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def exponents(by_rule: Mapping[str, Mapping[str, float]]) -> Figure:
    """p of every unit, front to back, for each rule."""
    figure, axes = plt.subplots(figsize=(6, 2.8))
    for index, (name, values) in enumerate(by_rule.items()):
        axes.step(range(len(values)), list(values.values()), where="mid", label=name, color=COLOURS[index])
    plain(axes, x="reconstruction unit, front to back", y="loss exponent p").legend(fontsize=8, frameon=False)
    return figure


def accuracies(rows: Sequence[Row], floating: float) -> Figure:
    """Top-1 by method and width."""
    variants: dict[str, dict[str, float]] = {}
    for row in rows:
        variants.setdefault(row.method, {})[row.widths.upper()] = row.accuracy
    figure = bars(variants, y="top-1 (%)", decimals=1)
    figure.axes[0].axhline(floating, color="grey", linestyle=":")
    return figure


def chosen_exponents(network: QuantNetwork) -> Figure:
    """Weight exponents of each layer, front to back: a dot for each output channel."""
    figure, axes = plt.subplots(figsize=(6.5, 2.8))
    for number, layer in enumerate(network.layers):
        if layer.quantizer is None or layer.quantizer.scale.exponent is None:
            continue
        found = layer.quantizer.scale.exponent.flatten().cpu()
        jitter: Tensor = torch.linspace(-0.3, 0.3, len(found))
        axes.scatter(number + jitter, found, s=3, color=COLOURS[0])
    plain(axes, x="layer, front to back", y="exponent e of the weight scale 2^e")
    return figure
