"""Tri-Level E-ViT's experiment: the levels one by one and together, trained from scratch and timed.

Every arm starts from the same weights. Training time is measured on whole passes over a few images (forward,
backward, optimiser, bookkeeping), all arms in turns, at the final ratios.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from hw_models import trace
from lib.errors import WrongUse
from lib.lab.backbones import SMALL_VITS, build
from lib.lab.compute import seeded
from lib.lab.datasets import ImageSplit
from lib.lab.fit import FitStep, Loss, Schedule, fit, optimizer_for
from lib.lab.train import accuracy
from lib.vit.example_level import ExampleSets
from lib.vit.experiment import train_and_test
from lib.vit.host import TokenHost, class_token_vit
from lib.vit.tri_level_vit import (
    STAGES,
    class_attention_variance,
    random_control,
    ratio_at,
    set_ratios,
    share_of,
    token_counts,
    tri_level,
)

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


@dataclass(frozen=True)
class Bench:
    """What the arms share: a maker of untrained networks, images to train on and to test with."""

    make: Callable[[], "VisionTransformer"]
    train: ImageSplit
    test: ImageSplit
    device: torch.device


def prepare(
    backbone: str, dataset: str, data_root: str, device: torch.device, *, images: int, test_images: int
) -> Bench:
    """The small ViT and Fashion-MNIST or CIFAR-10, of which `images` and `test_images` are used; or ImageNet.

    Raises:
        WrongUse: the backbone does not take the images of this data set.
        ReproError: the data are missing.
    """
    if (backbone == "small_vit") != (dataset in SMALL_VITS):
        raise WrongUse(
            f"{backbone} does not take the images of {dataset}: use small_vit with "
            f"{' or '.join(SMALL_VITS)}, or deit_t, deit_s, deit_b with imagenet and data_root"
        )
    train, test = train_and_test(dataset, data_root, images=images, test_images=test_images)
    if dataset in SMALL_VITS:
        return Bench(SMALL_VITS[dataset].build, train, test, device)
    return Bench(lambda: class_token_vit(build(backbone)), train, test, device)


@dataclass(frozen=True)
class Levels:
    """What an arm reduces: `examples` ("" for not at all, else what an exchange goes by), and final ratios.

    `lot` draws the patches that stay, instead of going by class attention (the control).
    """

    examples: str = ""
    tokens: float = 1.0
    connections: float = 1.0
    lot: bool = False


def arms(tokens: float, connections: float, exchange_by: str = "forgetting") -> dict[str, Levels]:
    """The levels one by one and together, and the two controls, at these final ratios."""
    return {
        "dense": Levels(),
        "example": Levels(examples=exchange_by),
        "token": Levels(tokens=tokens),
        "attention": Levels(connections=connections),
        "all": Levels(exchange_by, tokens, connections),
        "example_random": Levels(examples="random"),
        "token_random": Levels(tokens=tokens, lot=True),
    }


def timed_arms(tokens: float, connections: float) -> dict[str, Levels]:
    """The arms of the clock: controls cost what their originals do; `all` also without its third level."""
    chosen = {
        name: levels for name, levels in arms(tokens, connections).items() if not name.endswith("_random")
    }
    return chosen | {"example_token": Levels("forgetting", tokens)}


def host_of(levels: Levels, backbone: "VisionTransformer") -> TokenHost:
    """`backbone` with what `levels` needs; stages only where something may be dropped or masked."""
    if levels.tokens == 1 and levels.connections == 1 and levels.examples != "variance":
        return TokenHost(backbone, {})
    if levels.lot:
        return random_control(backbone)
    return tri_level(backbone, look_at_last=levels.examples == "variance")


def at_progress(host: TokenHost, levels: Levels, progress: float) -> TokenHost:
    """`host` at the ratios of `levels` after `progress` (0 to 1) of the training."""
    if host.stages:
        set_ratios(host, ratio_at(progress, levels.tokens), ratio_at(progress, levels.connections))
    return host


def watched_loss(
    host: TokenHost, levels: Levels, sets: ExampleSets, generator: torch.Generator, *, final: bool = False
) -> Loss:
    """Cross-entropy by gathered execution, which also sets the ratios and records the answers in `sets`.

    Answers are those on augmented images, as in the released code. With `final` the ratios are those of the
    end of training.
    """

    def of_batch(images: Tensor, labels: Tensor, places: Tensor, progress: float) -> Tensor:
        at_progress(host, levels, 1.0 if final else progress)
        output = host(images, generator=generator)
        spread = None
        if levels.examples == "variance":
            spread = class_attention_variance(output.stages[-1].scores, output.stages[-1].keep)
        sets.record(places, output.logits.argmax(-1) == labels, spread)
        return F.cross_entropy(output.logits, labels)

    return of_batch


def sets_of(
    levels: Levels, examples: int, epochs: int, generator: torch.Generator, removed: float, exchanged: float
) -> ExampleSets:
    """The example sets of an arm: all examples in the training subset unless it reduces examples."""
    if not levels.examples:
        return ExampleSets(examples, removed=0, exchanged=0, epochs=epochs, generator=generator)
    return ExampleSets(
        examples, removed=removed, exchanged=exchanged, epochs=epochs, generator=generator, by=levels.examples
    )


@dataclass(frozen=True)
class Arm:
    """A trained arm at its final ratios: its network, steps, example sets, and test accuracy in percent."""

    name: str
    host: TokenHost
    history: Sequence[FitStep]
    sets: ExampleSets
    accuracy: float

    def epoch_losses(self) -> list[float]:
        """Mean training loss of every epoch."""
        epochs = 1 + self.history[-1].epoch
        losses = [[step.loss for step in self.history if step.epoch == epoch] for epoch in range(epochs)]
        return [sum(values) / len(values) for values in losses]


def train_arm(
    name: str,
    levels: Levels,
    bench: Bench,
    schedule: Schedule,
    seed: int,
    *,
    removed: float,
    exchanged: float,
) -> Arm:
    """Train one arm from scratch and test it at its final ratios."""
    generator = seeded(seed)
    host = host_of(levels, bench.make()).to(bench.device)
    sets = sets_of(levels, len(bench.train), schedule.epochs, generator, removed, exchanged)
    loss = watched_loss(host, levels, sets, generator)
    history: list[FitStep] = []
    with tqdm(desc=name, unit="step", leave=False) as bar:
        for step in fit(host, bench.train, schedule, generator, loss, chosen=sets):
            history.append(step)
            bar.total = step.total
            bar.set_postfix(loss=f"{step.loss:.3f}")
            bar.update()
    at_progress(host, levels, 1.0)
    score = accuracy(host, bench.test, generator=torch.Generator().manual_seed(seed))
    return Arm(name, host, history, sets, 100 * score)


def training_time(
    contenders: Mapping[str, Levels],
    bench: Bench,
    *,
    images: int,
    batch_size: int,
    rounds: int,
    removed: float,
) -> dict[str, float]:
    """Seconds of a pass of training over `images` images (or what the example level leaves), by arm.

    A pass is what `fit` does in an epoch, at the final ratios: batches cut and augmented, forward, backward,
    optimiser, and answers recorded. All arms take turns in one process, after one uncounted pass each; the
    smallest of `rounds` counts. On a CPU the clock is this process's processor time, which on one thread is
    the time of an idle machine also where the machine is busy; elsewhere it is the wall's.
    """
    schedule = Schedule(epochs=1, batch_size=batch_size)

    def contender(levels: Levels) -> Callable[[], None]:
        generator = seeded(0)
        host = host_of(levels, bench.make()).to(bench.device)
        # the subset keeps its size for good, so what is exchanged does not matter to the clock
        sets = sets_of(levels, images, 1, generator, removed, 0)
        loss = watched_loss(host, levels, sets, generator, final=True)
        optimizer = optimizer_for(host, schedule)

        def one_pass() -> None:
            for _ in fit(host, bench.train, schedule, generator, loss, chosen=sets, optimizer=optimizer):
                pass

        return one_pass

    clock = time.process_time if bench.device.type == "cpu" else time.perf_counter
    calls = {name: contender(levels) for name, levels in contenders.items()}
    for call in calls.values():
        call()
    seconds = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            start = clock()
            call()
            seconds[name] = min(seconds[name], clock() - start)
    return seconds


def training_operations(
    contenders: Mapping[str, Levels], bench: Bench, *, removed: float
) -> dict[str, float]:
    """Multiply-accumulates of a pass at the final ratios over those of the dense pass, by arm.

    Counted on the executed networks, forward; the backward pass costs twice the forward one in all arms.
    """
    image = next(bench.train.batches(1))[0]
    dense = trace(bench.make(), image).macs
    result = {}
    for name, levels in contenders.items():
        host = at_progress(host_of(levels, bench.make()), levels, 1.0).eval()
        share = 1 - removed if levels.examples else 1.0
        result[name] = share * trace(host, image).macs / dense
    return result


@dataclass(frozen=True)
class Connected:
    """What an attention stage left: share of the connections among kept patches, and rows above ceil(s k).

    Both in percent, over all images looked at.
    """

    share: float
    overfull_rows: float


def connections_of(host: TokenHost, images: Tensor, ratio: float) -> list[Connected]:
    """What each stage of `host`, whose attention ratio is `ratio`, leaves on `images`."""
    with torch.inference_mode():
        stages = host.eval()(images).stages
    result = []
    for stage in stages:
        if stage.connected is None:
            continue
        kept = stage.keep.sum(1)
        rows = stage.connected.sum(-1)
        nominal = torch.tensor([share_of(int(count), ratio) for count in kept.tolist()]).to(rows)
        overfull = (rows > nominal[:, None]).sum() / kept.sum()
        result.append(Connected(float(100 * rows.sum() / kept.square().sum()), float(100 * overfull)))
    return result


def broken_invariants(sets: ExampleSets, generator: torch.Generator) -> int:
    """How often an exchange of `sets` breaks its promises, answers drawn at random; 0 if never.

    Promised: both subsets keep their sizes, share no example, hold all of them together, and exactly as many
    examples as agreed change from either to the other.
    """
    examples = sets.forgetting.examples
    size, broken = len(sets.training), 0
    for _ in sets.schedule:
        sets.record(sets.training, torch.rand(len(sets.training), generator=generator) < 0.7)
        was_training = torch.zeros(examples, dtype=torch.bool)
        was_training[sets.training] = True
        sets.exchange()
        together = torch.cat((sets.training, sets.held_out))
        kept_sizes = len(sets.training) == size and len(together) == examples
        partition = bool((torch.bincount(together, minlength=examples) == 1).all())
        moved = int((~was_training[sets.training]).sum()), int(was_training[sets.held_out].sum())
        broken += (not kept_sizes) + (not partition) + (moved != (sets.size, sets.size))
    return broken


def macs_by_counts(backbone: "VisionTransformer", image: Tensor) -> Callable[[Sequence[int]], int]:
    """A function from the patches left after stages inside blocks 3, 6, 9 to MACs of one image.

    A block spends 4 n D^2 + 2 n^2 D on attention, at the length n that it gets, and 2 n D H on its MLP, at
    the length that its stage leaves. Patch embedding and head are what is left of the traced dense network.
    """
    from timm.layers import Mlp

    patches, prefix = backbone.patch_embed.num_patches, backbone.num_prefix_tokens
    first = next(module for module in backbone.blocks.modules() if isinstance(module, Mlp))
    width, hidden = backbone.embed_dim, first.fc1.out_features

    def blocks(counts: Sequence[int]) -> int:
        total, n = 0, patches + prefix
        for block in range(len(backbone.blocks)):
            total += 4 * n * width**2 + 2 * n**2 * width
            if block in STAGES:
                n = counts[STAGES.index(block)] + prefix
            total += 2 * n * width * hidden
        return total

    rest = trace(backbone, image).macs - blocks((patches,) * len(STAGES))
    return lambda counts: rest + blocks(counts)


def pruned_gmacs(backbone: "VisionTransformer", image: Tensor, ratios: Sequence[float]) -> dict[float, float]:
    """GMACs of one image by token ratio, counted on the executed network."""
    host = tri_level(backbone).eval()
    return {ratio: trace(set_ratios(host, ratio), image).macs / 1e9 for ratio in ratios}


def training_average(
    macs: Callable[[Sequence[int]], int], patches: int, ratio: float, *, iterations: int = 3000
) -> float:
    """Mean MACs of a training of `iterations` steps under the ratio schedule, over those of a dense one."""
    progress = ((step + 0.5) / iterations for step in range(iterations))
    total = sum(macs(token_counts(ratio_at(t, ratio), patches)) for t in progress)
    return total / iterations / macs((patches,) * len(STAGES))


def schedule_lines(ratios: Sequence[float], points: int = 31) -> tuple[list[float], dict[str, list[float]]]:
    """Progress in percent, and the schedule of each final ratio there, for a figure."""
    progress = [point / (points - 1) for point in range(points)]
    return [100 * t for t in progress], {f"r {r}": [ratio_at(t, r) for t in progress] for r in ratios}
