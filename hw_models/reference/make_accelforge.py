"""Writes accelforge.csv: the fewest cycles that AccelForge finds over all mappings of a layer.

AccelForge needs Python 3.12 or later, graphviz (Debian: `apt-get install graphviz`) and nothing of this
project:

    python3.12 -m venv accelforge-env
    accelforge-env/bin/pip install "accelforge==1.0.467"
    accelforge-env/bin/python hw_models/reference/make_accelforge.py

All runs take about three minutes of one core. The machine is described below: rows x columns units with
stationary weights, inputs shared along a row and sums along a column, one buffer without limits, and a main
memory that reads and writes `bandwidth` words per cycle in all, or as many as it likes where the column is
empty. One unit does one multiply-accumulate a cycle, so that seconds are cycles. AccelForge takes the slowest
component as the latency: no filling, no draining and no waiting between tiles.
"""

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ARCHITECTURE = """
arch:
  nodes:
  - !Memory
    name: MainMemory
    size: inf
    leak_power: 0
    area: 0
    tensors: {{keep: All}}
    actions:
    - {{name: read, energy: 1, throughput: {bits}}}
    - {{name: write, energy: 1, throughput: {bits}}}

  - !Memory
    name: GlobalBuffer
    size: inf
    leak_power: 0
    area: 0
    tensors: {{keep: input | output, may_keep: All}}
    actions:
    - {{name: read, energy: 1, throughput: inf}}
    - {{name: write, energy: 1, throughput: inf}}

  - !Container
    name: ProcessingElement
    spatial:
    - {{name: reuse_input, fanout: {columns}, reuse: input}}
    - {{name: reuse_output, fanout: {rows}, reuse: output}}

  - !Memory
    name: Register
    size: 8
    leak_power: 0
    area: 0
    tensors: {{keep: weight}}
    actions:
    - {{name: read, energy: 0, throughput: inf}}
    - {{name: write, energy: 0, throughput: inf}}

  - !Compute
    name: MAC
    leak_power: 0
    area: 0
    actions:
    - {{name: compute, energy: 1, throughput: 1}}
"""
WORKLOAD = """
workload:
  iteration_space_shape:
    m: 0 <= m < {m}
    k: 0 <= k < {k}
    n: 0 <= n < {n}
  bits_per_value: {{All: 8}}
  einsums:
  - name: Product
    tensor_accesses:
    - {{name: A, projection: [m, k]}}
    - {{name: W, projection: [k, n]}}
    - {{name: Z, projection: [m, n], output: True}}
    renames: {{input: A, weight: W, output: Z}}
"""
SHAPES = {
    "deit_patch": (196, 768, 192),
    "deit_qkv": (197, 192, 576),
    "deit_scores": (197, 64, 197),
    "deit_mix": (197, 197, 64),
    "deit_proj": (197, 192, 192),
    "deit_fc1": (197, 192, 768),
    "deit_fc2": (197, 768, 192),
    "deit_head": (1, 192, 1000),
    "odd_33_65_17": (33, 65, 17),
    "odd_128": (128, 128, 128),
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
    "bandwidth",
    "total_cycles",
    "seconds",
    "tool",
    "tool_version",
]


def evaluate(name: str, side: int, bandwidth: int | None) -> dict[str, Any]:
    """One row of the table."""
    import accelforge  # type: ignore[import-not-found]

    accelforge.set_n_parallel_jobs(1)
    m, k, n = SHAPES[name]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        architecture, workload = Path(folder, "architecture.yaml"), Path(folder, "workload.yaml")
        bits = 8 * bandwidth if bandwidth else "inf"
        architecture.write_text(ARCHITECTURE.format(rows=side, columns=side, bits=bits))
        workload.write_text(WORKLOAD.format(m=m, k=k, n=n))
        spec = accelforge.Spec.from_yaml(architecture, workload)
        spec.mapper.metrics = accelforge.Metrics.LATENCY
        mappings = spec.map_workload_to_arch(print_progress=False)
    return {
        **dict(zip(COLUMNS, [name, "gemm", m, k, n, side, side, "ws", bandwidth or ""], strict=False)),
        "total_cycles": round(float(mappings.latency())),
        "seconds": f"{time.perf_counter() - started:.2f}",
        "tool": "accelforge",
        "tool_version": "1.0.467",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("accelforge.csv"))
    arguments = parser.parse_args()
    rows = []
    for side, bandwidth in ((16, None), (32, None), (32, 8)):
        for name in SHAPES:
            rows.append(evaluate(name, side, bandwidth))
            print(
                f"{name} on {side} x {side}: {rows[-1]['total_cycles']} cycles, {rows[-1]['seconds']} s",
                file=sys.stderr,
                flush=True,
            )
    with arguments.output.open("w", newline="") as file:
        file.write("# python hw_models/reference/make_accelforge.py (see there for the environment)\n")
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
