"""AS-ViT's experiment: thresholds learnt under a budget against fixed counts, all at equal average cost."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from lib.errors import WrongUse
from lib.lab.backbones import build
from lib.lab.compute import seeded
from lib.lab.datasets import ImageSplit
from lib.lab.measure import burst
from lib.vit import as_vit, spvit
from lib.vit.as_vit_budget import Budget
from lib.vit.experiment import Bench
from lib.vit.finetune import Recipe, finetune
from lib.vit.host import TokenHost
from lib.vit.topk import prune_by_class_attention

BATCH = 250
"""Images a batch at evaluation."""


@dataclass(frozen=True)
class Tested:
    """A network on a split: `accuracy` in percent; by image `counts`, `share` of B, `loss`."""

    accuracy: float
    counts: Tensor
    share: Tensor
    loss: Tensor

    @property
    def mean_share(self) -> float:
        """Average cost of an image over the dense network's."""
        return float(self.share.mean())


@torch.inference_mode()
def evaluate(
    host: TokenHost, budget: Budget, split: ImageSplit, *, seed: int = 0, limit: int | None = None
) -> Tested:
    """`host`, in gathered execution, on the images of `split`, or on its first `limit` ones."""
    host.eval()
    device = next(host.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    correct, losses, counts, seen = 0, [], [], 0
    for images, labels in split.in_order(torch.arange(min(limit or len(split), len(split))), BATCH):
        output = host(images.to(device), generator=generator)
        logits = output.logits.cpu()
        correct += int((logits.argmax(-1) == labels).sum())
        losses.append(F.cross_entropy(logits, labels, reduction="none"))
        counts.append(torch.stack([trace.keep.sum(1).cpu() for trace in output.stages], 1))
        seen += len(labels)
    kept = torch.cat(counts)
    return Tested(100 * correct / seen, kept, budget.of_counts(kept) / budget.dense, torch.cat(losses))


@torch.inference_mode()
def losses(network: nn.Module, split: ImageSplit) -> Tensor:
    """Cross-entropy of `network` on every image of `split`: how hard each is."""
    device = next(network.parameters()).device
    return torch.cat(
        [
            F.cross_entropy(network(images.to(device)).cpu(), labels, reduction="none")
            for images, labels in split.batches(BATCH)
        ]
    )


@torch.inference_mode()
def plant(host: TokenHost, images: Tensor, shares: Sequence[float]) -> TokenHost:
    """`host` with thresholds under which `images` as a whole keep `shares` of their patches, stage by stage.

    The images may differ: each threshold is a quantile of all scores of the batch. Returns the host itself.
    """
    host.eval()
    thresholds = as_vit.thresholds_of(host)
    for threshold in thresholds:
        threshold.fill_(-1.0)
    kept = 1.0
    for stage, (threshold, share) in enumerate(zip(thresholds, shares, strict=True)):
        traces = host(images).stages
        alive = traces[stage - 1].keep > 0 if stage else torch.ones_like(traces[0].keep, dtype=torch.bool)
        threshold.copy_(traces[stage].scores[alive].quantile(1 - share / kept))
        kept = share
    return host


def meet(host: TokenHost, budget: Budget, t: float, split: ImageSplit, *, limit: int = 500) -> float:
    """Move all thresholds of `host` by one amount, so that images of `split` cost `t` on average; the amount.

    A training that is short misses its budget by a few percent, and arms must not differ in cost. The first
    `limit` images are used. False position (Illinois), ended at a gap of 0.1 % of the dense cost or after
    twelve looks: with few images the cost moves in steps.
    """
    budget.check(t)
    thresholds = as_vit.thresholds_of(host)
    learnt = [threshold.item() for threshold in thresholds]

    def gap(moved: float) -> float:
        with torch.no_grad():
            for threshold, value in zip(thresholds, learnt, strict=True):
                threshold.fill_(value + moved)
        return evaluate(host, budget, split, limit=limit).mean_share - t

    # no threshold below 0 drops anything, none from 1 on keeps anything: the ends need no look
    reach = 4 / budget.tokens + max(abs(value) for value in learnt)
    low, high, above, below = -reach, reach, 1 - t, budget.lowest - t
    moved = 0.0
    for _ in range(12):
        found = gap(moved)
        if abs(found) < 1.0e-3:
            break
        if found > 0:
            low, above, below = moved, found, below / 2
        else:
            high, below, above = moved, found, above / 2
        moved = low + (high - low) * above / (above - below) if above > below else (low + high) / 2
    return moved


def matching_counts(budget: Budget, averages: Sequence[float], t: float) -> tuple[int, ...]:
    """Whole numbers of patches next to `averages`, one per stage, whose cost is nearest to `t`."""
    near = [sorted({max(1, int(value)), max(1, int(value) + 1)}) for value in averages]
    choices = [torch.tensor(choice, dtype=torch.float64) for choice in itertools.product(*near)]
    gaps = (budget.of_counts(torch.stack(choices)) / budget.dense - t).abs()
    return tuple(int(count) for count in choices[int(gaps.argmin())])


def recipe(epochs: int, batch_size: int, learning_rate: float) -> Recipe:
    """The paper's: one rate for weights and thresholds, all from the first step, thresholds not decayed."""
    return Recipe(
        epochs,
        batch_size,
        learning_rate,
        backbone_scale=1.0,
        backbone_rest=0.0,
        weight_decay=1.0e-6,
        progressive=False,
        selector_decay=0.0,
    )


@dataclass(frozen=True)
class Trained:
    """A trained network and its test; by step its loss, its average share of B, and its thresholds if any."""

    name: str
    host: TokenHost
    budget: Budget
    losses: list[float]
    shares: list[float]
    thresholds: list[list[float]]
    moved: float
    test: Tested

    @property
    def late_share(self) -> float:
        """Average share of B over the last quarter of the training, before any threshold was moved."""
        late = self.shares[-max(1, len(self.shares) // 4) :]
        return sum(late) / len(late)


def train(
    name: str, host: TokenHost, bench: Bench, t: float, recipe: Recipe, seed: int, *, learns: bool = True
) -> Trained:
    """Fine-tune `host` against the dense network of `bench` and test it at a cost of `t` of the dense.

    A host that `learns` thresholds is trained under the budget, and then brought exactly to it on training
    images (see `meet`). One with fixed counts has the same loss without the budget.
    """
    host.to(next(bench.dense.parameters()).device)
    budget = Budget.of(host)
    weights = as_vit.LossWeights() if learns else as_vit.LossWeights(budget=0.0)
    steps = finetune(
        host, bench.dense, bench.train, as_vit.objective(budget, t, weights), recipe, seeded(seed)
    )
    losses, shares, thresholds = [], [], []
    for step in tqdm(steps, desc=name, unit="step", leave=False):
        counts = host.patches * torch.tensor([step.kept], dtype=torch.float64)
        losses.append(step.loss)
        shares.append(float(budget.of_counts(counts)) / budget.dense)
        thresholds.append([p.item() for p in as_vit.thresholds_of(host)] if learns else [])
    moved = meet(host, budget, t, bench.train) if learns else 0.0
    test = evaluate(host, budget, bench.test, seed=seed)
    return Trained(name, host, budget, losses, shares, thresholds, moved, test)


def arms(
    bench: Bench, t: float, recipe: Recipe, seed: int, ablations: Sequence[str] = ()
) -> dict[str, Trained]:
    """The method, its controls and `ablations`, trained alike from one dense network to one average cost.

    `adaptive` is the method. `topk` and `random` keep its average counts in every image, by class attention
    and blindly. Ablations: `unweighted` counts all heads alike; `activations` masks activations while it is
    trained; `earlier` has its thresholds one block earlier, in front of 3, 6, 9.

    Raises:
        WrongUse: an ablation of another name.
    """
    known: dict[str, Callable[[], TokenHost]] = {
        "unweighted": lambda: as_vit.prune(bench.copy(), head_weighting=False),
        "activations": lambda: as_vit.prune(bench.copy(), masks="activations"),
        "earlier": lambda: as_vit.prune(bench.copy(), blocks=(3, 6, 9)),
    }
    if unknown := sorted(set(ablations) - set(known)):
        raise WrongUse(f"no ablation is called {', '.join(unknown)}; known: {', '.join(known)}")
    adaptive = train("adaptive", as_vit.prune(bench.copy()), bench, t, recipe, seed)
    averages = evaluate(adaptive.host, adaptive.budget, bench.train, limit=2 * BATCH).counts.mean(0).tolist()
    counts, blocks = matching_counts(adaptive.budget, averages, t), adaptive.budget.blocks
    controls = {
        "topk": prune_by_class_attention(bench.copy(), counts, blocks=blocks, inside=False),
        "random": spvit.prune_randomly(bench.copy(), counts, blocks=blocks),
    }
    made = [adaptive]
    made += [train(name, host, bench, t, recipe, seed, learns=False) for name, host in controls.items()]
    made += [train(name, known[name](), bench, t, recipe, seed) for name in ablations]
    return {arm.name: arm for arm in made}


def hard_and_easy(values: Tensor, loss: Tensor) -> tuple[float, float]:
    """Mean of `values (images,)` over the third of the images with the largest `loss`, and the smallest."""
    order, third = loss.argsort(), max(1, len(loss) // 3)
    return float(values[order[-third:]].mean()), float(values[order[:third]].mean())


def bimodality(values: Tensor) -> float:
    """Sarle's coefficient (skewness^2 + 1) / kurtosis: 1/3 for a bell, 5/9 if uniform, 1 for two spikes.

    Values that are all equal have none; they are given 1, as they are no bell either.
    """
    centred = values.double() - values.double().mean()
    variance = centred.pow(2).mean()
    if variance == 0:
        return 1.0
    skewness, kurtosis = (centred.pow(k).mean() / variance ** (k / 2) for k in (3, 4))
    return float((skewness**2 + 1) / kurtosis)


@dataclass(frozen=True)
class Saving:
    """Percent of the multiply-accumulates, and of the measured time, that a pruned network saves.

    `time` is the median over rounds of timing; `spread` (points) the range of their middle half.
    """

    macs: float
    time: float
    spread: float


@torch.inference_mode()
def saving(
    dense: nn.Module, host: TokenHost, batches: Sequence[Tensor], *, rounds: int = 11, burst_s: float = 0.05
) -> Saving:
    """What `host` saves of `dense` on `batches`, run one after the other, in alternating bursts.

    The images of a batch keep what they need; operations are counted for just these images. Every round
    times one burst of at least `burst_s` seconds of each network, which begins by turns, and has a saving of
    its own: other load on the machine that lasts longer than a round slows both networks alike.
    """
    budget = Budget.of(host)
    macs = torch.cat([budget.macs([t.keep for t in host(images).stages]) for images in batches])
    _burst(dense, batches, 0.0)  # uncounted, as the host's run above
    saved = []
    for turn in range(rounds):
        order = (host, dense) if turn % 2 else (dense, host)
        seconds = {model: _burst(model, batches, burst_s) for model in order}
        saved.append(100 * (1 - seconds[host] / seconds[dense]))
    low, middle, high = torch.tensor(saved).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
    return Saving(100 * (1 - float(macs.mean()) / budget.dense), middle, high - low)


def _burst(model: nn.Module, batches: Sequence[Tensor], burst_s: float) -> float:
    """Median seconds of passes of `model` through `batches`, over at least `burst_s` seconds and one pass."""

    def through() -> None:
        for images in batches:
            model(images)

    return median(burst(through, burst_s))


def large_savings(pictures: Tensor, batch: int, *, t: float = 0.65) -> dict[str, Saving]:
    """Savings of DeiT-S, random weights, on `pictures` enlarged to 224 pixels, at batch 1 and at `batch`.

    Its thresholds are planted so that `batch` pictures, or four, cost about `t` of the dense cost as a whole.
    Batch 1 gets three rounds instead of eleven.
    """
    dense, host = deit_at(pictures, t, images=max(4, batch))
    large = enlarged(pictures[: max(4, batch)])
    groups = {1: list(large[:4].split(1)), batch: list(large[:4].split(1)) if batch == 1 else [large]}
    return {
        f"DeiT-S, batch {size}": saving(dense, host, group, rounds=11 if size > 1 else 3)
        for size, group in groups.items()
    }


def deit_at(pictures: Tensor, t: float, *, images: int) -> tuple[nn.Module, TokenHost]:
    """DeiT-S with random weights, and the same under thresholds by which `images` pictures cost `t`."""
    dense = build("deit_s")
    host = as_vit.prune(dense)
    return dense, plant(host, enlarged(pictures[:images]), Budget.of(host).shares(t))


def enlarged(pictures: Tensor) -> Tensor:
    """Grey versions of `pictures (images, channels, height, width)`, of 224 pixels and three channels."""
    grey = pictures.cpu().mean(1, keepdim=True)
    return F.interpolate(grey, 224).expand(-1, 3, -1, -1).contiguous()
