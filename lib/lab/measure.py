"""Latency on this host: alternating bursts, so that every contender meets the same disturbances."""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch


@dataclass(frozen=True)
class Latency:
    """Seconds of one call, over all bursts: the smallest, the median and the interquartile range."""

    minimum_s: float
    median_s: float
    spread_s: float
    calls: int


@torch.inference_mode()
def latencies(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int = 7, burst_s: float = 0.2
) -> dict[str, Latency]:
    """Latency of each contender, measured in turns.

    Every round runs one burst of at least `burst_s` seconds (and at least one call) of each contender, after
    one uncounted call of each. Compare minima or medians of contenders measured together, never across calls.
    """
    for call in contenders.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            times[name] += burst(call, burst_s)
    return {name: _summary(values) for name, values in times.items()}


def burst(call: Callable[[], object], burst_s: float) -> list[float]:
    """Seconds of each of the calls that follow each other for at least `burst_s` seconds; at least one."""
    times = []
    until = time.perf_counter() + burst_s
    while True:
        start = time.perf_counter()
        call()
        end = time.perf_counter()
        times.append(end - start)
        if end >= until:
            return times


def time_over_macs(
    times: Mapping[str, Latency], macs: Mapping[str, int], name: str, base: str = "dense"
) -> dict[str, float | str | int]:
    """What `name` takes over `base`: MACs, time (minimum, median), and the share of saved MACs saved in time.

    `real` is that share, (1 - time) / (1 - macs); `spread` the interquartile range over the median.
    """
    mac_ratio = macs[name] / macs[base]
    time_ratio = times[name].minimum_s / times[base].minimum_s
    return {
        "macs": mac_ratio,
        "time": time_ratio,
        "time_median": times[name].median_s / times[base].median_s,
        "spread": times[name].spread_s / times[name].median_s,
        "real": (1 - time_ratio) / (1 - mac_ratio),
        f"{base}_ms": 1e3 * times[base].minimum_s,
    }


TIME_OVER_MACS = ("MACs", "time", "median", "spread", "became time")
"""Headings of `time_over_macs_cells`."""


def time_over_macs_cells(row: Mapping[str, float | str | int]) -> list[str]:
    """A row of `time_over_macs` as the cells of a table."""
    ratios = [f"{row[key]:.3f}" for key in ("macs", "time", "time_median")]
    return [*ratios, f"{row['spread']:.2f}", f"{100 * float(row['real']):.0f} %"]


def write_measurements(output: Path, rows: Sequence[Mapping[str, float | str | int]], threads: int) -> None:
    """Writes what a benchmark measured, and on what, as JSON."""
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": threads,
        "torch": torch.__version__,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"machine": machine, "rows": list(rows)}, indent=1) + "\n")


def _summary(values: list[float]) -> Latency:
    low, middle, high = numpy.percentile(values, (25, 50, 75))
    return Latency(min(values), float(middle), float(high - low), len(values))
