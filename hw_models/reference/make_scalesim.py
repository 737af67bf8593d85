"""Writes scalesim.csv: cycles of SCALE-Sim 3.0.0, the independent simulator behind `hw_models.systolic`.

The simulator needs an environment of its own (it breaks on numpy 2.3 and later) and nothing of this project:

    python3.11 -m venv scalesim-env
    scalesim-env/bin/pip install "scalesim==3.0.0" "numpy<2.3"
    scalesim-env/bin/python hw_models/reference/make_scalesim.py

All runs take about half an hour of one core. Each row is appended when its run has ended, and rows that are
in the file are not run again: an interrupted command continues where it stopped.

Two kinds of rows:

- `bandwidth` is a number: a full run in USER mode, with that many words per cycle on each of the three
  interfaces (inputs, weights, outputs). `total_cycles` is the simulator's own figure, the cycle of its last
  output counted from zero; `compute_cycles` is that figure less its `stall_cycles`.
- `bandwidth` is empty: no memory system at all. The simulator lists what the array asks for in each cycle;
  `compute_cycles` is the number of the last cycle in that list, counted from zero as well.

`*_words` are the words that the simulator requested from main memory, `seconds` the time of the run.
One word is one byte. Convolutions are given to the simulator with their padding inside height and width, but
without a last row and column that a stride of two never reaches: it would count outputs for them.
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Job = dict[str, Any]

SHAPES: dict[str, tuple[Any, ...]] = {
    # DeiT-T at 224 x 224: 196 patches and a class token, width 192, 3 heads of 64.
    "deit_patch": ("gemm", 196, 768, 192),
    "deit_qkv": ("gemm", 197, 192, 576),
    "deit_scores": ("gemm", 197, 64, 197),
    "deit_mix": ("gemm", 197, 197, 64),
    "deit_proj": ("gemm", 197, 192, 192),
    "deit_fc1": ("gemm", 197, 192, 768),
    "deit_fc2": ("gemm", 197, 768, 192),
    "deit_head": ("gemm", 1, 192, 1000),
    # ResNet-18 at 224 x 224: (padded) height, width, kernel, stride, channels in and out.
    "resnet_conv1": ("conv", 229, 229, 7, 2, 3, 64),
    "resnet_layer1": ("conv", 58, 58, 3, 1, 64, 64),
    "resnet_layer2_first": ("conv", 57, 57, 3, 2, 64, 128),
    "resnet_layer2_down": ("conv", 55, 55, 1, 2, 64, 128),
    "resnet_layer2": ("conv", 30, 30, 3, 1, 128, 128),
    "resnet_layer3_first": ("conv", 29, 29, 3, 2, 128, 256),
    "resnet_layer3_down": ("conv", 27, 27, 1, 2, 128, 256),
    "resnet_layer3": ("conv", 16, 16, 3, 1, 256, 256),
    "resnet_layer4_first": ("conv", 15, 15, 3, 2, 256, 512),
    "resnet_layer4_down": ("conv", 13, 13, 1, 2, 256, 512),
    "resnet_layer4": ("conv", 9, 9, 3, 1, 512, 512),
    "resnet_fc": ("gemm", 1, 512, 1000),
    # Sizes that fit no array: one more and one less than a tile, vectors, slivers, pruned transformers.
    "one": ("gemm", 1, 1, 1),
    "odd_7_5_3": ("gemm", 7, 5, 3),
    "odd_31": ("gemm", 31, 31, 31),
    "odd_32": ("gemm", 32, 32, 32),
    "odd_33": ("gemm", 33, 33, 33),
    "odd_33_65_17": ("gemm", 33, 65, 17),
    "odd_64_1_64": ("gemm", 64, 1, 64),
    "odd_5_1000_7": ("gemm", 5, 1000, 7),
    "odd_1000_5_7": ("gemm", 1000, 5, 7),
    "odd_7_5_1000": ("gemm", 7, 5, 1000),
    "odd_100_300_50": ("gemm", 100, 300, 50),
    "odd_128": ("gemm", 128, 128, 128),
    "odd_255_257_129": ("gemm", 255, 257, 129),
    "odd_512_64_64": ("gemm", 512, 64, 64),
    "odd_64_64_512": ("gemm", 64, 64, 512),
    "odd_64_512_64": ("gemm", 64, 512, 64),
    "odd_16_1024_16": ("gemm", 16, 1024, 16),
    "lstm_39": ("gemm", 1, 39, 1024),
    "lstm_153": ("gemm", 1, 153, 1024),
    "lstm_512": ("gemm", 1, 512, 512),
    "lstm_2048": ("gemm", 1, 64, 2048),
    "vit_wide_head": ("gemm", 197, 192, 1000),
    "vit_98_fc1": ("gemm", 98, 192, 768),
    "vit_140_fc2": ("gemm", 140, 768, 192),
    "vit_50_qkv": ("gemm", 50, 192, 576),
    "mlp_10_784_128": ("gemm", 10, 784, 128),
    "odd_49_1024_100": ("gemm", 49, 1024, 100),
    "tall_2048_64_128": ("gemm", 2048, 64, 128),
    "tall_3136_64_64": ("gemm", 3136, 64, 64),
    "tall_1500_100_96": ("gemm", 1500, 100, 96),
}
LARGE_BUFFERS = (4096, 100, 64)
"""Inputs, weights, outputs in KB. Every operand of the two networks fits into half of the first. A hundredth
of the second is the set by which the simulator looks up addresses: 1,024 words, whole tiles of weights."""
SMALL_BUFFERS = (100, 4096, 64)
"""Inputs do not fit and are read again for each column of tiles; weights fit."""
COLUMNS = [
    "name",
    "kind",
    "m",
    "k",
    "n",
    "height",
    "width",
    "kernel",
    "stride",
    "channels_in",
    "channels_out",
    "rows",
    "columns",
    "dataflow",
    "input_buffer_kb",
    "weight_buffer_kb",
    "output_buffer_kb",
    "bandwidth",
    "compute_cycles",
    "stall_cycles",
    "total_cycles",
    "input_words",
    "weight_words",
    "output_words",
    "seconds",
    "tool",
    "tool_version",
]
KEY = COLUMNS[:18]


def describe(name: str) -> Job:
    """The first eleven columns of a shape; a convolution's m, k, n are those of its implicit GEMM."""
    kind, *sizes = SHAPES[name]
    if kind == "gemm":
        m, k, n = sizes
        fields: list[Any] = [""] * 6
    else:
        height, width, kernel, stride, channels_in, channels_out = fields = sizes
        m = ((height - kernel) // stride + 1) * ((width - kernel) // stride + 1)
        k, n = channels_in * kernel * kernel, channels_out
    return dict(zip(COLUMNS, [name, kind, m, k, n, *fields], strict=False))


def jobs() -> Iterator[Job]:
    """All runs, each as the key columns of its row; cheap ones first."""
    for side in (16, 32):
        for dataflow in ("ws", "os", "is"):
            for name, shape in SHAPES.items():
                if dataflow == "ws" or shape[0] == "gemm" or name.endswith("down"):
                    yield describe(name) | machine(side, side, dataflow, LARGE_BUFFERS, "")
    tall = [name for name in SHAPES if name.startswith("tall")]
    gemms = [name for name, shape in SHAPES.items() if shape[0] == "gemm" and name not in tall]
    convolutions = [name for name, shape in SHAPES.items() if shape[0] == "conv"]
    streamed = ["deit_patch", "deit_qkv", "deit_fc1", "deit_fc2", "odd_255_257_129", "vit_140_fc2"]
    plans = [
        (gemms, 32, "ws", LARGE_BUFFERS),
        (streamed, 32, "os", SMALL_BUFFERS),
        (["deit_scores", "deit_mix", "deit_proj", "vit_wide_head"], 32, "os", LARGE_BUFFERS),
        (["deit_qkv", "deit_fc1", "deit_scores", "deit_mix"], 32, "is", LARGE_BUFFERS),
        (streamed, 32, "ws", SMALL_BUFFERS),
        (convolutions, 32, "ws", LARGE_BUFFERS),
        (["deit_qkv", "deit_mix", "odd_33_65_17", "odd_100_300_50"], 16, "ws", LARGE_BUFFERS),
    ]
    for names, side, dataflow, buffers in plans:
        for name in names:
            for bandwidth in (4, 16, 64):
                yield describe(name) | machine(side, side, dataflow, buffers, bandwidth)
    # Half as many columns as rows: twice as many words of input as of output.
    for name in tall:
        for bandwidth in (4, 16, 64):
            yield describe(name) | machine(32, 16, "ws", SMALL_BUFFERS, bandwidth)


def machine(
    rows: int, columns: int, dataflow: str, buffers: tuple[int, int, int], bandwidth: int | str
) -> Job:
    """The key columns that say what the shape is run on."""
    return dict(zip(KEY[11:], [rows, columns, dataflow, *buffers, bandwidth], strict=True))


def simulate(job: Job) -> Job:
    """The measured columns of one job."""
    from scalesim.layout_utils import layouts  # type: ignore[import-not-found]
    from scalesim.scale_config import scale_config  # type: ignore[import-not-found]
    from scalesim.single_layer_sim import single_layer_sim  # type: ignore[import-not-found]
    from scalesim.topology_utils import topologies  # type: ignore[import-not-found]

    config = scale_config()
    config.array_rows, config.array_cols = job["rows"], job["columns"]
    config.df = job["dataflow"]
    config.ifmap_sz_kb = job["input_buffer_kb"]
    config.filter_sz_kb = job["weight_buffer_kb"]
    config.ofmap_sz_kb = job["output_buffer_kb"]
    # USER mode takes the bandwidth of the two read interfaces from the layout section, also without a layout.
    bandwidth = job["bandwidth"] or 1
    config.use_user_bandwidth = True
    config.bandwidths = [bandwidth]
    config.ifmap_sram_bank_bandwidth = config.filter_sram_bank_bandwidth = bandwidth
    config.ifmap_sram_bank_num = config.filter_sram_bank_num = 1
    config.force_valid()

    if job["kind"] == "gemm":
        entry = [job["m"], job["k"], 1, job["k"], 1, job["n"], 1, 1]
    else:
        kernel, stride = job["kernel"], job["stride"]
        entry = [job["height"], job["width"], kernel, kernel, job["channels_in"], job["n"], stride, stride]
    topology = topologies()
    topology.append_topo_arrays(job["name"], [job["name"], *entry, 1, 1])
    topology.num_layers, topology.topo_load_flag = 1, True
    topology.topo_calc_hyperparams()

    started = time.perf_counter()
    layer = single_layer_sim()
    layer.set_params(
        layer_id=0, config_obj=config, topology_obj=topology, layout_obj=layouts(), verbose=False
    )
    if job["bandwidth"] == "":
        operands = layer.op_mat_obj
        layer.compute_system.set_params(
            config_obj=config,
            ifmap_op_mat=operands.get_ifmap_matrix()[1],
            filter_op_mat=operands.get_filter_matrix()[1],
            ofmap_op_mat=operands.get_ofmap_matrix()[1],
        )
        cycles = layer.compute_system.get_demand_matrices()[2].shape[0] - 1
        result = {"compute_cycles": cycles, "stall_cycles": 0, "total_cycles": cycles}
    else:
        layer.run()
        memory = layer.memory_system
        total, stalls = memory.get_total_compute_cycles(), memory.get_stall_cycles()
        result = {
            "compute_cycles": total - stalls,
            "stall_cycles": stalls,
            "total_cycles": total,
            "input_words": memory.get_ifmap_dram_details()[2],
            "weight_words": memory.get_filter_dram_details()[2],
            "output_words": memory.get_ofmap_dram_details()[2],
        }
    return result | {
        "seconds": f"{time.perf_counter() - started:.2f}",
        "tool": "scalesim",
        "tool_version": "3.0.0",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("scalesim.csv"))
    parser.add_argument("--limit", type=int, help="stop after this many runs")
    arguments = parser.parse_args()
    path = arguments.output
    if not path.exists():
        path.write_text(
            "# python hw_models/reference/make_scalesim.py (see there for the environment)\n"
            + ",".join(COLUMNS)
            + "\n"
        )
    with path.open(newline="") as file:
        lines = [line for line in file if not line.startswith("#")]
    done = {tuple(row[column] for column in KEY) for row in csv.DictReader(lines)}
    missing = [job for job in jobs() if tuple(str(job[column]) for column in KEY) not in done]
    for number, job in enumerate(missing[: arguments.limit], start=1):
        row = job | simulate(job)
        with path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n").writerow(row)
        print(
            f"{number}/{len(missing)} {job['name']} {job['dataflow']} bandwidth {job['bandwidth'] or '-'}: "
            f"{row['total_cycles']} cycles, {row['stall_cycles']} of them stalls, {row['seconds']} s",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    main()
