"""Writes zigzag.csv: cycles and energy of ZigZag 3.9.1, which searches the best temporal mapping of a layer.

ZigZag needs an environment of its own (it forgets to ask for six) and nothing of this project:

    python3.11 -m venv zigzag-env
    zigzag-env/bin/pip install "zigzag-dse==3.9.1" six
    zigzag-env/bin/python hw_models/reference/make_zigzag.py

All runs take about two minutes of one core. The machine is ZigZag's own `tpu_like.yaml`, unchanged: 32 x 32
units with stationary weights, 2 MB for inputs and outputs together, and one port of 64 bits per cycle to main
memory, all at 8 bits a word (sums 16). The search minimises latency.

`total_cycles` is the sum of the five columns before it: `steady_cycles` (a vector per cycle through tiles
of 32 x 32), `stall_cycles` (waiting for a port meanwhile), `onload_cycles` and `offload_cycles` (the first
data in, the last data out, nothing computed) and `drain_cycles` (the way through the array, once a layer).
Energy is in picojoules, of the memory accesses and operations that the file puts a price on.
"""

import argparse
import csv
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SHAPES: dict[str, tuple[Any, ...]] = {
    "deit_patch": ("gemm", 196, 768, 192),
    "deit_qkv": ("gemm", 197, 192, 576),
    "deit_scores": ("gemm", 197, 64, 197),
    "deit_mix": ("gemm", 197, 197, 64),
    "deit_proj": ("gemm", 197, 192, 192),
    "deit_fc1": ("gemm", 197, 192, 768),
    "deit_fc2": ("gemm", 197, 768, 192),
    "deit_head": ("gemm", 1, 192, 1000),
    "vit_98_fc1": ("gemm", 98, 192, 768),
    "odd_33_65_17": ("gemm", 33, 65, 17),
    # Output height, width, kernel, stride, channels in and out.
    "resnet_layer1": ("conv", 56, 56, 3, 1, 64, 64),
    "resnet_layer3_down": ("conv", 14, 14, 1, 2, 128, 256),
    "resnet_layer4": ("conv", 7, 7, 3, 1, 512, 512),
}
COLUMNS = [
    "name",
    "kind",
    "m",
    "k",
    "n",
    "rows",
    "columns",
    "dataflow",
    "steady_cycles",
    "stall_cycles",
    "onload_cycles",
    "offload_cycles",
    "drain_cycles",
    "total_cycles",
    "energy_pj",
    "seconds",
    "tool",
    "tool_version",
]


def layer_of(name: str) -> tuple[str, int, int, int, dict[str, Any]]:
    """The matrix sizes of a shape and its loop nest in ZigZag's terms."""
    kind, *sizes = SHAPES[name]
    layer: dict[str, Any] = {
        "id": 0,
        "name": name,
        "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8},
        "operand_source": {"W": 0, "I": 0},
    }
    if kind == "gemm":
        m, k, n = sizes
        layer |= {
            "operator_type": "Gemm",
            "equation": "O[b][k]+=W[k][c]*I[b][c]",
            "dimension_relations": [],
            "loop_dims": ["B", "C", "K"],
            "loop_sizes": [m, k, n],
        }
    else:
        height, width, kernel, stride, channels_in, channels_out = sizes
        m, k, n = height * width, channels_in * kernel * kernel, channels_out
        layer |= {
            "operator_type": "Conv",
            "equation": "O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]",
            "dimension_relations": [f"ix={stride}*ox+1*fx", f"iy={stride}*oy+1*fy"],
            "loop_dims": ["B", "K", "C", "OY", "OX", "FY", "FX"],
            "loop_sizes": [1, channels_out, channels_in, height, width, kernel, kernel],
        }
    return kind, m, k, n, layer


def evaluate(name: str) -> dict[str, Any]:
    """One row of the table."""
    import zigzag  # type: ignore[import-not-found]
    from zigzag.api import get_hardware_performance_zigzag  # type: ignore[import-not-found]

    inputs = Path(zigzag.__file__).parent / "inputs"
    kind, m, k, n, layer = layer_of(name)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        energy, latency, results = get_hardware_performance_zigzag(
            [layer],
            str(inputs / "hardware" / "tpu_like.yaml"),
            str(inputs / "mapping" / "tpu_like.yaml"),
            opt="latency",
            dump_folder=folder,
            loma_show_progress_bar=False,
        )
    seconds = time.perf_counter() - started
    cost = results[0][1][0][0]
    parts = {
        "steady_cycles": cost.ideal_temporal_cycle,
        "stall_cycles": cost.latency_total0 - cost.ideal_temporal_cycle,
        "onload_cycles": cost.data_onloading_cycle,
        "offload_cycles": cost.data_offloading_cycle,
        "drain_cycles": cost.systolic_drain_cycle,
        "total_cycles": latency,
    }
    return {
        **dict(zip(COLUMNS, [name, kind, m, k, n, 32, 32, "ws"], strict=False)),
        **{column: round(value) for column, value in parts.items()},
        "energy_pj": f"{energy:.1f}",
        "seconds": f"{seconds:.2f}",
        "tool": "zigzag-dse",
        "tool_version": "3.9.1",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("zigzag.csv"))
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = []
    for name in SHAPES:
        rows.append(evaluate(name))
        print(
            f"{name}: {rows[-1]['total_cycles']} cycles, {rows[-1]['seconds']} s", file=sys.stderr, flush=True
        )
    with arguments.output.open("w", newline="") as file:
        file.write("# python hw_models/reference/make_zigzag.py (see there for the environment)\n")
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
