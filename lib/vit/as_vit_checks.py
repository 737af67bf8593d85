"""What can be checked of AS-ViT without training: its scores, its gradients, the figures of its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor, nn

from hw_models import trace
from lib.lab import plots
from lib.lab.backbones import build, parameters
from lib.vit import as_vit
from lib.vit.as_vit_budget import Budget
from lib.vit.attention import AttentionView
from lib.vit.dynamicvit import Predictor
from lib.vit.host import TokenHost, TokenStage
from lib.vit.selectors import Candidates, Count
from lib.vit.spvit import geometric_targets, kept_patches
from lib.vit.topk import prune_by_class_attention


@dataclass(frozen=True)
class Row:
    """A row of the paper's Table 1: `gmacs` and `top1` (percent) are averages over ImageNet's validation set.

    `images_s` is the throughput of an RTX 2080 Ti at batch 64, `latency_ms` that of a single image.
    """

    gmacs: float
    top1: float
    images_s: float
    latency_ms: float

    @property
    def arithmetic(self) -> float:
        """Throughput times cost: T multiply-accumulates a second."""
        return self.images_s * self.gmacs / 1e3


TABLE: dict[str, dict[str, Row]] = {
    "deit_s": {
        "dense": Row(4.6, 79.8, 770, 6.16),
        "65": Row(3.0, 79.6, 1192, 6.56),
        "50": Row(2.3, 78.7, 1520, 6.38),
    },
    "lv_vit_s": {
        "dense": Row(6.6, 83.3, 571, 9.24),
        "70": Row(4.6, 83.1, 884, 9.20),
        "60": Row(3.9, 82.6, 1023, 9.31),
    },
    "lv_vit_m": {
        "dense": Row(12.7, 84.1, 317, 11.63),
        "76": Row(9.6, 84.0, 657, 11.43),
        "67": Row(8.5, 83.9, 801, 11.53),
    },
}
"""By network, then by budget in percent."""


def table_arithmetic() -> dict[str, float]:
    """What the table's figures say of each other, by name.

    `throughput_gain_*` and `latency_change_*` of a row over its dense row, in percent; `arithmetic_*`, T
    multiply-accumulates a second; `arithmetic_excess_*`, the network's largest of these over its dense one.
    """
    result = {}
    for network, rows in TABLE.items():
        dense = rows["dense"]
        for name, row in rows.items():
            result[f"arithmetic_{network}_{name}"] = row.arithmetic
            if row is not dense:
                result[f"throughput_gain_{network}_{name}"] = 100 * (row.images_s / dense.images_s - 1)
                result[f"latency_change_{network}_{name}"] = 100 * (row.latency_ms / dense.latency_ms - 1)
        result[f"arithmetic_excess_{network}"] = max(r.arithmetic for r in rows.values()) / dense.arithmetic
    return result


def table_figure() -> Figure:
    """The table drawn: accuracy over cost, and multiply-accumulates a second, which ought to be steady."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for colour, (network, rows) in zip(plots.COLOURS, TABLE.items(), strict=False):
        cost = [row.gmacs for row in rows.values()]
        label = network.replace("_", "-")
        left.plot(cost, [row.top1 for row in rows.values()], "o-", color=colour, label=label)
        right.plot(cost, [row.arithmetic for row in rows.values()], "o-", color=colour, label=label)
    plots.plain(left, x="cost (GMAC an image)", y="top-1 (%)").legend(fontsize=8, frameon=False)
    plots.plain(right, x="cost (GMAC an image)", y="arithmetic (T MAC a second)").set_ylim(bottom=0)
    return figure


BUDGETS = {"deit_s": (65, 50), "lv_vit_s": (60, 70, 80, 90), "lv_vit_m": (60, 67, 70, 76, 80, 90)}
"""Budgets in percent that Table 1 and Figure 1 show."""


def gmacs(networks: Mapping[str, nn.Module]) -> dict[str, float]:
    """G multiply-accumulates of `networks`, dense and under the budgets of the paper, by name.

    Dense networks are counted on an image of 224 pixels. A budget of DeiT is a share of the released B; of
    LV-ViT, whose two heads the formula leaves out, of the dense count.
    """
    image = torch.zeros(1, 3, 224, 224)
    result = {"deit_s_reference": budgets(["deit_s"])["deit_s"].dense / 1e9}
    for name, network in networks.items():
        dense = trace(network, image).macs / 1e9
        full = result["deit_s_reference"] if name == "deit_s" else dense
        result[f"{name}_dense"] = dense
        result |= {f"{name}_{percent}": percent / 100 * full for percent in BUDGETS[name]}
    return result


def budgets(networks: Sequence[str]) -> Mapping[str, Budget]:
    """The cost formula of each of `networks` as released, thresholds where the released code has them."""
    found = {}
    for name in networks:
        host = as_vit.prune(build(name), blocks=as_vit.BLOCKS.get(name, as_vit.BLOCKS["deit"]))
        found[name] = Budget.of(host, as_released=True)
    return found


