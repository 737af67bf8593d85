"""Every prediction of this package that something else can be held against: one table, errors first.

`validate` takes the traced networks (the package itself needs no model library); `markdown` prints the table
that opens README.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import mean

from hw_models.block_speedup import packed_array
from hw_models.calibrate import (
    FITTED_NETWORKS,
    fit_runtimes,
    phone_points,
    power_comparisons,
    power_points,
    predict,
    runtime_comparisons,
)
from hw_models.comparison import Comparison, Role, median_error, worst_error
from hw_models.csb_validation import (
    block_speedup_table,
    index_overhead_table,
    latency_table,
    utilisation_table,
)
from hw_models.device import load_device
from hw_models.estimate import estimate
from hw_models.fusion import fused
from hw_models.heatvit import DEITS, LISTED_MHZ, RECALLED_MHZ, at_clock, rebuild
from hw_models.reference_points import SurveyPoint, points, table
from hw_models.resources import available
from hw_models.rtl.structure import engine_cycles
from hw_models.search import best_design
from hw_models.sparse_array import PEArray
from hw_models.systolic import SystolicArray, compute_cycles, total_cycles
from hw_models.workload import Workload

PUBLISHED_UTILISATION = {"none": 42.0, "vertical": 72.0, "horizontal": 72.0, "2d": 94.0}
"""Percent, by sharing (CSB-RNN section 6.3.2); one direction is not told apart there."""


@dataclass(frozen=True)
class Validation:
    """One line of the table."""

    what: str
    device: str
    source: str
    fitted: str
    """What of the model was fitted, and to which points."""
    points: tuple[Comparison, ...]


def validate(networks: Mapping[str, Workload]) -> list[Validation]:
    """All validations; `networks` holds workloads at 32 bits by the names of the reference files."""
    return [
        *runtimes(networks),
        power_of_designs(),
        vgg16_rates(networks["vgg16"]),
        *heatvit(networks),
        *csb_rnn(),
        block_pruning(),
        rtl_cycles(),
        *systolic_cycles(),
        host_latencies(),
    ]


def runtimes(networks: Mapping[str, Workload]) -> list[Validation]:
    """Dense latencies under four runtimes of a phone GPU: one left out, a network left out, and ResNet-50."""
    device = load_device("adreno_650")
    ready = {name: fused(networks[name].at_bits(16)) for name in (*FITTED_NETWORKS, "resnet50")}
    every = phone_points(ready, device.name)
    known = [point for point in every if point.network in FITTED_NETWORKS]
    fit = fit_runtimes(known, ready, device)
    new = [
        Comparison(
            f"{point.network}, {point.framework}",
            predict(point, fit, ready, device),
            point.value,
            "ms",
            "predicted",
            point.confidence,
        )
        for point in every
        if point.network == "resnet50"
    ]
    constants = "a utilisation per runtime, half_outputs, half_depth"
    table, plot = "Table 2 of TECS 2022", "Fig 7 of TECS 2022, read off a plot"
    return [
        Validation(
            "latency of VGG-16, ResNet-18, MobileNetV2",
            device.name,
            table,
            f"{constants}, to the other eleven points",
            tuple(runtime_comparisons(known, ready, device)),
        ),
        Validation(
            "the same, by network",
            device.name,
            table,
            f"{constants}, to the other two networks",
            tuple(runtime_comparisons(known, ready, device, by_network=True)),
        ),
        Validation(
            "latency of ResNet-50", device.name, plot, f"{constants}, to the twelve points above", tuple(new)
        ),
    ]


def power_of_designs() -> Validation:
    """Chip power of surveyed designs, each left out once."""
    return Validation(
        "chip power of fixed-point designs",
        "Xilinx FPGAs",
        "survey table of TECS 2022",
        "static power and energy of a slice, to the other nine designs",
        tuple(power_comparisons(power_points())),
    )


def vgg16_rate(point: SurveyPoint, network: Workload, role: Role = "predicted") -> Comparison:
    """GOP/s of VGG-16 on the fastest engine with the slices and the clock of a published design.

    8-bit designs pack two products into a slice. Bandwidth, block RAM and tables are those of the device."""
    assert point.dsp_used and point.clock_mhz and point.weight_bits and point.gops_per_w  # noqa: PT018
    device = at_clock(load_device(point.device), point.clock_mhz)
    limits = replace(available(device, share=1.0), dsp=point.dsp_used)
    narrow = network.at_bits(point.weight_bits)
    design = best_design(
        narrow, device, bits=point.weight_bits, packing=point.weight_bits <= 8, limits=limits
    )
    latency = estimate(narrow, device, design=design).latency_ms
    return Comparison(
        f"{point.design}, {point.device}, {point.weight_bits} bits",
        2 * network.macs / 1e6 / latency,
        point.gops_per_w * point.power_w,
        "GOP/s",
        role,
        point.confidence,
    )


def vgg16_rates(network: Workload) -> Validation:
    """The surveyed VGG-16 designs whose slices, clock and efficiency are known, on devices described here."""
    rows = [
        point
        for point in points("fpga_survey", "seen")
        if point.network == "vgg16" and point.dsp_used and point.clock_mhz and point.gops_per_w
    ]
    return Validation(
        "rate of VGG-16 on a design's own slices and clock",
        "xc7z020, xc7z045",
        "survey of TECS 2022",
        "nothing",
        tuple(vgg16_rate(point, network) for point in rows),
    )


def heatvit(networks: Mapping[str, Workload]) -> list[Validation]:
    """HeatViT's seen figures at the clock listed with them; recalled frame rates at the recalled clock."""
    board = load_device("zcu102")
    deits = {short: networks[name] for short, name in DEITS.items()}
    listed = {name: rebuild(deit, at_clock(board, LISTED_MHZ)) for name, deit in deits.items()}
    slow = {name: rebuild(deit, at_clock(board, RECALLED_MHZ)) for name, deit in deits.items()}
    both = [each.speedup for each in listed.values()]
    pruning = [each.pruning_speedup for each in listed.values()]
    ends = {
        ("speedup", "pruned_8bit_over_dense"): both,
        ("speedup", "pruned_over_dense"): pruning,
    }
    seen: list[Comparison] = []
    for point in points("heatvit", "seen"):
        if (point.quantity, point.variant) in ends:
            predicted = ends[point.quantity, point.variant]
            name = point.variant.replace("_", " ")
            seen.append(Comparison(f"least {name}", min(predicted), point.low, "x", "predicted", "seen"))
            seen.append(Comparison(f"most {name}", max(predicted), point.high, "x", "predicted", "seen"))
        if point.quantity == "latency":
            ms = listed[point.network].pruned_8.latency_ms
            seen.append(Comparison(f"latency of {point.network}", ms, point.value, "ms", "predicted", "seen"))
    recalled = [
        Comparison(
            f"{point.network}, {point.variant}",
            (
                slow[point.network].pruned_8 if "pruned" in point.variant else slow[point.network].dense_16
            ).frames_per_s.value,
            point.value,
            "frames/s",
            "predicted",
            "recalled",
        )
        for point in points("heatvit", "recalled")
        if point.quantity == "frame_rate" and point.network in slow
    ]
    return [
        Validation(
            f"HeatViT: 9.15 ms, speedups; {LISTED_MHZ:.0f} MHz as listed",
            board.name,
            "abstract, a reading note, UbiMoE",
            "nothing",
            tuple(seen),
        ),
        Validation(
            f"HeatViT: frame rates; {RECALLED_MHZ:.0f} MHz. Recalled, decides nothing",
            board.name,
            "recalled",
            "nothing",
            tuple(recalled),
        ),
    ]


