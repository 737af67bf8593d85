"""Tri-Level E-ViT's experiment: the levels one by one and together, trained from scratch and timed.

Every arm starts from the same weights. Training time is that of the whole training, from the first step,
which drops nothing, to the last, all arms in turns.
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
from lib.lab.fit import FitStep, Loss, Schedule, fit
from lib.lab.train import accuracy
from lib.vit.example_level import ExampleSets
from lib.vit.experiment import train_and_test
from lib.vit.host import TokenHost, blocks_of, class_token_vit
from lib.vit.tri_level_costs import average_cost, macs_by_counts, ratio_of_cost
from lib.vit.tri_level_vit import (
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

WARM_UP = 8
"""Images that an arm sees before its clock starts."""


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

    `lot` draws the patches that stay, instead of going by class attention (the random control). Without
    `ramp` the ratios hold from the first step on (the fixed-ratio control). Without `fused`, attention that
    nothing masks writes its weights down, as masked attention must.
    """

    examples: str = ""
    tokens: float = 1.0
    connections: float = 1.0
    lot: bool = False
    ramp: bool = True
    fused: bool = True

    def ratios(self, progress: float) -> tuple[float, float]:
        """Shares of patches and of connections that stay after `progress` (0 to 1) of the training."""
        t = progress if self.ramp else 1.0
        return ratio_at(t, self.tokens), ratio_at(t, self.connections)


def arms(
    tokens: float, connections: float, fixed: float, exchange_by: str = "forgetting"
) -> dict[str, Levels]:
    """The levels one by one and together at these final ratios, and what they are compared with.

    `dense_unfused` is `dense` without the fused attention kernel, `example_token` is `all` without the third
    level. Controls: `_random` goes by lot at equal counts. `_topk` is the fixed-ratio control, which goes by
    class attention at a constant ratio and does nothing else: `token_topk` at that of `token`, `all_topk` at
    `fixed`, which `fixed_ratio` chooses for a training as costly as that of `all`.
    """
    return {
        "dense": Levels(),
        "dense_unfused": Levels(fused=False),
        "example": Levels(examples=exchange_by),
        "token": Levels(tokens=tokens),
        "attention": Levels(connections=connections),
        "example_token": Levels(exchange_by, tokens),
        "all": Levels(exchange_by, tokens, connections),
        "example_random": Levels(examples="random"),
        "token_random": Levels(tokens=tokens, lot=True),
        "all_random": Levels("random", tokens, connections, lot=True),
        "token_topk": Levels(tokens=tokens, ramp=False),
        "all_topk": Levels(tokens=fixed, ramp=False),
    }


def host_of(levels: Levels, backbone: "VisionTransformer") -> TokenHost:
    """`backbone` with what `levels` needs; stages only where something may be dropped or masked.

    Raises WrongUse for stages without the fused kernel: their own blocks would still use it.
    """
    if levels.tokens == 1 and levels.connections == 1 and levels.examples != "variance":
        for block in () if levels.fused else blocks_of(backbone):
            block.attn.fused_attn = False  # type: ignore[misc]  # final only for TorchScript
        return TokenHost(backbone, {})
    if not levels.fused:
        raise WrongUse("only the dense network is trained without the fused kernel: set fused=True")
    if levels.lot:
        return random_control(backbone)
    return tri_level(backbone, look_at_last=levels.examples == "variance")


def at_progress(host: TokenHost, levels: Levels, progress: float) -> TokenHost:
    """`host` at the ratios of `levels` after `progress` (0 to 1) of the training."""
    if host.stages:
        set_ratios(host, *levels.ratios(progress))
    return host


def watched_loss(host: TokenHost, levels: Levels, sets: ExampleSets, generator: torch.Generator) -> Loss:
    """Cross-entropy by gathered execution, which also sets the ratios and records the answers in `sets`.

    Answers are those on augmented images, as in the released code.
    """

    def of_batch(images: Tensor, labels: Tensor, places: Tensor, progress: float) -> Tensor:
        at_progress(host, levels, progress)
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
    """A trained arm at its final ratios: network, steps, example sets, test accuracy in percent.

    `seconds` is what its whole training took, evaluation not included.
    """

    name: str
    host: TokenHost
    history: Sequence[FitStep]
    sets: ExampleSets
    accuracy: float
    seconds: float

    def epoch_losses(self) -> list[float]:
        """Mean training loss of every epoch."""
        epochs = 1 + self.history[-1].epoch
        losses = [[step.loss for step in self.history if step.epoch == epoch] for epoch in range(epochs)]
        return [sum(values) / len(values) for values in losses]


