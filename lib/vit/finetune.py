"""Fine-tuning of a pruned network against its dense self, stage after stage."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lib.lab.datasets import ImageSplit
from lib.lab.fit import descend
from lib.vit.host import Output, TokenHost

Objective = Callable[[Output, Tensor, Output, Sequence[int]], Tensor]
"""Loss of a batch: masked output, labels, the dense network's output, numbers (from 0) of stages in use."""


@dataclass(frozen=True)
class Recipe:
    """SPViT's recipe, at a length that fits the data.

    The selectors follow a cosine from `learning_rate` to one fiftieth of it. The backbone rests during
    `backbone_rest` of the steps and then follows at `backbone_scale` of that rate, as in the released code (5
    of 30 epochs; 0.01). `progressive` brings the stages in one after the other, the last one first, all
    before the first half is over.
    `selector_decay` is the weight decay of the selectors' own parameters, by default that of the backbone.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 2.0e-3
    backbone_scale: float = 0.1
    backbone_rest: float = 5 / 30
    weight_decay: float = 0.05
    progressive: bool = True
    selector_decay: float | None = None


@dataclass(frozen=True)
class Step:
    """One step of training: its number of `total`, its loss, the share of patches each stage in use kept."""

    index: int
    total: int
    loss: float
    kept: tuple[float, ...]


def finetune(
    host: TokenHost,
    teacher: nn.Module,
    split: ImageSplit,
    objective: Objective,
    recipe: Recipe,
    generator: torch.Generator,
) -> Iterator[Step]:
    """Train `host` on `split`, yielding after every step; `host` is left in evaluation mode at the end.

    Raises ReproError when the loss is no longer finite.

    `teacher` is the dense network with its own copy of the weights.
    """
    device = next(host.parameters()).device
    blocks = sorted(int(name) for name in host.stages)
    selectors = [parameter for stage in host.stages.values() for parameter in stage.parameters()]
    frozen = {id(host.backbone.cls_token), id(host.backbone.pos_embed)}
    backbone = [parameter for parameter in host.backbone.parameters() if id(parameter) not in frozen]
    decay = recipe.weight_decay if recipe.selector_decay is None else recipe.selector_decay
    groups: list[dict[str, Any]] = [{"params": selectors, "weight_decay": decay}] if selectors else []
    optimizer = torch.optim.AdamW(
        [*groups, {"params": backbone}], lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    total = recipe.epochs * math.ceil(len(split) / recipe.batch_size)
    teacher_host = TokenHost(teacher.eval(), {})
    index = 0
    for _ in range(recipe.epochs):
        for images, labels in split.batches(recipe.batch_size, generator=generator):
            progress = index / total
            rate = recipe.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
            optimizer.param_groups[0]["lr"] = rate
            optimizer.param_groups[-1]["lr"] = (
                0.0 if progress < recipe.backbone_rest else recipe.backbone_scale * rate
            )
            active = _active(blocks, progress) if recipe.progressive else blocks
            host.train()
            host.activate(frozenset(active))
            images, labels = images.to(device), labels.to(device)
            with torch.no_grad():
                dense = teacher_host(images, execution="masked")
            output = host(images, execution="masked", generator=generator)
            loss = objective(output, labels, dense, [blocks.index(block) for block in active])
            remedy = "lower learning_rate or backbone_scale"
            descend(loss, optimizer, when=f"after {index} of {total} steps", remedy=remedy)
            index += 1
            yield Step(index, total, loss.item(), tuple(trace.keep.mean().item() for trace in output.stages))
    host.activate(frozenset(blocks))
    host.eval()


def _active(blocks: Sequence[int], progress: float) -> Sequence[int]:
    """The stages in use after `progress` of training: the last one first, one more after every 1 / (2 K).

    K stages are all in use from (K - 1) / (2 K) of training on: three from a third.
    """
    if not blocks:
        return blocks
    count = min(len(blocks), 1 + int(progress * 2 * len(blocks)))
    return blocks[-count:]