def block_pruning(seed: int = 0) -> Validation:
    """Speed of block-pruned ResNet-18 over dense, on as many multipliers as the board packs at 8 bits."""
    design = packed_array(load_device("zcu102").need("bandwidth").value)
    found = tuple(
        Comparison(
            f"block {row['block'] or 'of the matrix'}",
            row["speedup"],
            row["published"],
            "x",
            "predicted",
            "seen",
        )
        for row in block_speedup_table(seed, design)
    )
    return Validation(
        "speed of ResNet-18 pruned 6x in blocks", "zcu102", "Fig 9 of TECS 2022", "nothing", found
    )


def host_latencies() -> Validation:
    """Networks on the machine that `./repro bench host --record` was last run on."""
    found = tuple(
        Comparison(
            row["network"],
            float(row["predicted_ms"]),
            float(row["measured_ms"]),
            "ms",
            "predicted",
            "measured",
        )
        for row in table("host")
    )
    return Validation(
        "latency of timm networks",
        "an x86 processor, 1 thread",
        "measured (reference/host.csv)",
        "roofline, to single operations on that machine",
        found,
    )


def csb_rnn(seed: int = 0) -> list[Validation]:
    """Utilisation, index overhead and latency of CSB-RNN, on random weights pruned at the published rates."""
    paper = "CSB-RNN, ICS 2020"
    layers = utilisation_table(seed, PEArray(4, 4, 4, 4))
    used = [
        Comparison(
            f"mean utilisation, sharing {sharing}",
            100 * mean(row[sharing] for row in layers),
            published,
            "%",
            "predicted",
            "seen",
        )
        for sharing, published in PUBLISHED_UTILISATION.items()
    ]
    closed = [
        Comparison(
            f"{row['model']}, block {row['block']}",
            row["closed_form"],
            row["published"],
            "%",
            "predicted",
            "seen",
        )
        for row in index_overhead_table(seed)
    ]
    timed = [
        Comparison(row["model"], row["modelled_us"], row["published_us"], "us", "predicted", "seen")
        for row in latency_table(seed, PEArray(4, 8, 4, 4), block=32)
    ]
    return [
        Validation("utilisation of 256 PEs, 20 layers", "zcu102", f"{paper}, 6.3.2", "nothing", tuple(used)),
        Validation(
            "index entries over weights, closed form", "any", f"{paper}, Fig 10b", "nothing", tuple(closed)
        ),
        Validation("latency on 512 PEs", "zcu102", f"{paper}, Table 3", "nothing", tuple(timed)),
    ]


