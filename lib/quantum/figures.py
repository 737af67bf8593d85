"""Figures of the CompVQC notebook: staircase of levels, circuits before and after, accuracy over depth."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from lib.lab.plots import COLOURS, curves, plain
from lib.quantum.circuits import Circuit, Gate

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from lib.quantum.experiment import Robustness
    from lib.quantum.levels import LevelTable

PHYSICAL = {"rz": "#c9c9c9", "sx": COLOURS[0], "x": COLOURS[2], "cx": COLOURS[1], "swap": COLOURS[3]}
"""Colour of each physical gate; rz is pale because it costs nothing but a change of the clock."""

FREE, PRUNED, QUANTISED = "#e8e8e8", "#a8d5a2", "#a9c6ec"


def staircase(tables: Mapping[str, "LevelTable"]) -> Figure:
    """Compiled length of every gate of `tables` over its angle: a panel per gate, levels as dots."""
    columns = 3
    rows = math.ceil(len(tables) / columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(3.2 * columns, 2.1 * rows), sharex=True, squeeze=False, layout="constrained"
    )
    for axes in panels.flat[len(tables) :]:
        axes.set_axis_off()
    for axes, (name, table) in zip(panels.flat, tables.items(), strict=False):
        lengths = [length.depth for length in table.lengths]
        plain(axes, x="", y="", title=name.upper())
        axes.axhline(table.generic.depth, color="#a0a0a0", linewidth=1.5)
        axes.vlines(range(9), lengths, table.generic.depth, color=COLOURS[0], linewidth=1)
        axes.plot(range(9), lengths, "o", color=COLOURS[0], markersize=4)
        axes.set_ylim(-0.5, None)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_xticks(range(0, 9, 2), ["0", "π", "2π", "3π", "4π"])
    figure.supxlabel("angle (rad); grey: any other angle", fontsize=9)
    figure.supylabel("compiled length (layers)", fontsize=9)
    return figure


def layers(circuit: "QuantumCircuit") -> list[tuple[int, str, tuple[int, ...]]]:
    """Every gate of a compiled circuit as (layer, name, qubits), each as early as its qubits allow.

    Layers count from 0; the last one plus 1 is the depth of the circuit.
    """
    free = [0] * circuit.num_qubits
    placed = []
    for instruction in circuit.data:
        qubits = tuple(circuit.find_bit(qubit).index for qubit in instruction.qubits)
        layer = max(free[qubit] for qubit in qubits)
        for qubit in qubits:
            free[qubit] = layer + 1
        placed.append((layer, instruction.operation.name, qubits))
    return placed


def compiled_circuits(circuits: Mapping[str, "QuantumCircuit"]) -> Figure:
    """Compiled circuits, one below the other, over a common axis of layers: a row a qubit, a cell a gate."""
    drawn = {name: layers(circuit) for name, circuit in circuits.items()}
    widest = max((layer + 1 for gates in drawn.values() for layer, _, _ in gates), default=1)
    figure, panels = plt.subplots(
        len(drawn), 1, figsize=(10, 1.5 * len(drawn)), sharex=True, squeeze=False, layout="constrained"
    )
    for axes, (name, gates) in zip(panels[:, 0], drawn.items(), strict=True):
        depth = max((layer + 1 for layer, _, _ in gates), default=0)
        _draw_layers(axes, gates)
        axes.set(xlim=(-0.5, widest + 0.5), title=f"{name}: {depth} layers", ylabel="qubit")
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel("layer")
    handles = [Rectangle((0, 0), 1, 1, color=colour) for name, colour in PHYSICAL.items() if name != "swap"]
    panels[0, 0].legend(
        handles, [name for name in PHYSICAL if name != "swap"], ncols=4, fontsize=7, frameon=False,
        loc="lower right", bbox_to_anchor=(1, 1),
    )  # fmt: skip
    return figure


def columns(circuit: Circuit) -> list[int]:
    """Column of every gate of the ansatz: as early as the qubits that it is drawn across allow."""
    free = [0] * circuit.qubits
    placed = []
    for gate in circuit.ansatz:
        across = range(min(gate.wires), max(gate.wires) + 1)
        column = max(free[wire] for wire in across)
        for wire in across:
            free[wire] = column + 1
        placed.append(column)
    return placed


def logical_circuit(circuit: Circuit, angles: Tensor, held: Tensor, *, width: int = 22) -> Figure:
    """The gates of the ansatz in the order of time: which angles were compressed, and to what multiple of pi.

    `angles (parameters,)` are in rad, `held (parameters,)` is True for compressed ones. Circuits of more than
    `width` columns are broken into lines.
    """
    places, values = columns(circuit), angles.detach().tolist()
    lines = max(1, math.ceil((max(places, default=0) + 1) / width))
    across = min(width, max(places, default=0) + 1)
    figure, panels = plt.subplots(
        lines,
        1,
        figsize=(0.5 * across + 0.3, 0.4 * circuit.qubits * lines + 0.3),
        squeeze=False,
        layout="constrained",
    )
    for axes in panels[:, 0]:
        axes.set(xlim=(-0.6, across - 0.4), ylim=(circuit.qubits - 0.5, -0.5))
        axes.hlines(range(circuit.qubits), -0.6, across - 0.4, color="#888888", linewidth=0.6, zorder=0)
        axes.set_axis_off()
    for index, (gate, column) in enumerate(zip(circuit.ansatz, places, strict=True)):
        axes, place, target = panels[column // width, 0], column % width, gate.wires[-1]
        angle = values[index] / math.pi
        if gate.controlled:
            axes.plot([place] * 2, gate.wires, color="#555555", linewidth=1, zorder=1)
            axes.plot(place, gate.wires[0], "o", color="#555555", markersize=3)
        colour = _fate(gate, angle) if held[index] else FREE
        axes.add_patch(Rectangle((place - 0.44, target - 0.36), 0.88, 0.72, color=colour, zorder=2))
        label = f"{gate.name[-2:].upper()}\n{angle % 4:.3g}π"
        axes.text(place, target, label, fontsize=5.5, ha="center", va="center", zorder=3)
    figure.suptitle("free (grey), pruned (green), quantised (blue)", fontsize=8)
    return figure


def frontier(
    lines: Mapping[str, Sequence[tuple[float, float]]], *, reference: tuple[float, float], y: str
) -> Figure:
    """Accuracy over compiled depth, a line of (depth, accuracy) per method; dotted: 1/2.5 of the depth.

    `reference` is (depth, accuracy) of the uncompressed circuit.
    """
    figure, axes = plt.subplots(figsize=(6.5, 3.6))
    markers = "os^vDP"
    for index, (name, points) in enumerate(lines.items()):
        ordered = sorted(points)
        axes.plot(
            [depth for depth, _ in ordered],
            [accuracy for _, accuracy in ordered],
            marker=markers[index % len(markers)],
            markersize=4,
            linewidth=1,
            color=COLOURS[index % len(COLOURS)] if index < len(COLOURS) else "#222222",
            label=name,
        )
    axes.plot(*reference, "*", color="black", markersize=10, label="uncompressed")
    axes.axvline(reference[0] / 2.5, color="grey", linestyle=":")
    axes.axhline(reference[1] - 1, color="grey", linestyle=":")
    axes.set_xlim(0, None)
    plain(axes, x="compiled depth (layers)", y=y).legend(fontsize=7, frameon=False, ncols=2)
    figure.tight_layout()
    return figure


def noise(line: Sequence["Robustness"], aware: "Robustness") -> Figure:
    """What noise leaves of circuits of several depths; star: the noise-aware circuit under noise."""
    ordered = sorted(line, key=lambda result: result.depth)
    values = {
        "accuracy without noise": [result.clean for result in ordered],
        "accuracy under noise": [result.noisy for result in ordered],
        "the same from shots": [result.sampled for result in ordered],
        "share of the margin kept": [result.kept for result in ordered],
    }
    depths = [result.depth for result in ordered]
    figure = curves(values, depths, x="depth on the noisy machine (layers)", y="percent")
    axes = figure.axes[0]
    axes.plot(aware.depth, aware.noisy, "*", color=COLOURS[1], markersize=11, label="noise-aware, noisy")
    axes.set(xlim=(0, None), ylim=(0, 100))
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    return figure


def _fate(gate: Gate, angle: float) -> str:
    """Colour of a compressed gate with `angle` in multiples of pi: an identity is pruned, else quantised."""
    period = 4 if gate.controlled else 2
    return PRUNED if abs(math.remainder(angle, period)) < 1e-9 else QUANTISED


def _draw_layers(axes: Axes, gates: Sequence[tuple[int, str, tuple[int, ...]]]) -> None:
    """Cells of one compiled circuit; qubits that no gate touches are left out."""
    used = sorted({qubit for _, _, qubits in gates for qubit in qubits})
    rows = {qubit: row for row, qubit in enumerate(used)}
    for layer, name, qubits in gates:
        colour = PHYSICAL.get(name, "#444444")
        for qubit in qubits:
            axes.add_patch(Rectangle((layer, rows[qubit] - 0.4), 0.9, 0.8, color=colour))
        if len(qubits) > 1:
            ends = [rows[qubit] for qubit in qubits]
            axes.vlines(layer + 0.45, min(ends), max(ends), color=colour, linewidth=1.5)
    axes.set_yticks(range(len(used)), [str(qubit) for qubit in used], fontsize=7)
    axes.set_ylim(max(len(used), 1) - 0.5, -0.5)
