"""What decides about tokens: scores from a selector, then a rule that turns scores into who stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lib.vit.attention import AttentionView


@dataclass(frozen=True)
class Candidates:
    """What a selector sees at its stage: one row for every token but the class token.

    `values (rows, dim)`; `weight (rows,)` is 1 for tokens that still count and 0 for those already dropped
    (masked execution keeps them in place); `image (rows,)` says whose they are, of `images`; `position
    (rows,)` is the patch, of `patches`, or -1 for a package token; `attention` is there for selectors that
    say `needs_attention = True`.
    """

    values: Tensor
    weight: Tensor
    image: Tensor
    position: Tensor
    images: int
    patches: int
    generator: torch.Generator | None
    attention: AttentionView | None = None


class Selector(Protocol):
    """Anything that maps candidates to their probability of being worth keeping, `(rows,)` in [0, 1]."""

    def __call__(self, candidates: Candidates) -> Tensor: ...


class RandomSelector(nn.Module):
    """The control of every experiment: scores drawn uniformly, blind to the image.

    Draws from the generator of the forward pass, patch by patch, so that masked and gathered execution under
    equal generators drop the same patches.
    """

    def forward(self, candidates: Candidates) -> Tensor:
        c = candidates
        noise = torch.rand(c.images, c.patches, generator=c.generator).to(c.values.device)
        return noise[c.image, c.position.clamp(min=0)]


class Rule(Protocol):
    """Turns scores `(images, patches)` into decisions of that shape, 1 to keep; `alive` says who may stay."""

    def __call__(self, scores: Tensor, alive: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Threshold:
    """Keeps every patch with a score of at least `value`: images keep as many as they need."""

    value: float = 0.5

    def __call__(self, scores: Tensor, alive: Tensor) -> Tensor:
        return (scores >= self.value).to(scores.dtype) * alive


@dataclass(frozen=True)
class Count:
    """Keeps the `keep` best patches of every image (all that are left if fewer): equal cost for all."""

    keep: int

    def __call__(self, scores: Tensor, alive: Tensor) -> Tensor:
        best = scores.masked_fill(alive == 0, -torch.inf).topk(min(self.keep, scores.shape[1]), dim=1).indices
        return torch.zeros_like(scores).scatter(1, best, 1.0) * alive


def calibrated(
    scores: Sequence[Tensor], keeps: Sequence[Tensor], targets: Sequence[float]
) -> list[Threshold]:
    """Thresholds under which a batch as a whole keeps `targets` of its patches, while its images may differ.

    `scores` and `keeps`, `(images, patches)` each, are those of consecutive stages on a calibration batch;
    `targets` are cumulative. A short training leaves probabilities near their prior, where the threshold of
    one half would keep all or nothing.
    """
    thresholds = []
    alive = torch.ones_like(keeps[0])
    for stage_scores, keep, rho in zip(scores, keeps, targets, strict=True):
        share = rho * alive.numel() / float(alive.sum())
        values = stage_scores[alive > 0]
        thresholds.append(Threshold(float(values.quantile(min(1.0, max(0.0, 1 - share))))))
        alive = keep
    return thresholds


def gumbel_keep(scores: Tensor, alive: Tensor, generator: torch.Generator | None) -> Tensor:
    """Decisions sampled from keep probabilities `scores`, differentiable by the straight-through estimator.

    Gumbel-softmax at temperature 1 over (keep, drop), hard in the forward pass; times `alive`, so that a
    dropped patch never returns.
    """
    small = 1.0e-6
    keep = scores.clamp(small, 1 - small)
    uniform = torch.rand(2, *scores.shape, generator=generator).to(scores.device).clamp(small, 1 - small)
    noise = -torch.log(-torch.log(uniform))
    soft = torch.sigmoid(torch.log(keep) - torch.log1p(-keep) + noise[0] - noise[1])
    hard = (soft > 0.5).to(soft.dtype)
    return (hard - soft.detach() + soft) * alive
