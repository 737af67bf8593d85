"""Figures of the hardware comparison: what is published beside what is modelled."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from hw_models import Device
from hw_models.block_speedup import BlockSpeedup
from hw_models.comparison import Comparison
from hw_models.heatvit import LISTED_MHZ, RECALLED_MHZ, HeatVit
from hw_models.reference_points import EfficiencyPoint, points
from hw_models.search import Sweep
from hw_models.span import Span
from lib.hardware import consistency
from lib.hardware import mobile_vs_fpga as study
from lib.hardware.mobile_vs_fpga import PHONE, TITLES, Modelled
from lib.lab.plots import COLOURS, plain

RUNTIMES = {"mnn": "MNN", "tvm": "TVM", "tflite": "TF-Lite", "own": "authors'"}
HOW = {
    **RUNTIMES,
    "cpu": "phone CPU",
    "float32": "float 32",
    "float16": "float 16",
    "fixed16": "fixed 16",
    "fixed8": "fixed 8",
    "power_of_two": "2ⁿ weights",
    "binary": "binary",
}
"""Short names of runtimes and number formats, in the order of the figures."""
SCHEMES = {"p2": "2ⁿ", "sp2": "2ⁿ sums", "mixed": "mixed", "mixed_precision": "mixed, several widths"}
"""Weights of surveyed designs that have no one width."""
BOARD_TITLES = {"zcu102": "ZCU102", "xc7z020": "XC7Z020", "xc7z045": "XC7Z045"}
PUBLISHED: dict[str, Any] = {
    "color": "black",
    "marker": "D",
    "linestyle": "none",
    "markersize": 5,
    "zorder": 5,
}


def published_efficiencies() -> Figure:
    """The article's comparison: published GOP/s/W of every classification network that both sides run."""
    figure, axes = plt.subplots(figsize=(9, 3.6))
    networks = [name for name in study.NETWORKS if name != "resnet50"]
    for index, network in enumerate(networks):
        for row in points("phones", "seen"):
            if (row.device, row.network, row.quantity) == (PHONE, network, "gops_per_w"):
                axes.plot(index - 0.1, row.value, "o", color=COLOURS[0])
                axes.annotate(
                    RUNTIMES[row.framework], (index - 0.15, row.value), ha="right", va="center", fontsize=8
                )
        for point in _fpga_points(network, "gops_per_w"):
            axes.plot(
                [index + 0.1] * 2, [point.low, point.high], "-s", color=COLOURS[1], markersize=5, alpha=0.8
            )
        for name, value in _named_places(network):
            axes.annotate(name, (index + 0.15, value), ha="left", va="center", fontsize=8)
    axes.plot([], [], "o", color=COLOURS[0], label="GPU of a Galaxy S20")
    axes.plot([], [], "-s", color=COLOURS[1], label="FPGA (range over designs)")
    axes.set(yscale="log", xlim=(-0.6, len(networks) - 0.1))
    axes.set_xticks(range(len(networks)), [TITLES[name] for name in networks])
    _decimal(axes)
    plain(axes, x="", y="published efficiency (GOP/s/W)").legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def self_check(
    powers: Sequence[consistency.ImpliedPower], stated_w: float, rates: Sequence[consistency.NormalisedRate]
) -> Figure:
    """Left: the power that latency and efficiency imply. Right: speed over what the used slices could do."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), width_ratios=(1, 1.25))
    names = list(dict.fromkeys(row.network for row in powers))
    for index, framework in enumerate(dict.fromkeys(row.framework for row in powers)):
        values = [(names.index(row.network), row.power_w) for row in powers if row.framework == framework]
        left.plot(*zip(*values, strict=True), "o", color=COLOURS[index], label=RUNTIMES[framework])
    left.axhline(stated_w, color="grey", linestyle=":", label="stated")
    left.set_xticks(range(len(names)), [TITLES[name] for name in names], fontsize=8)
    left.set_xlim(-0.4, len(names) - 0.6)
    plain(left, x="", y="implied power of the phone (W)").legend(fontsize=8, frameon=False)
    ordered = sorted((row for row in rates if row.task == "classification"), key=lambda row: row.share)
    bits = {row.design: f"{row.weight_bits} bits" for row in points("fpga_survey") if row.weight_bits}
    titles = [
        f"{TITLES.get(row.network or '', row.network)}, {bits.get(row.design, 'mixed')}, {row.device.upper()}"
        for row in ordered
    ]
    drawn = right.barh(range(len(ordered)), [row.share for row in ordered], color=COLOURS[1])
    right.bar_label(drawn, fmt="%.2f", fontsize=8, padding=-24, color="white")
    right.axvline(1, color="grey", linestyle=":")
    right.set_yticks(range(len(ordered)), [_tidy(title) for title in titles], fontsize=8)
    plain(right, x="multiply-accumulates per slice and cycle", y="")
    figure.tight_layout()
    return figure


def predicted_published(panels: Mapping[str, Mapping[str, Sequence[Comparison]]], band: float) -> Figure:
    """A panel each: predictions over published values by group, where both agree, and a relative band."""
    figure, found = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.8), squeeze=False)
    for axes, (title, groups) in zip(found[0], panels.items(), strict=True):
        every = [point for group in groups.values() for point in group]
        ends = np.array([0.7, 1.4]) * [
            min(min(point.published, point.predicted) for point in every),
            max(max(point.published, point.predicted) for point in every),
        ]
        axes.plot(ends, ends, color="grey", linestyle=":")
        axes.fill_between(ends, ends * (1 - band), ends * (1 + band), color="grey", alpha=0.15, linewidth=0)
        for index, (name, group) in enumerate(groups.items()):
            x, y = [point.published for point in group], [point.predicted for point in group]
            axes.plot(x, y, "o", color=COLOURS[index % len(COLOURS)], label=name, markersize=5)
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        _decimal(axes, both=True)
        unit = every[0].unit
        plain(axes, x=f"published ({unit})", y=f"predicted ({unit})", title=title)
        axes.title.set_fontsize(10)
        if len(groups) > 1:
            axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def design_space(found: Sweep, macs: float, device: Device) -> Figure:
    """Every engine of a sweep that fits: latency over DSP slices, the best at each size, and the ideal."""
    slices = np.asarray(found.resources.dsp, dtype=float)
    latency = 1e3 * found.latency_s
    order = np.argsort(slices, kind="stable")
    best = np.minimum.accumulate(latency[order])
    front = np.flatnonzero(np.diff(best, prepend=np.inf) < 0)
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    shown = np.flatnonzero(slices >= slices.max() / 30)
    axes.scatter(
        slices[shown], latency[shown], s=2, color=COLOURS[0], alpha=0.3, linewidths=0, rasterized=True
    )
    axes.step(slices[order][front], best[front], where="post", color=COLOURS[1], label="fastest of its size")
    sizes = np.geomspace(slices.max() / 30, slices.max(), 50)
    ideal = 1e3 * macs / (sizes * device.need("clock").si)
    axes.plot(sizes, ideal, ":", color="grey", label="every slice busy in every cycle")
    axes.set(xscale="log", yscale="log", xlim=(slices.max() / 30, 1.1 * slices.max()))
    axes.set_ylim(0.8 * ideal.min(), 1.3 * latency[shown].max())
    _decimal(axes, both=True)
    axes.scatter([], [], color=COLOURS[0], s=8, label="an engine that fits")
    plain(axes, x=f"DSP slices of {BOARD_TITLES[device.name]}", y="latency (ms)").legend(
        fontsize=8, frameon=False
    )
    figure.tight_layout()
    return figure


def energies(results: Sequence[Modelled]) -> Figure:
    """Energy of an image, a panel per network: modelled with ranges, published as diamonds."""
    networks = list(dict.fromkeys(each.network for each in results))
    used = {each.choice.how for each in results}
    ticks = [how for how in HOW if how in used]
    boards = list(dict.fromkeys(each.choice.device for each in results if not each.choice.is_phone))
    rows = -(-len(networks) // 2)
    figure, panels = plt.subplots(
        rows, min(2, len(networks)), figsize=(5.6 * min(2, len(networks)), 3.5 * rows), squeeze=False
    )
    for axes, network in zip(panels.flat, networks, strict=False):
        drawn: dict[str, list[tuple[float, Span]]] = {}
        for each in results:
            if each.network == network:
                spot = float(ticks.index(each.choice.how))
                if not each.choice.is_phone:
                    spot += 0.22 * (boards.index(each.choice.device) - (len(boards) - 1) / 2)
                drawn.setdefault(_colour(each, boards), []).append((spot, each.energy_mj))
        for colour, spots in drawn.items():
            _with_ranges(axes, spots, colour)
        for place, low, high in _published_energies(network, ticks):
            axes.plot([place] * 2, [low, high], color="black", linewidth=1)
            axes.plot([place] * 2, [low, high], fillstyle="none", **PUBLISHED)
        axes.set_yscale("log")
        axes.set_xticks(range(len(ticks)), [HOW[how] for how in ticks], rotation=40, ha="right", fontsize=8)
        axes.axvspan(
            -0.5, sum(how not in study.FORMATS for how in ticks) - 0.5, color="grey", alpha=0.1, linewidth=0
        )
        axes.set_xlim(-0.5, len(ticks) - 0.5)
        plain(axes, x="", y="energy an image (mJ)", title=TITLES[network]).title.set_fontsize(10)
        right = axes.secondary_yaxis("right", functions=(_per_joule, _per_joule))
        right.set_ylabel("frames/s/W")
        _decimal(axes)
        _decimal(right)
    for axes in panels.flat[len(networks) :]:
        axes.set_visible(False)
    _legend(figure, panels.flat[0], boards)
    return figure


def turning_points(results: Sequence[Modelled], formats: Sequence[str]) -> Figure:
    """Energy of an image on the best FPGA over that on the phone: below 1 the FPGA wins."""
    networks = list(dict.fromkeys(each.network for each in results))
    figure, axes = plt.subplots(figsize=(7.5, 3.4))
    for index, name in enumerate(formats):
        colour = plt.get_cmap("viridis")(index / max(1, len(formats) - 0.5))
        place = 0.8 * ((index + 0.5) / len(formats) - 0.5)
        spots = []
        for spot, network in enumerate(networks):
            fpga, phone = study.best_fpga(results, network, (name,)), study.on_phone(results, network)
            spots.append((spot + place, study.turning_factor(fpga, phone)))
        _with_ranges(axes, spots, colour)
        axes.plot([], [], "o", color=colour, label=HOW[name])
    axes.axhline(1, color="black", linewidth=1)
    axes.set_yscale("log")
    axes.set_xticks(range(len(networks)), [TITLES[name] for name in networks])
    _decimal(axes)
    plain(axes, x="", y="energy, best FPGA / phone (MNN)")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


def energy_parts(results: Sequence[Modelled]) -> Figure:
    """Modelled parts of the energy of an image, a bar per platform; a tick marks power times time."""
    titles = {PHONE: "phone GPU", **BOARD_TITLES}
    labels = [f"{titles.get(r.choice.device, '')} {HOW[r.choice.how]}".strip() for r in results]
    figure, axes = plt.subplots(figsize=(7.5, 0.34 * len(results) + 1.3))
    left = np.zeros(len(results))
    for index, part in enumerate(results[0].estimate.energy.parts):
        widths = np.array([each.estimate.energy.parts[part].value for each in results])
        axes.barh(
            range(len(results)), widths, left=left, color=COLOURS[index], label=part.replace("dram", "DRAM")
        )
        left += widths
    whole = [each.energy_mj.value for each in results]
    axes.plot(whole, range(len(results)), "|", color="black", markersize=12, label="power x time")
    axes.set_yticks(range(len(results)), labels, fontsize=8)
    axes.invert_yaxis()
    plain(axes, x=f"energy an image of {TITLES[results[0].network]} (mJ)", y="")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


def energy_accuracy(results: Sequence[Modelled]) -> Figure:
    """Energy of an image over published top-1, for points that have both; open circles are our model."""
    figure, axes = plt.subplots(figsize=(6.6, 3.8))
    phones = points("phones", "seen")
    top1 = {
        (row.network, row.framework, row.weights): row.value
        for row in phones
        if (row.device, row.quantity) == (PHONE, "top1_percent")
    }
    for index, network in enumerate(study.FITTED_NETWORKS):
        colour = COLOURS[index]
        for row in phones:
            key = row.network, row.framework, row.weights
            here = (row.device, row.network, row.quantity) == (PHONE, network, "frames_per_s_per_w")
            if here and key in top1:
                marker = "o" if row.weights == "dense" else "*"
                size = 6 if marker == "o" else 12
                axes.plot(top1[key], 1e3 / row.value, marker, color=colour, markersize=size)
                ours = study.on_phone(results, network, row.framework).energy_mj.value
                if row.weights == "dense":
                    axes.plot(top1[key] + 0.15, ours, "o", color=colour, markersize=6, fillstyle="none")
        fpga = {point.design: point.value for point in _fpga_points(network, "frames_per_s_per_w")}
        for point in _fpga_points(network, "top1_percent"):
            if point.design in fpga:
                axes.plot(point.value, 1e3 / fpga[point.design], "s", color=colour, markersize=7)
        axes.plot([], [], "o", color=colour, label=TITLES[network])
    for marker, label in (("o", "phone, dense"), ("*", "phone, pruned"), ("s", "FPGA, mixed weights")):
        axes.plot([], [], marker, color="grey", label=label)
    axes.plot([], [], "o", color="grey", fillstyle="none", label="our model, dense")
    axes.set_yscale("log")
    _decimal(axes)
    plain(axes, x="published top-1 on ImageNet (%)", y="energy an image (mJ)")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


def block_sizes(modelled: Mapping[float, Mapping[str, BlockSpeedup]]) -> Figure:
    """Left: speedup by block size, published and modelled at each rate. Right: what it costs in accuracy."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4))
    names = list(study.BLOCKS)
    said, top1 = study.published_blocks("speedup"), study.published_blocks("top1_percent")
    left.plot([said[name] for name in names], color="black", marker="D", label="Fig 9")
    for index, (rate, speeds) in enumerate(modelled.items()):
        colour = COLOURS[index % len(COLOURS)]
        left.plot(
            [speeds[name].speedup for name in names], color=colour, marker="o", label=f"model, {rate:g}x"
        )
        left.axhline(rate, color=colour, linestyle=":", linewidth=1)
    left.set_xticks(
        range(len(names)), [name if name == "matrix" else f"{name}x{name}" for name in names], fontsize=8
    )
    left.set_ylim(bottom=0)
    plain(left, x="block, filters x channels (dotted: the ideal)", y="speed over dense (x)")
    left.legend(fontsize=8, frameon=False)
    first = next(iter(modelled.values()))
    right.plot(
        [said[name] for name in names], [top1[name] for name in names], "D", color="black", label="Fig 9"
    )
    right.plot(
        [first[name].speedup for name in names],
        [top1[name] for name in names],
        "o",
        color=COLOURS[0],
        label="model",
    )
    plain(right, x="speed over dense (x)", y="published top-1 (%)").legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def heatvit(clocks: Mapping[float, Mapping[str, HeatVit]]) -> Figure:
    """Left: latency of pruned 8-bit networks at each clock. Right: speedups and the published ranges."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4))
    said = study.heatvit_published()
    listed = clocks[LISTED_MHZ]
    names = list(listed)
    for index, (mhz, found) in enumerate(clocks.items()):
        place = 0.2 * index - 0.1
        spots = [(names.index(name) + place, each.pruned_8.latency) for name, each in found.items()]
        _with_ranges(left, spots, COLOURS[index])
        left.plot([], [], "o", color=COLOURS[index], label=f"model, {mhz:g} MHz")
    for spot, name in enumerate(names):
        seen, recalled = said.get(f"latency_{name}"), said.get(f"latency_{name}_{RECALLED_MHZ:.0f}")
        if seen:
            left.plot(spot - 0.1, seen[0], **PUBLISHED)
        if recalled:
            left.plot(spot + 0.1, recalled[0], fillstyle="none", **PUBLISHED)
    left.plot([], [], label="published, seen", **PUBLISHED)
    left.plot([], [], fillstyle="none", label="published, recalled", **PUBLISHED)
    left.set_yscale("log")
    left.set_xticks(range(len(names)), [TITLES[name] for name in names])
    left.set_xlim(-0.5, len(names) - 0.5)
    _decimal(left)
    plain(left, x="", y="latency, pruned, 8 bits (ms)").legend(fontsize=8, frameon=False, loc="lower right")
    for index, (key, title) in enumerate((("speedup", "pruned and 8 bits"), ("pruning", "pruned alone"))):
        low, high = said[f"{key}_lowest"][0], said[f"{key}_highest"][0]
        right.axhspan(low, high, color=COLOURS[index], alpha=0.2, linewidth=0, label=f"published: {title}")
        values = [each.speedup if key == "speedup" else each.pruning_speedup for each in listed.values()]
        right.plot(values, "o", color=COLOURS[index], label=f"model: {title}")
    right.set_xticks(range(len(names)), [TITLES[name] for name in names])
    right.set_xlim(-0.5, len(names) - 0.5)
    right.set_ylim(0, 1.5 * said["speedup_highest"][0])
    plain(right, x="", y="speed over dense 16-bit (x)").legend(
        fontsize=8, frameon=False, ncols=2, loc="upper center"
    )
    figure.tight_layout()
    return figure


def _with_ranges(axes: Axes, spots: Sequence[tuple[float, Span]], colour: Any) -> None:
    x, values = [spot for spot, _ in spots], [span.value for _, span in spots]
    ends = [[span.value - span.low for _, span in spots], [span.high - span.value for _, span in spots]]
    axes.errorbar(x, values, yerr=ends, fmt="o", color=colour, markersize=4, linewidth=1, capsize=2)


def _colour(each: Modelled, boards: Sequence[str]) -> str:
    return COLOURS[0] if each.choice.is_phone else COLOURS[1 + boards.index(each.choice.device)]


def _legend(figure: Figure, axes: Axes, boards: Sequence[str]) -> None:
    names = {"phone": COLOURS[0]} | {BOARD_TITLES[name]: COLOURS[1 + i] for i, name in enumerate(boards)}
    for name, colour in names.items():
        axes.plot([], [], "o", color=colour, label=name)
    axes.plot([], [], fillstyle="none", label="published", **PUBLISHED)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.05, 1, 1))


def _per_joule(mj: Any) -> Any:
    """Images a joule of millijoules an image, and back."""
    with np.errstate(divide="ignore"):
        return 1e3 / np.asarray(mj, dtype=float)


def _decimal(axes: Any, *, both: bool = False) -> None:
    """Plain numbers on a logarithmic axis, also at 2 and 5 where it spans little."""
    for axis in (axes.yaxis, axes.xaxis) if both else (axes.yaxis,):
        low, high = sorted(axis.get_view_interval())
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())


def _tidy(title: str) -> str:
    return (
        title.replace("rr_mobilenet", "RR-MobileNet").replace("mobilenet_v3", "MobileNetV3").replace("_", " ")
    )


def _fpga_points(network: str, quantity: str) -> list[EfficiencyPoint]:
    return [
        row for row in points("fpga_efficiency", "seen") if (row.network, row.quantity) == (network, quantity)
    ]


def _named_places(network: str) -> list[tuple[str, float]]:
    """Names for the published FPGA points of a network, near ones on one line, and where to write them."""
    lines: list[tuple[list[str], list[float]]] = []
    for point in sorted(_fpga_points(network, "gops_per_w"), key=lambda point: point.high):
        if point.design.startswith("classify"):
            continue  # the same design on two chips: inside the range of its width
        name = f"{point.weight_bits} bits" if point.weight_bits else SCHEMES[point.design]
        if not lines or point.high > 1.1 * lines[-1][1][-1]:
            lines.append(([], []))
        lines[-1][0].append(name)
        lines[-1][1].append(point.high)
    return [(", ".join(names), sum(heights) / len(heights)) for names, heights in lines]


def published_rows() -> list[tuple[str, str, str, float, float, str | None]]:
    """Network, runtime or format, whose figure, low and high GOP/s/W, and the modelled device it is of."""
    found: list[tuple[str, str, str, float, float, str | None]] = [
        (row.network, row.framework, "the phone", row.value, row.value, None)
        for row in points("phones", "seen")
        if (row.device, row.quantity, row.weights) == (PHONE, "gops_per_w", "dense") and row.network in TITLES
    ]
    formats = {32: "float32", 16: "fixed16", 8: "fixed8", 1: "binary"}
    for network in study.NETWORKS:
        for point in _fpga_points(network, "gops_per_w"):
            how = formats.get(point.weight_bits or 0, "power_of_two")
            device = point.device if point.device in BOARD_TITLES else None
            label = _tidy(point.weight_format or f"{point.weight_bits} bits")
            place = point.device.upper().replace("_", " ") if point.device else "several chips"
            found.append((network, how, f"{label}, {place}", point.low, point.high, device))
    return found


def _published_energies(network: str, ticks: Sequence[str]) -> list[tuple[float, float, float]]:
    """Place on the axis, lowest and highest millijoules an image, of the published efficiencies."""
    counts = [row.gop for row in consistency.operation_counts() if row.network == network]
    if not counts:
        return []
    return [
        (float(ticks.index(how)), 1e3 * counts[0] / high, 1e3 * counts[0] / low)
        for name, how, _, low, high, _ in published_rows()
        if name == network and how in ticks
    ]
