"""How long the FPGA model takes: one design, a sweep over all tilings of a board, and a simulator's layer.

One thread. The ratio to the simulator is its recorded time per layer (hw_models/reference/scalesim.csv, one
core of another machine) over this model's time for the same layer here: orders of magnitude, not percent.
"""

import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from hw_models import load_device
from hw_models.engine import Tilings
from hw_models.fpga import Network
from hw_models.host import least_seconds
from hw_models.search import FINE, sweep
from hw_models.systolic import total_cycles
from hw_models.validate import simulated_layers
from lib.hardware.networks import network
from lib.project import REPOSITORY

OUTPUT = REPOSITORY.cache / "bench" / "hw.json"


def main(
    output: Annotated[Path, typer.Option(help="where the JSON goes")] = OUTPUT,
) -> None:
    """Time the models of hw_models."""
    torch.set_num_threads(1)
    board, workload = load_device("zcu102"), network("deit_small").at_bits(16)
    prepared = Network.of(workload, board)
    start = time.perf_counter()
    found = sweep(workload, board, bits=16)
    sweep_s = time.perf_counter() - start
    one = Tilings.of([found.tilings[0]])
    point_s = least_seconds(partial(prepared.latency_s, one))
    ratios = []
    for array, size, simulator_s in simulated_layers():
        ratios.append(
            simulator_s / least_seconds(partial(total_cycles, array, *size), rounds=1, burst_s=0.002)
        )

    rows = {
        "DeiT-S, one design": f"{1e3 * point_s:.3f} ms (aim: under 1 ms)",
        "DeiT-S, sweep": f"{sweep_s:.2f} s for {len(FINE.tilings()):,} tilings, "
        f"{len(found.tilings):,} of which fit (aim: 100,000 under 10 s)",
        "SCALE-Sim over systolic.py, per layer": f"{statistics.median(ratios):,.0f}x in the median, "
        f"{min(ratios):,.0f}x to {max(ratios):,.0f}x, {len(ratios)} layers",
    }
    table = Table(title="time of the hardware models, 1 thread")
    table.add_column("what")
    table.add_column("time")
    for what, value in rows.items():
        table.add_row(what, value)
    output.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "point_s": point_s,
        "sweep_s": sweep_s,
        "tilings": len(found.tilings),
        "simulator_ratios": ratios,
    }
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    Console().print(table)
    Console().print(f"written to {output}")


if __name__ == "__main__":
    typer.run(main)