def rtl_cycles() -> Validation:
    """Cycles of the engine in Verilog against its formula."""
    found = []
    for row in table("rtl_cycles"):
        tile = int(row["tile_inputs"]), int(row["tile_outputs"]), int(row["tile_heads"])
        batch, m, k, n = (int(row[name]) for name in ("batch", "m", "k", "n"))
        predicted = engine_cycles(batch, m, k, n, tile)
        found.append(
            Comparison(
                f"{batch} x {m} x {k} x {n} on {tile}",
                predicted,
                int(row["cycles"]),
                "cycles",
                "predicted",
                "simulated",
            )
        )
    return Validation(
        "cycles of the matrix engine",
        "rtl/gemm_engine.sv",
        "Verilator, bit-exact products",
        "nothing",
        tuple(found),
    )


def systolic_cycles() -> list[Validation]:
    """Cycles of a systolic array against SCALE-Sim, without stalls and at each bandwidth."""
    groups: dict[str, list[Comparison]] = defaultdict(list)
    for row in table("scalesim"):
        array, size = _simulated_array(row), (int(row["m"]), int(row["k"]), int(row["n"]))
        stalls = row["bandwidth"] != ""
        # The simulator numbers cycles from zero, and counts each wait for a refill twice.
        cycles = total_cycles(array, *size, wait_twice=True).total if stalls else compute_cycles(array, *size)
        name = f"{row['name']}, {row['rows']}x{row['columns']} {row['dataflow']}"
        group = f"at {row['bandwidth']} words a cycle" if stalls else "without stalls"
        groups[group].append(
            Comparison(name, cycles - 1, int(row["total_cycles"]), "cycles", "predicted", "simulated")
        )
    return [
        Validation(
            f"cycles of a systolic array, {group}",
            "16x16 and 32x32",
            "SCALE-Sim 3.0.0",
            "nothing",
            tuple(found),
        )
        for group, found in groups.items()
    ]


def simulated_layers() -> list[tuple[SystolicArray, tuple[int, int, int], float]]:
    """Array, (m, k, n) and seconds of simulation of every layer that SCALE-Sim ran with a bandwidth."""
    return [
        (_simulated_array(row), (int(row["m"]), int(row["k"]), int(row["n"])), float(row["seconds"]))
        for row in table("scalesim")
        if row["bandwidth"]
    ]


def _simulated_array(row: Mapping[str, str]) -> SystolicArray:
    return SystolicArray(
        rows=int(row["rows"]),
        columns=int(row["columns"]),
        dataflow=row["dataflow"],  # type: ignore[arg-type]
        input_buffer_kb=int(row["input_buffer_kb"]),
        weight_buffer_kb=int(row["weight_buffer_kb"]),
        output_buffer_kb=int(row["output_buffer_kb"]),
        bandwidth=int(row["bandwidth"] or 1),
    )


def markdown(validations: Iterable[Validation]) -> str:
    """The table: one line a validation."""
    lines = [
        "| prediction | device | held against | fitted | points | median error | worst error |",
        "| --- | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for v in validations:
        lines.append(
            f"| {v.what} | {v.device} | {v.source} | {v.fitted} | {len(v.points)} "
            f"| {_percent(median_error(v.points))} | {_percent(worst_error(v.points))} |"
        )
    return "\n".join(lines)


def _percent(error: float) -> str:
    if error == 0:
        return "0"
    return f"{100 * error:.0f} %" if error >= 0.1 else f"{100 * error:.2g} %"
