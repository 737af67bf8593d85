"""SPViT: latency-aware soft token pruning (Kong, Dong et al., ECCV 2022).

Symbols: X tokens `(rows, D)`, H heads of width d = D/H, x_i the i-th head's slice of X; t_i the keep/drop
probabilities of head i; A the head attention; T the fused probabilities; D_k the decisions of stage k; rho_k
its target, relative to all patches; P the package token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import WrongUse
from lib.vit.finetune import Objective
from lib.vit.host import Output, TokenHost, TokenStage, blocks_of, class_token_vit
from lib.vit.selectors import Candidates, Count, RandomSelector, Rule, Threshold
from lib.vit.tokens import segment_mean

STAGES_OF_DEIT = (3, 6, 9)
"""Blocks (0-based) in front of which the released code puts its selectors on twelve-block networks."""


def _embed(d: int, embedding: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(d), nn.Linear(d, embedding), nn.GELU())


def _classify(d: int, prior: float) -> nn.Module:
    last = nn.Linear(d // 4, 2)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([prior, 1 - prior]).log())
    return nn.Sequential(nn.Linear(d, d // 2), nn.GELU(), nn.Linear(d // 2, d // 4), nn.GELU(), last)


class AttentionSelector(nn.Module):
    """Attention-based multi-head token selector, in the form of the released code.

    Each head embeds its slice, half of the embedding stays local, half is averaged over the tokens that still
    count, and a small network turns both into keep/drop probabilities. The head-attention branch, fed with
    every head's channel mean, weighs the heads.

    Args:
        share_heads: one pair of networks for all heads, as the released code does (and its logged parameter
            counts show); the paper's text implies one pair per head.
        head_attention: weigh the heads; otherwise they count alike.
        one_embedding: one embedding of half the width both stays local and is averaged (HeatViT); otherwise
            the halves of one of full width do.
        prior: keep probability before any training, in (0, 1). At one half, as networks start by themselves,
            the first stages of a short training would drop far more than they are asked to.

    Raises:
        WrongUse: head width not a multiple of 4.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        share_heads: bool = True,
        head_attention: bool = True,
        one_embedding: bool = False,
        prior: float = 0.5,
    ) -> None:
        super().__init__()
        if dim % heads or (dim // heads) % 4:
            raise WrongUse(f"the selector needs a head width that is a multiple of 4; got {dim}/{heads}")
        self.heads, self.width = heads, dim // heads
        copies = 1 if share_heads else heads
        self.one_embedding = one_embedding
        embedding = self.width // 2 if one_embedding else self.width
        self.embed = nn.ModuleList(_embed(self.width, embedding) for _ in range(copies))
        self.classify = nn.ModuleList(_classify(self.width, prior) for _ in range(copies))
        self.softmax = nn.Softmax(dim=-1)  # a module, so that hardware's may take its place
        hidden = max(1, heads // 2)
        self.head_attention = (
            nn.Sequential(nn.Linear(heads, hidden), nn.GELU(), nn.Linear(hidden, heads), nn.Sigmoid())
            if head_attention
            else None
        )

    def _per_head(self, networks: nn.ModuleList, x: Tensor) -> Tensor:
        """`networks` on `x (rows, heads, width)`: a shared one on all heads at once, else head by head."""
        if len(networks) == 1:
            return networks[0](x)
        return torch.stack([network(x[:, i]) for i, network in enumerate(networks)], 1)

    def forward(self, candidates: Candidates) -> Tensor:
        """Keep probability T[keep] of every candidate, `(rows,)`."""
        c = candidates
        x = c.values.view(len(c.values), self.heads, self.width)
        embedding = self._per_head(self.embed, x)
        local, shared = (embedding, embedding) if self.one_embedding else embedding.chunk(2, dim=-1)
        average = segment_mean(shared, c.weight, c.image, c.images)[c.image]
        t = self.softmax(self._per_head(self.classify, torch.cat((local, average), -1)))
        if self.head_attention is None:
            return t[..., 0].mean(1)
        a = self.weigh(x)
        return (a * t[..., 0]).sum(1) / a.sum(1)

    def weigh(self, x: Tensor) -> Tensor:
        """Head attention A `(rows, heads)` of `x (rows, heads, width)`, positive."""
        assert self.head_attention is not None
        return self.head_attention(x.mean(-1))


def geometric_targets(keep_ratio: float, stages: int) -> tuple[float, ...]:
    """rho_k = keep_ratio^k for k = 1 .. stages: cumulative shares of all patches."""
    return tuple(keep_ratio**k for k in range(1, stages + 1))


def kept_patches(
    targets: Sequence[float], patches: int, *, instead_of_packages: bool = False
) -> tuple[int, ...]:
    """Patches that each stage keeps: rho_k of all, rounded down as in the released code, at least one.

    Soft pruning carries one package token more after every stage. `instead_of_packages` adds that many
    patches, so that a hard-pruned network computes on exactly as many tokens.
    """
    rounding = 1.0e-9  # 0.7 ** 2 is a little less than 0.49
    whole = [max(1, int(rho * patches + rounding)) for rho in targets]
    return in_place_of_packages(whole, patches) if instead_of_packages else tuple(whole)


def in_place_of_packages(counts: Sequence[int], patches: int) -> tuple[int, ...]:
    """`counts` of patches after the stages, and one more for each package that soft pruning carries there."""
    return tuple(min(patches, count + k) for k, count in enumerate(counts, start=1))


def prune(
    backbone: nn.Module,
    targets: Sequence[float],
    *,
    blocks: Sequence[int] = STAGES_OF_DEIT,
    soft: bool = True,
    counts: Sequence[int] | None = None,
    share_heads: bool = True,
    head_attention: bool = True,
) -> TokenHost:
    """`backbone` with an SPViT selector in front of each of `blocks`.

    Args:
        targets: cumulative keep ratios rho_k, one per block, non-increasing. A target of 1 asks for nothing
            and gets no selector, so all ones are the unmodified network.
        soft: dropped patches leave a package token.
        counts: evaluate with exactly so many patches in every image, one number per block (see
            `kept_patches`); without, with every patch whose keep probability reaches one half, so images keep
            different numbers.

    Raises:
        WrongUse: targets and blocks differ in number, or targets out of (0, 1] or increasing.
    """
    vit = class_token_vit(backbone)

    def selector(prior: float) -> nn.Module:
        return AttentionSelector(
            vit.embed_dim,
            blocks_of(vit)[0].attn.num_heads,
            share_heads=share_heads,
            head_attention=head_attention,
            prior=prior,
        )

    return with_selectors(vit, targets, selector, blocks=blocks, soft=soft, counts=counts)


def with_selectors(
    backbone: nn.Module,
    targets: Sequence[float],
    selector: Callable[[float], nn.Module],
    *,
    blocks: Sequence[int],
    soft: bool,
    counts: Sequence[int] | None,
) -> TokenHost:
    """`prune` with any learned selector: `selector` makes one from its keep probability before training.

    Raises as `prune` does.
    """
    if len(targets) != len(blocks):
        raise WrongUse(f"{len(targets)} keep ratios for {len(blocks)} blocks; give one per block")
    if any(not 0 < rho <= 1 for rho in targets) or any(a < b for a, b in pairwise(targets)):
        raise WrongUse(
            f"keep ratios {list(targets)} must lie in (0, 1] and never increase: they are cumulative"
        )
    rules: list[Rule] = [Threshold()] * len(blocks) if counts is None else [Count(count) for count in counts]
    stages = {}
    before = 1.0
    for block, rho, rule in zip(blocks, targets, rules, strict=True):
        if rho < 1:
            stages[block] = TokenStage(selector(min(rho / before, 0.99)), rule, package=soft)
            before = rho
    return TokenHost(backbone, stages)


def prune_randomly(
    backbone: nn.Module, counts: Sequence[int], *, blocks: Sequence[int] = STAGES_OF_DEIT, soft: bool = False
) -> TokenHost:
    """The control: `counts` patches stay in front of the same blocks, chosen blindly."""
    stages = {
        block: TokenStage(RandomSelector(), Count(count), package=soft, sample=False)
        for block, count in zip(blocks, counts, strict=True)
        if count < class_token_vit(backbone).patch_embed.num_patches
    }
    return TokenHost(backbone, stages)


def ratio_loss(decisions: Sequence[Tensor], targets: Sequence[float]) -> Tensor:
    """(1/K) sum_k (mean(D_k) - rho_k)^2 with the mean over the whole batch (SPViT, released code).

    `decisions` are `(batch, patches)`. Because the mean is not taken image by image, the loss does not care
    how the kept patches are spread over the images: they may differ in number.
    """
    return torch.stack([(d.mean() - rho) ** 2 for d, rho in zip(decisions, targets, strict=True)]).mean()


def ratio_loss_per_image(decisions: Sequence[Tensor], targets: Sequence[float]) -> Tensor:
    """DynamicViT's form, for comparison: every image is asked for the same ratio."""
    return torch.stack(
        [((d.mean(1) - rho) ** 2).mean() for d, rho in zip(decisions, targets, strict=True)]
    ).mean()


@dataclass(frozen=True)
class LossWeights:
    """Weights of the distillation, token and ratio terms (released code)."""

    distillation: float = 0.5
    tokens: float = 0.5
    ratio: float = 2.0


def loss(
    output: Output,
    labels: Tensor,
    teacher_logits: Tensor,
    teacher_tokens: Tensor,
    targets: Sequence[float],
    weights: LossWeights,
) -> Tensor:
    """L = L_cls + 0.5 KL(student || teacher) + 0.5 L_token + 2 L_ratio (SPViT, released code).

    `output` is that of masked execution; `teacher_logits (batch, classes)` and the normalised `teacher_tokens
    (batch, prefix + patches, dim)` are the dense network's. L_token is the mean squared error over the
    patches still kept after the last stage.
    """
    total = F.cross_entropy(output.logits, labels)
    student, teacher = output.logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    # KL(student || teacher): F.kl_div takes its second argument as the distribution in front
    total = total + weights.distillation * F.kl_div(teacher, student, log_target=True, reduction="batchmean")
    if not output.stages:
        return total
    decisions = [trace.keep for trace in output.stages]
    kept = decisions[-1].detach()
    assert output.tokens is not None
    patches = kept.shape[1]
    prefix = teacher_tokens.shape[1] - patches
    gap = (output.tokens[:, prefix : prefix + patches] - teacher_tokens[:, prefix:]).pow(2).mean(-1)
    total = total + weights.tokens * (gap * kept).sum() / kept.sum().clamp(min=1)
    return total + weights.ratio * ratio_loss(decisions, targets)


def objective(targets: Sequence[float], weights: LossWeights | None = None) -> Objective:
    """`loss` for `lib.vit.finetune`, asking the stages for `targets`, cumulative keep ratios in order.

    Stages in use are the last ones: earlier targets belong to stages not yet in use, or are 1 and have none.
    """

    def of_batch(output: Output, labels: Tensor, dense: Output, in_use: Sequence[int]) -> Tensor:
        assert dense.tokens is not None
        wanted = targets[len(targets) - len(in_use) :]
        return loss(output, labels, dense.logits, dense.tokens, wanted, weights or LossWeights())

    return of_batch
