"""A tiled matrix-multiplication engine in SystemVerilog: the cycle-level check of the analytical FPGA model.

`python -m hw_models.rtl` simulates and synthesises it and writes `hw_models/reference/rtl_cycles.csv` and
`rtl_resources.csv`. That needs the extra `rtl`; the formulas in `structure` need nothing.
"""

from hw_models.rtl.structure import datapath, depth, engine_cycles, inside_dsp

__all__ = ["datapath", "depth", "engine_cycles", "inside_dsp"]