class _Training:
    """An arm on its way, an epoch at a time, and the seconds that it has taken so far."""

    def __init__(
        self, levels: Levels, bench: Bench, schedule: Schedule, seed: int, removed: float, exchanged: float
    ) -> None:
        generator = seeded(seed)
        self.host = host_of(levels, bench.make()).to(bench.device)
        self.sets = sets_of(levels, len(bench.train), schedule.epochs, generator, removed, exchanged)
        loss = watched_loss(self.host, levels, self.sets, generator)
        self.history: list[FitStep] = []
        self.seconds = 0.0
        self._clock = time.process_time if bench.device.type == "cpu" else time.perf_counter
        self._steps = fit(self.host, bench.train, schedule, generator, loss, chosen=self.sets)

    def epoch(self) -> None:
        """Train for one epoch; reading the loss of a step waits for the device."""
        start = self._clock()
        for step in self._steps:
            self.history.append(step)
            if step.ends_epoch:
                break
        self.seconds += self._clock() - start


def train_arms(
    contenders: Mapping[str, Levels],
    bench: Bench,
    schedule: Schedule,
    seed: int,
    *,
    removed: float,
    exchanged: float,
) -> dict[str, Arm]:
    """Train every arm from scratch under its own schedule, time it, and test it at its final ratios.

    Arms take turns, an epoch each, so that all of them meet the same disturbances; a few images that do not
    count warm each up. Timed is all that `fit` does: batches cut and augmented, forward, backward, optimiser,
    answers recorded, examples exchanged. On a CPU the clock is this process's processor time, which on one
    thread is the time of an idle machine also where the machine is busy; elsewhere it is the wall's.
    """
    trainings = {}
    few = next(bench.train.batches(WARM_UP))[0].to(bench.device)
    for name, levels in contenders.items():
        spare = at_progress(host_of(levels, bench.make()).to(bench.device).train(), levels, 1.0)
        spare(few, generator=seeded(seed)).logits.sum().backward()
        trainings[name] = _Training(levels, bench, schedule, seed, removed, exchanged)
    turns = [name for _ in range(schedule.epochs) for name in trainings]
    for name in tqdm(turns, desc="training", unit="epoch", leave=False):
        trainings[name].epoch()
    result = {}
    for name, training in trainings.items():
        host = at_progress(training.host, contenders[name], 1.0)
        score = 100 * accuracy(host, bench.test, generator=torch.Generator().manual_seed(seed))
        result[name] = Arm(name, host, training.history, training.sets, score, training.seconds)
    return result


def progress_of(schedule: Schedule, images: int, *, most: int = 1000) -> list[float]:
    """Progress (0 to 1) at the steps of a training on `images` images an epoch; of many, about `most`."""
    total = schedule.epochs * math.ceil(images / schedule.batch_size)
    return [step / total for step in range(0, total, max(1, total // most))]


def training_operations(
    contenders: Mapping[str, Levels], bench: Bench, schedule: Schedule, *, removed: float
) -> dict[str, float]:
    """Multiply-accumulates of a whole training over those of the dense one, by arm.

    Counted on the executed networks, forward, at the ratios of every step; the backward pass costs twice the
    forward one in all arms.
    """
    image = next(bench.train.batches(1))[0]
    dense = trace(bench.make(), image).macs
    macs: dict[tuple[object, ...], int] = {}
    result = {}
    for name, levels in contenders.items():
        host = host_of(levels, bench.make()).eval()
        images = _images_of(levels, bench, removed)
        work = []
        for progress in progress_of(schedule, images):
            tokens, connections = levels.ratios(progress)
            counts = token_counts(tokens, host.patches)
            same_work = (len(host.stages), levels.lot, levels.fused, counts, connections < 1)
            if same_work not in macs:
                macs[same_work] = trace(at_progress(host, levels, progress), image).macs
            work.append(macs[same_work])
        result[name] = images / len(bench.train) * sum(work) / len(work) / dense
    return result


def fixed_ratio(bench: Bench, schedule: Schedule, tokens: float, *, removed: float) -> float:
    """The constant token ratio at which a training on all examples costs what that of all levels does.

    Costs are counted in multiply-accumulates over all steps; those on the levels' side are at a ratio that
    falls to `tokens`, on the examples that are left.
    """
    network = bench.make()
    patches = network.patch_embed.num_patches
    macs = macs_by_counts(network, next(bench.train.batches(1))[0])
    images = _images_of(Levels("forgetting"), bench, removed)
    ratios = (ratio_at(progress, tokens) for progress in progress_of(schedule, images))
    return ratio_of_cost(macs, patches, images / len(bench.train) * average_cost(macs, patches, ratios))


def _images_of(levels: Levels, bench: Bench, removed: float) -> int:
    """Images of an epoch of an arm."""
    return len(sets_of(levels, len(bench.train), 1, torch.Generator(), removed, 0).training)


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
