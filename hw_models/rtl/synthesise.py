"""What the engine costs in an UltraScale+ FPGA, counted by synthesis."""

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hw_models.rtl import tools
from hw_models.rtl.structure import Tile, check_tile


@dataclass(frozen=True)
class Resources:
    """Cells of the synthesised engine, controller included; its memories are outside and not counted."""

    dsp: int
    """Multipliers of type DSP48E2."""
    lut: int
    """Look-up tables of one to six inputs; none is used as memory or shift register."""
    ff: int
    carry: int
    """Carry chains of four bits (CARRY4)."""
    tool_version: str


def resources(tile: Tile, bits: int) -> Resources:
    """Cells of an engine with tile (inputs, outputs, heads) and operand bits.

    Yosys maps to UltraScale+ cells, out of context: no input, output or clock buffers. It leaves weight and
    product registers in flip-flops although a DSP48E2 has registers for them: see
    `hw_models.rtl.structure.inside_dsp`. Nothing is placed or timed.
    """
    check_tile(tile, bits)
    command = tools.yosys()
    parameters = " ".join(
        f"-set {name} {value}" for name, value in zip(("TI", "TO", "TH", "W"), (*tile, bits), strict=True)
    )
    script = (
        f"read_verilog -sv gemm_engine.sv; chparam {parameters} gemm_engine; "
        # Shift registers stay flip-flops, so that LUTs are logic only.
        "synth_xilinx -family xcup -top gemm_engine -flatten -noiopad -noclkbuf -nosrl; "
        "tee -q -o cells.json stat -json"
    )
    # The WebAssembly build sees the current folder, but not the system's temporary one under its own name:
    # all paths are relative to where it starts.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(tools.rtl_folder() / "gemm_engine.sv", folder)
        tools.run([*command, "-q", "-p", script], folder)
        report = json.loads((folder / "cells.json").read_text())
    cells: dict[str, int] = report["design"]["num_cells_by_type"]
    unknown = [cell for cell in cells if _kind(cell) is None]
    if unknown:
        raise tools.ToolFailed(f"synthesis used cells that are not counted here: {', '.join(unknown)}")
    counted = {
        kind: sum(count for cell, count in cells.items() if _kind(cell) == kind)
        for kind in ("dsp", "lut", "ff", "carry")
    }
    version = re.search(r"Yosys (\S+)", report["creator"])
    return Resources(**counted, tool_version=version.group(1) if version else report["creator"])


def _kind(cell: str) -> str | None:
    """dsp, lut, ff, carry, `free` for what costs nothing, or None for a cell that is not expected."""
    patterns = {
        "dsp": r"DSP48E2",
        "lut": r"LUT[1-6]",
        "ff": r"FD[RSCP]E(_1)?",
        "carry": r"CARRY4",
        # Inverters go into the LUTs and clock inputs next to them, wide multiplexers are part of a slice, and
        # $scopeinfo is a remark.
        "free": r"INV|MUXF[789]|\$scopeinfo",
    }
    return next((kind for kind, pattern in patterns.items() if re.fullmatch(pattern, cell)), None)
