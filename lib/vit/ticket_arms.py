"""The experiment of data-level lottery tickets: networks trained from scratch on what they are shown."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from lib.errors import WrongUse
from lib.lab.backbones import SMALL_VITS, _lv_vit, build, small_vit
from lib.lab.compute import seeded
from lib.lab.datasets import ImageSplit
from lib.lab.fit import Schedule, classification, fit
from lib.lab.train import accuracy
from lib.vit.host import TokenHost, class_token_vit
from lib.vit.magnitude_tickets import Round, iterate, random_masks, with_masks
from lib.vit.pixel_tickets import Way, swin, ways
from lib.vit.selectors import Count
from lib.vit.vit_data_lth import TicketViT, find_tickets, random_tickets

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

Shown = Callable[[Tensor], tuple[Tensor, ...]]
"""Images to what a network is given: `(images,)`, `(images, ticket)`, or images made of tickets."""

STUDENT_DEPTH = 6
"""Blocks of the small networks trained from scratch, half of the selector's twelve: twice as many steps."""


FRESH = 1_000_003
"""Added to the seed for a second initialisation, so that it meets no other run's."""


PROTOCOLS = {
    "dense": ("dense", "all patches"),
    "ticket": ("ticket", "tickets"),
    "random": ("random", "tickets"),
    "random_own": ("random", "random patches"),
    "random_longer": ("random longer", "tickets"),
    "evit": ("EViT", "all patches"),
    "positions": ("positions alone", "tickets"),
}
"""What recorded accuracies mean: name -> arm, and the patches it was tested on."""


class Fed(nn.Module):
    """`model` on what `shown` makes of the images; what `shown` uses itself is neither trained nor stored."""

    def __init__(self, model: nn.Module, shown: Shown) -> None:
        super().__init__()
        self.model = model
        self.shown = shown

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(*self.shown(images))
        return logits


def given(model: nn.Module, ticket: Tensor) -> Fed:
    """`model` on tickets that are known beforehand: every image gets `ticket (1, k)`."""
    return Fed(model, lambda images: (images, ticket.expand(len(images), -1))).eval()


@dataclass(frozen=True)
class Views:
    """What networks may be shown of images: all patches, the selector's tickets, or as many at random."""

    selector: TokenHost
    draws: torch.Generator

    @property
    def counts(self) -> tuple[int, ...]:
        """Patches left after each stage of the selector; all of them where it has none."""
        rules = [cast(Count, stage.rule).keep for stage in self.selector.ordered]
        return tuple(rules) or (self.selector.patches,)

    def everything(self, images: Tensor) -> tuple[Tensor, ...]:
        return (images,)

    def tickets(self, images: Tensor) -> tuple[Tensor, ...]:
        return images, find_tickets(self.selector, images)

    def random(self, images: Tensor) -> tuple[Tensor, ...]:
        ticket = random_tickets(len(images), self.counts, self.selector.patches, self.draws)
        return images, ticket.to(images.device)

    def pixels(self, way: Way) -> Shown:
        """Images made of tickets by `way`."""
        patch = self.selector.backbone.patch_embed.patch_size[0]
        return lambda images: (way(images, find_tickets(self.selector, images), patch),)


@dataclass(frozen=True)
class ScratchArm:
    """A network trained from scratch and the loss of every step."""

    name: str
    model: nn.Module
    losses: list[float]


def train_shown(
    name: str,
    make: Callable[[], nn.Module],
    shown: Shown,
    split: ImageSplit,
    schedule: Schedule,
    seed: int,
    limit: int | None = None,
) -> ScratchArm:
    """The network that `make()` builds from `seed`, trained on `split` as seen through `shown`.

    Arms of one seed start from the same weights and get the same augmented images in the same order; with a
    `limit`, so many from the front of the split.
    """
    generator = seeded(seed)
    arm = ScratchArm(name, make(), [])
    fed = Fed(arm.model, shown)
    places = torch.arange(len(split))[:limit]
    steps = fit(fed, split, schedule, generator, classification(fed), chosen=lambda epoch: places)
    for step in tqdm(steps, desc=name, leave=False):
        arm.losses.append(step.loss)
    return arm


@torch.inference_mode()
def score_arms(
    arms: Mapping[str, ScratchArm], split: ImageSplit, tests: Mapping[str, Shown]
) -> dict[str, dict[str, float]]:
    """Accuracy in percent of every arm on `split` as seen through each of `tests`: arm -> test -> accuracy.

    What is shown is made once for all arms, so that they meet the same random patches.
    """
    right = {name: dict.fromkeys(tests, 0) for name in arms}
    device = next(next(iter(arms.values())).model.parameters()).device
    for images, labels in split.batches(250):
        for test, shown in tests.items():
            seen = shown(images.to(device))
            for name, arm in arms.items():
                guess = arm.model.eval()(*seen).argmax(-1).cpu()
                right[name][test] += int((guess == labels).sum())
    return {
        name: {test: 100 * count / len(split) for test, count in of_arm.items()}
        for name, of_arm in right.items()
    }


def student(backbone: str, dataset: str, *, depth: int = STUDENT_DEPTH) -> "VisionTransformer":
    """The untrained network to be trained on tickets: a small ViT of `depth` blocks, or a DeiT."""
    if backbone != "small_vit":
        return class_token_vit(build(backbone))
    size = SMALL_VITS[dataset]
    return small_vit(image_size=size.image_size, channels=size.channels, depth=depth)


