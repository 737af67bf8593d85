"""Dense timm DeiT-S against the same network losing tokens: does the saved arithmetic become saved time?

Random weights (time does not depend on them), SPViT's keep ratios, batch 1 and 32, both
sides in one process in alternating bursts. `real` says which part of the MAC reduction became time reduction:
(1 - time ratio) / (1 - MAC ratio).
"""

import json
import platform
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from hw_models import trace
from lib.lab.backbones import build
from lib.lab.measure import latencies
from lib.project import REPOSITORY
from lib.vit.spvit import geometric_targets, kept_patches, prune

TARGETS = {
    "0.7/0.49/0.343": geometric_targets(0.7, 3),
    "0.617/0.369/0.137": (0.617, 0.369, 0.137),
}
IMAGES_DIFFER = "0.7/0.49/0.343, images differ"
OUTPUT = REPOSITORY.cache / "bench" / "vit.json"


class _UnequalCounts:
    """A rule under which the images of a batch keep different numbers of patches, spread around `keep`."""

    def __init__(self, keep: int, spread: float) -> None:
        self.keep, self.spread = keep, spread

    def __call__(self, scores: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
        batch = len(scores)
        factors = torch.linspace(1 - self.spread, 1 + self.spread, batch) if batch > 1 else torch.ones(1)
        wanted = (self.keep * factors).round().long()
        ranks = scores.masked_fill(alive == 0, -torch.inf).argsort(1, descending=True).argsort(1)
        return (ranks < wanted[:, None]).to(scores.dtype) * alive


def contenders(batch: int) -> dict[str, torch.nn.Module]:
    """Dense DeiT-S and its pruned forms, checked: gathered execution equals masked execution."""
    torch.manual_seed(0)
    models: dict[str, torch.nn.Module] = {"dense": build("deit_s")}
    images = torch.randn(min(batch, 4), 3, 224, 224)
    for name, targets in (*TARGETS.items(), (IMAGES_DIFFER, TARGETS["0.7/0.49/0.343"])):
        counts = kept_patches(targets, 196)
        host = prune(build("deit_s"), targets, counts=counts).eval()
        if name == IMAGES_DIFFER:
            host.decide_by([_UnequalCounts(count, 0.4) for count in counts])
        with torch.inference_mode():
            torch.testing.assert_close(
                host(images).logits, host(images, execution="masked").logits, rtol=1e-3, atol=1e-4
            )
        models[name] = host
    return models


def measure(batch: int, rounds: int) -> list[dict[str, float | str | int]]:
    """One row per pruned form: MAC ratio, time ratios (minimum and median) and their quotient."""
    models = contenders(batch)
    images = torch.randn(batch, 3, 224, 224)
    macs = {name: trace(model, images).macs for name, model in models.items()}
    calls = {name: (lambda model=model: model(images)) for name, model in models.items()}
    times = latencies(calls, rounds=rounds, burst_s=0.3)
    rows: list[dict[str, float | str | int]] = []
    for name in models:
        if name == "dense":
            continue
        mac_ratio = macs[name] / macs["dense"]
        time_ratio = times[name].minimum_s / times["dense"].minimum_s
        rows.append(
            {
                "batch": batch,
                "keep": name,
                "macs": mac_ratio,
                "time": time_ratio,
                "time_median": times[name].median_s / times["dense"].median_s,
                "spread": times[name].spread_s / times[name].median_s,
                "real": (1 - time_ratio) / (1 - mac_ratio),
                "dense_ms": 1e3 * times["dense"].minimum_s,
            }
        )
    return rows


def main(
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="alternating rounds")] = 9,
    output: Annotated[Path, typer.Option(help="where the JSON goes")] = OUTPUT,
) -> None:
    """Measure DeiT-S with and without token pruning."""
    torch.set_num_threads(threads)
    rows = [row for batch in (1, 32) for row in measure(batch, rounds)]
    table = Table(title=f"DeiT-S, gathered execution over dense timm, {threads} thread(s)")
    for heading in ("batch", "keep ratios", "MACs", "time", "median", "spread", "became time"):
        table.add_column(heading, justify="left" if heading == "keep ratios" else "right")
    for row in rows:
        table.add_row(
            str(row["batch"]),
            str(row["keep"]),
            f"{row['macs']:.3f}",
            f"{row['time']:.3f}",
            f"{row['time_median']:.3f}",
            f"{row['spread']:.2f}",
            f"{100 * float(row['real']):.0f} %",
        )
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": threads,
        "torch": torch.__version__,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    Console().print(table)
    Console().print("aim: 90 % at batch 32, 80 % at batch 1. Written to " + str(output))


if __name__ == "__main__":
    typer.run(main)
