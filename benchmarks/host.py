"""This machine as a device, measured; then timm networks, predicted from it and measured.

Nothing is fitted to a network: single products, convolutions, copies and one tiny operation give the
constants (hw_models/host.py). The device file that is written is one like any other: `load_device("PATH")`.
Errors are stated for this machine, this library and this many threads; run it while nothing else does.
"""

import csv
import platform
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hw_models import trace
from hw_models.comparison import Comparison, median_error, worst_error
from hw_models.device import Device
from hw_models.host import least_seconds, measure_host, seconds
from lib.lab.torchvision_ops import prepare_torchvision
from lib.project import REPOSITORY

NETWORKS = (
    "resnet18",
    "resnet50",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "regnety_008",
    "densenet121",
    "ghostnet_100",
    "convnext_tiny",
    "deit_tiny_patch16_224",
    "deit_small_patch16_224",
    "swin_tiny_patch4_window7_224",
    "pit_s_224",
    "mixer_s32_224",
)
OUTPUT = REPOSITORY.cache / "bench" / "host.yaml"
RECORD = REPOSITORY.root / "hw_models" / "reference" / "host.csv"
HEADER = ("network", "gmacs", "predicted_ms", "measured_ms")


def compare_networks(device: Device, batch: int) -> Iterator[tuple[float, Comparison]]:
    """GMACs, and predicted beside measured milliseconds, of every network."""
    prepare_torchvision()
    import timm

    for name in track(NETWORKS, description="networks"):
        model = timm.create_model(name).eval()
        image = torch.randn(batch, *timm.data.resolve_data_config(model=model)["input_size"])
        workload = trace(model, image)
        with torch.inference_mode():
            measured = least_seconds(partial(model, image), rounds=5, burst_s=0.2)
        predicted = seconds(workload, device)
        yield (
            workload.macs / 1e9,
            Comparison(name, 1e3 * predicted, 1e3 * measured, "ms", "predicted", "measured"),
        )


def main(
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="images at once")] = 1,
    output: Annotated[
        Path, typer.Option(help="where the device file goes; must be called host.yaml")
    ] = OUTPUT,
    record: Annotated[bool, typer.Option(help="keep the comparison in hw_models/reference/host.csv")] = False,
) -> None:
    """Measure this machine, then predict and measure timm networks on it."""
    if output.name != "host.yaml":
        raise typer.BadParameter(
            "the device is called host, so its file must be host.yaml", param_hint="--output"
        )
    torch.set_num_threads(threads)
    console = Console()
    device = measure_host(lambda line: console.print(line, style="dim"))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(device.to_yaml(), encoding="utf-8")
    rows = list(compare_networks(device, batch))
    comparisons = [comparison for _, comparison in rows]

    table = Table(title=f"{device.title}, batch {batch}")
    for heading in ("network", "GMAC", "predicted ms", "measured ms", "error"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for gmacs, point in rows:
        table.add_row(
            point.name,
            f"{gmacs:.2f}",
            f"{point.predicted:.1f}",
            f"{point.published:.1f}",
            f"{point.error:+.0%}",
        )
    console.print(table)
    summary = f"median error {median_error(comparisons):.0%}, worst {worst_error(comparisons):.0%}"
    console.print(f"{summary}. Device: {output}")
    if record:
        _record(rows, device, batch)
        console.print(f"recorded in {RECORD}")


def _record(rows: list[tuple[float, Comparison]], device: Device, batch: int) -> None:
    with RECORD.open("w", encoding="utf-8", newline="") as file:
        day = time.strftime("%Y-%m-%d")
        title = f"{_processor()}, {device.title}, batch {batch}"
        file.write(f"# ./repro bench host --record, {day}: {title}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for gmacs, point in rows:
            writer.writerow([point.name, f"{gmacs:.4f}", f"{point.predicted:.3f}", f"{point.published:.3f}"])


def _processor() -> str:
    """Model name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


if __name__ == "__main__":
    typer.run(main)
