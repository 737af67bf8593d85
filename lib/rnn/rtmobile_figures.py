"""Figures of the RTMobile notebook: the recalled table, and energies of both sides."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from lib.lab import plots
from lib.rnn import rtmobile_checks as checks


def results_table() -> Figure:
    """The recalled table: time over rate, and the power that its energies imply, GPU and CPU."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for colour, part in zip(plots.COLOURS, ("gpu", "cpu"), strict=False):
        rows = checks.results(part)
        rates = [row.rate for row in rows]
        left.loglog(rates, [row.latency_us for row in rows], "o-", color=colour, label=part.upper())
        right.semilogx(rates, [row.power_w for row in rows], "o-", color=colour, label=part.upper())
    left.axhline(checks.ese()["latency_us"], color="grey", linestyle=":", label="ESE, 82.7 us")
    first = checks.results("gpu")[0].latency_us
    left.loglog([1, 301], [first, first / 301], color="grey", linestyle="--", label="time over rate")
    plots.plain(left, x="pruning rate", y="time (us)", title="recalled").legend(fontsize=8, frameon=False)
    plots.plain(right, x="pruning rate", y="implied power (W)", title="derived").set_ylim(bottom=0)
    return figure


def energies(phone_uj: Mapping[str, float], fpga_uj: Mapping[str, float]) -> Figure:
    """Microjoules on a logarithmic axis, phone (blue) and FPGA (orange), by label.

    Dots, since the length of a bar means nothing on an axis without a zero.
    """
    figure, axes = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
    for colour, found in zip(plots.COLOURS, (phone_uj, fpga_uj), strict=False):
        axes.plot(list(found.values()), list(found), "o", color=colour)
        for name, value in found.items():
            axes.annotate(f"{value:.0f}", (value, name), (6, -3), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.margins(x=0.1)
    plots.plain(axes, x="energy (uJ)", y="")
    return figure