def costs_at(budget: Budget, shares: Sequence[float]) -> list[float]:
    """Cost over dense when each stage keeps a share of what it gets, for each of `shares`."""
    patches = budget.tokens - budget.prefix
    stages = torch.arange(1, len(budget.blocks) + 1)
    counts = torch.stack([patches * share**stages for share in shares])
    return (budget.of_counts(counts) / budget.dense).tolist()


def lowest_traced(name: str) -> float:
    """Cost of `name` without any patch after its first threshold over that of the dense network, counted."""
    blocks = as_vit.BLOCKS.get(name, as_vit.BLOCKS["deit"])
    host = as_vit.prune(build(name), blocks=blocks, thresholds=(1.0, 1.0, 1.0)).eval()
    image = torch.zeros(1, 3, 224, 224)
    return trace(host, image).macs / trace(host.backbone, image).macs


def rivals_gmacs() -> dict[str, float]:
    """Costs of rows of other methods in the table: DeiT-S by DynamicViT, predictors included, and EViT."""
    image, result = torch.zeros(1, 3, 224, 224), {}
    for ratio in (0.7, 0.5):
        counts = kept_patches(geometric_targets(ratio, 3), 196)
        stages = {
            block: TokenStage(Predictor(384), Count(count), package=False)
            for block, count in zip((3, 6, 9), counts, strict=True)
        }
        dynamic = TokenHost(build("deit_s"), stages).eval()
        evit = prune_by_class_attention(build("deit_s"), counts, package=True).eval()
        for name, host in (("dynamicvit", dynamic), ("evit", evit)):
            result[f"{name}_{100 * ratio:.0f}"] = trace(host, image).macs / 1e9
    return result


def evit_parameters(network: nn.Module) -> int:
    """Number of parameters of `network` when EViT keeps one patch at each of its default blocks."""
    return parameters(prune_by_class_attention(network, (1, 1, 1), package=True))


def _candidates(view: AttentionView) -> Candidates:
    rows = len(view.class_attention)
    image, position = torch.zeros(rows, dtype=torch.long), torch.arange(rows)
    return Candidates(view.class_attention, torch.ones(rows), image, position, 1, rows, None, view)


def score_identities(generator: torch.Generator) -> dict[str, float]:
    """How far random scores are from what must hold of them, by metric name; 0 but for rounding.

    `outside_heads`: outside the smallest and largest class attention over heads. `mean_gap`: from
    the mean over heads where all norms are equal. `permutation_gap`: from the scores of permuted tokens.
    """
    attention, norm = (torch.rand(196, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    selector = as_vit.HeadWeightedSelector()
    score = selector(_candidates(AttentionView(attention, norm)))
    equal = selector(_candidates(AttentionView(attention, torch.ones_like(norm))))
    order = torch.randperm(196, generator=generator)
    permuted = selector(_candidates(AttentionView(attention[order], norm[order])))
    outside = torch.maximum(score - attention.amax(1), attention.amin(1) - score).clamp(min=0)
    rule = as_vit.Above(score.median())
    alive = torch.ones(1, 196, dtype=torch.float64)
    moved = rule(score[None], alive)[:, order] - rule(permuted[None], alive)
    return {
        "outside_heads": float(outside.max()),
        "mean_gap": float((equal - attention.mean(1)).abs().max()),
        "permutation_gap": float((permuted - score[order]).abs().max() + moved.abs().max()),
    }


def threshold_slopes(distances: Tensor, temperature: float = 1.0e-4) -> Tensor:
    """d(tokens kept)/d(theta) that a single token contributes, `distances` above the threshold (float32)."""
    stage = as_vit.ThresholdStage(as_vit.HeadWeightedSelector(), 0.005, temperature).train()
    slopes = []
    for distance in distances:
        score = (stage.threshold.detach() + distance)[None, None]
        kept = stage.decide(score, torch.ones(1, 1), None).sum()
        slopes.append(torch.autograd.grad(kept, stage.threshold)[0])
    return torch.stack(slopes)


def slope_facts() -> dict[str, float]:
    """Sign and reach of the straight-through gradient at tau = 1e-4, by name.

    `largest_inside` is the largest slope within 5 tau, which must be negative; `at_*` are shares
    of the steepest one, further away.
    """
    inside = threshold_slopes(torch.linspace(-5.0e-4, 5.0e-4, 101))
    steepest = float(inside.min())
    away = {"300": 3.0e-4, "1000": 1.0e-3, "2000": 2.0e-3}
    reach = {
        f"at_{name}_millionths": float(threshold_slopes(torch.tensor([-d, d])).min()) / steepest
        for name, d in away.items()
    }
    return {"largest_inside": float(inside.max()), "steepest": steepest, **reach}


def slopes_figure() -> Figure:
    """How many tokens fewer a threshold keeps as it rises, by a token's distance from it, at tau = 1e-4."""
    places = [step * 2.0e-5 for step in range(-50, 51)]
    slopes = (-threshold_slopes(torch.tensor(places))).tolist()
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axes in panels:
        axes.plot(places, slopes, color=plots.COLOURS[0])
        plots.plain(axes, x="score above threshold", y="tokens lost per unit of threshold")
    panels[1].set(yscale="log")
    return figure