def lv_student(backbone: str, dataset: str) -> "VisionTransformer":
    """LV-ViT-S, or a small network with its auxiliary head and halved branches on the small ViT's patches."""
    if backbone != "small_vit":
        return class_token_vit(build("lv_vit_s"))
    plain = student(backbone, dataset)
    model = class_token_vit(_lv_vit(plain.num_classes, plain.embed_dim, STUDENT_DEPTH, heads=4))
    model.patch_embed, model.pos_embed = plain.patch_embed, plain.pos_embed
    return model


def swin_student(backbone: str, dataset: str, image_size: int) -> nn.Module:
    """Swin-T, or a Swin of two stages on tokens of 2 pixels, for images of `image_size` pixels."""
    if backbone != "small_vit":
        return swin(image_size)
    channels = SMALL_VITS[dataset].channels
    return swin(image_size, patch=2, dim=32, depths=(2, 2), heads=(2, 4), channels=channels, num_classes=10)


def families(
    backbone: str, dataset: str, views: Views, image_size: int
) -> dict[str, tuple[Callable[[], nn.Module], Shown]]:
    """Networks that are no plain ViT, by name: how each is made, and what it is shown.

    The packed variant is left out where the tickets' patches fill no square.
    """
    patch, count = views.selector.backbone.patch_embed.patch_size[0], views.counts[-1]
    sizes = {"zero": image_size, "small dense": math.isqrt(count) * patch}
    return {
        "Swin": (lambda: swin_student(backbone, dataset, image_size), views.everything),
        **{
            f"Swin {name}": (partial(swin_student, backbone, dataset, sizes[name]), views.pixels(way))
            for name, way in ways(count).items()
        },
        "LV-ViT": (lambda: TicketViT(lv_student(backbone, dataset)), views.everything),
        "LV-ViT tickets": (lambda: TicketViT(lv_student(backbone, dataset)), views.tickets),
    }


def positions_accuracy(selector: TokenHost, train: ImageSplit, test: ImageSplit) -> float:
    """Accuracy in percent of a linear classifier that is told which patches are in the ticket, not a pixel.

    What it scores above chance, the selector has told by its choice.
    """
    device = next(selector.parameters()).device

    def masks(split: ImageSplit) -> tuple[Tensor, Tensor]:
        batches = [
            (find_tickets(selector, images.to(device)).cpu(), labels) for images, labels in split.batches(250)
        ]
        ticket = torch.cat([ticket for ticket, _ in batches])
        return torch.zeros(len(ticket), selector.patches).scatter(1, ticket, 1.0), torch.cat(
            [y for _, y in batches]
        )

    (x, y), (unseen, truth) = masks(train), masks(test)
    weight = torch.zeros(selector.patches + 1, len(train.classes), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight[:-1] + weight[-1], y) + 1.0e-3 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        guess = (unseen @ weight[:-1] + weight[-1]).argmax(1)
    return 100 * float((guess == truth).double().mean())


@dataclass(frozen=True)
class WeightTickets:
    """Networks of one dense training: itself, the rounds of pruning, and the controls of the last round."""

    dense: nn.Module
    rounds: list[Round]
    controls: dict[str, nn.Module]

    def tested(self, split: ImageSplit) -> tuple[list[float], dict[str, float]]:
        """Accuracies in percent on `split`: of the dense network and after every round; of the controls."""
        line = [100 * accuracy(model, split) for model in (self.dense, *(each.model for each in self.rounds))]
        return line, {name: 100 * accuracy(model, split) for name, model in self.controls.items()}


def weight_tickets(
    make: Callable[[], nn.Module],
    split: ImageSplit,
    schedule: Schedule,
    seed: int,
    left: list[float],
    rewind_epochs: int = 0,
) -> WeightTickets:
    """Iterative magnitude pruning to the shares `left`, rewound to the end of epoch `rewind_epochs`.

    Without rewinding epochs it goes back to the initial weights. Two controls at the last share: "fresh
    weights" keeps the masks and starts anew from another initialisation; "random mask" keeps the early
    weights, and as many of them in every layer, at random places. All networks train for the same number of
    epochs, those before the rewinding included.

    Raises WrongUse for a rewinding outside the schedule.
    """
    if not 0 <= rewind_epochs < schedule.epochs:
        raise WrongUse(f"rewind_epochs must lie in [0, {schedule.epochs}), not {rewind_epochs}")

    def built(number: int) -> nn.Module:
        seeded(number)
        return make()

    def rewound() -> nn.Module:
        model = built(seed)
        model.load_state_dict(early)
        return model

    def train(model: nn.Module, first_epoch: int = rewind_epochs) -> None:
        generator = torch.Generator().manual_seed(seed)
        steps = fit(model, split, schedule, generator, classification(model), first_epoch=first_epoch)
        for step in tqdm(steps, desc="weights", leave=False):
            if step.ends_epoch and step.epoch + 1 == rewind_epochs:
                snapshots.append({name: value.clone() for name, value in model.state_dict().items()})

    snapshots: list[dict[str, Tensor]] = []
    dense = built(seed)
    initial = {name: value.clone() for name, value in dense.state_dict().items()}
    train(dense, 0)
    early = snapshots[0] if rewind_epochs else initial

    rounds = list(iterate(dense, rewound, train, left))
    masks = rounds[-1].masks
    fresh = with_masks(built(seed + FRESH), masks)
    train(fresh, 0)
    scattered = with_masks(rewound(), random_masks(masks, torch.Generator().manual_seed(seed)))
    train(scattered)
    return WeightTickets(dense, rounds, {"fresh weights": fresh, "random mask": scattered})
