"""Tri-Level E-ViT (Kong et al., AAAI 2023), second and third level: tokens, and connections between them.

Inside blocks 3, 6 and 9, between attention and MLP, the patches with the most class attention stay (token
level); from there on each patch sees only those patches that it attended to most (attention level). Both
ratios are 1 at first and fall to their final values during training. Nothing is learnt but the backbone, so
the dropped patches can leave for good while training too, and training time falls. The first level is
`lib.vit.example_level`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.vit.host import TokenHost, TokenStage
from lib.vit.selectors import RandomSelector, Selector
from lib.vit.topk import ClassAttentionSelector

STAGES = (3, 6, 9)
RAMP_START, RAMP_LENGTH = 10 / 300, 100 / 300
"""Shares of the training: how long nothing is dropped, and how long the ratios take to fall."""


def share_of(count: int, ratio: float) -> int:
    """ceil(ratio x count), without the rounding of binary fractions (0.9 x 160 is 144, not 145)."""
    return math.ceil(ratio * count - 1.0e-9)


def token_counts(ratio: float, patches: int, stages: int = len(STAGES)) -> tuple[int, ...]:
    """Patches left after each stage: k = ceil(r n) of those that the stage gets (not of all)."""
    _check_ratio("token", ratio)
    counts: list[int] = []
    for _ in range(stages):
        counts.append(share_of(counts[-1] if counts else patches, ratio))
    return tuple(counts)


def ratio_at(
    progress: float, final: float, *, start: float = RAMP_START, length: float = RAMP_LENGTH
) -> float:
    """The ratio after `progress` (0 to 1) of the training: 1, then half a cosine down to `final`, then that.

    r(t) = r + (1 - r) / 2 (1 + cos(pi (t - t10) / (t110 - t10))), per iteration; 10 and 100 of 300 epochs.
    """
    _check_ratio("final", final)
    phase = min(1.0, max(0.0, (progress - start) / length))
    return final + (1 - final) / 2 * (1 + math.cos(math.pi * phase))


@dataclass
class KeepShare:
    """Keeps of every image ceil(`ratio` x n) of the n patches that are left, the best-scored first.

    The ratio may be set anew at every step.
    """

    ratio: float = 1.0

    def __call__(self, scores: Tensor, alive: Tensor) -> Tensor:
        """Decisions `(images, patches)` on `scores` of that shape; ties go to the patch that comes first."""
        left = alive > 0
        wanted = (left.sum(1, keepdim=True).double() * self.ratio - 1.0e-9).ceil()
        best = scores.detach().masked_fill(~left, -torch.inf).argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(best).scatter(
            1, best, torch.arange(scores.shape[1], device=best.device).expand_as(best)
        )
        return (left & (rank < wanted)).to(scores.dtype)


@dataclass(frozen=True)
class StrongestConnections:
    """The attention level: of each row of the kept patches, the ceil(`ratio` x k) largest entries stay.

    M_ij = [A_ij >= the ceil(s k)-th largest of row i], A the mean over heads among the k kept patches.
    Entries that equal the last one stay too, so a row with ties keeps more: also a row of which fewer than
    ceil(s k) entries survived an earlier mask, for its zeros tie. Class token and packages see and are seen
    by all; the host adds them. `ratio` is the share that is KEPT: 0.1 cuts nine connections in ten.
    """

    ratio: float

    def __call__(self, attention: Tensor, keep: Tensor) -> Tensor:
        """Mask for `attention (images, patches, patches)`, of its shape; `keep (images, patches)` decides."""
        alive = keep > 0
        wanted = (alive.sum(1).double() * self.ratio - 1.0e-9).ceil().long().clamp(min=1)
        among = attention.masked_fill(~alive[:, None, :], -torch.inf)
        place = (wanted - 1)[:, None, None].expand(-1, attention.shape[1], 1)
        last = among.topk(int(wanted.max()), dim=-1).values.gather(-1, place)
        pairs = alive[:, :, None] & alive[:, None, :]
        return ((among >= last) & pairs).to(attention.dtype)


def tri_level(
    backbone: torch.nn.Module,
    *,
    blocks: Sequence[int] = STAGES,
    selector: Selector | None = None,
    look_at_last: bool = False,
) -> TokenHost:
    """`backbone` with a stage inside each of `blocks`, at ratios of 1: it computes what it did, bit for bit.

    Args:
        selector: what scores the patches, class attention by default; `RandomSelector()` is the control.
        look_at_last: read off the class attention of the last block too (a stage there that keeps all), for
            `class_attention_variance`.

    `set_ratios` sets what the stages keep.
    """
    stages = {
        block: TokenStage(
            selector or ClassAttentionSelector(), KeepShare(), package=False, sample=False, inside=True
        )
        for block in blocks
    }
    if look_at_last:
        depth = len(getattr(backbone, "blocks", ()))
        if depth - 1 in stages:
            raise WrongUse("the last block has a stage already: its scores are the class attention")
        stages[depth - 1] = TokenStage(
            ClassAttentionSelector(), KeepShare(), package=False, sample=False, inside=True
        )
    return TokenHost(backbone, stages)


def random_control(backbone: torch.nn.Module, *, blocks: Sequence[int] = STAGES) -> TokenHost:
    """`tri_level` whose patches are drawn by lot, as many as with class attention."""
    return tri_level(backbone, blocks=blocks, selector=RandomSelector())


def set_ratios(
    host: TokenHost, tokens: float, connections: float = 1.0, *, blocks: Sequence[int] = STAGES
) -> TokenHost:
    """Let the stages at `blocks` keep these shares of the patches and of each row's connections.

    A share of connections of 1 masks nothing, so that attention runs through the fused kernel again.

    Raises:
        WrongUse: a ratio that is not in (0, 1], or a host whose stages are not those of `tri_level`.
    """
    _check_ratio("token", tokens)
    _check_ratio("attention", connections)
    stages = dict(host.stages.items())
    for block in blocks:
        stage = stages.get(str(block))
        if not isinstance(stage, TokenStage) or not isinstance(stage.rule, KeepShare):
            raise WrongUse(f"block {block} has no stage that keeps a share: build the host by tri_level()")
        stage.rule.ratio = tokens
        stage.connect = StrongestConnections(connections) if connections < 1 else None
    return host


def class_attention_variance(scores: Tensor, keep: Tensor) -> Tensor:
    """Variance `(images,)` of each image's class attention `scores (images, patches)` over its kept patches.

    Attention spread evenly, as on a picture with little foreground, has a small one.
    """
    count = keep.sum(1, keepdim=True).clamp(min=1)
    mean = (scores * keep).sum(1, keepdim=True) / count
    return ((scores - mean).square() * keep).sum(1) / count[:, 0]


def _check_ratio(name: str, ratio: float) -> None:
    if not 0 < ratio <= 1:
        raise WrongUse(f"the {name} ratio is the share that stays, in (0, 1], not {ratio}")
