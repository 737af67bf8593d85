"""HeatViT: hardware-efficient adaptive token pruning (Dong, Sun et al., HPCA 2023), its algorithm.

Symbols: X tokens `(rows, D)`, h heads of width d = D/h, x_i the i-th head's slice of X; E_i = [local, global]
its embedding, t_i its keep/drop probabilities, A the weights a_i of the heads, T their fused score; D the
decisions, P the package token; rho_k the keep ratio of stage k, relative to the stage before (SPViT's are
cumulative). Selectors, packages and losses are SPViT's where the papers agree (`lib.vit.spvit`). The
functions of the hardware are in `lib.vit.approximations`, its numbers in `lib.vit.fixed_point`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.vit import spvit
from lib.vit.approximations import PlanSigmoid
from lib.vit.finetune import Objective
from lib.vit.host import Output, TokenHost, blocks_of, class_token_vit
from lib.vit.stages import LatencyTable

SMALLEST_WEIGHT = 2.0**-8
"""Least weight of a head, one step of 8 bits: PLAN is exactly 0 from -5 downwards, perhaps for all heads."""


class HeadSelector(spvit.AttentionSelector):
    """Head-evaluation multi-head token classifier (section IV): a pair of networks per head, weighed heads.

    T = sum_i a_i t_i / sum_i a_i, with A = PLAN(MLP_3(channel means of the heads)).

    Args:
        heads: heads of the classifier; with one, a single network judges the token by its full width.
        head_attention: weigh the heads; otherwise they count alike.
        prior: keep probability before training, in (0, 1).

    Raises:
        WrongUse: head width not a multiple of 4.
    """

    def __init__(self, dim: int, heads: int, *, head_attention: bool = True, prior: float = 0.5) -> None:
        super().__init__(
            dim,
            heads,
            share_heads=False,
            head_attention=head_attention and heads > 1,
            one_embedding=True,
            prior=prior,
        )
        if self.head_attention is not None:
            self.head_attention = nn.Sequential(*list(self.head_attention)[:-1], PlanSigmoid())

    def weigh(self, x: Tensor) -> Tensor:
        """Head weights A `(rows, heads)` of `x (rows, heads, width)`; their sum never vanishes."""
        return super().weigh(x).clamp(min=SMALLEST_WEIGHT)


def cumulative(ratios: Sequence[float]) -> tuple[float, ...]:
    """Keep ratios relative to all patches from `ratios` relative to the stage before, stage by stage."""
    return tuple(accumulate(ratios, mul))


def kept_patches(
    ratios: Sequence[float], patches: int, *, instead_of_packages: bool = False
) -> tuple[int, ...]:
    """Patches that each stage leaves of `patches`: its ratio of what reaches it, to the nearest, never none.

    `instead_of_packages` adds the patches that hard pruning may keep in place of packages, one a stage.
    """
    counts = tuple(
        accumulate(ratios, lambda count, rho: max(1, int(rho * count + 0.5)), initial=patches),
    )[1:]
    return spvit.in_place_of_packages(counts, patches) if instead_of_packages else counts


def prune(
    backbone: nn.Module,
    ratios: Sequence[float],
    *,
    blocks: Sequence[int] = spvit.STAGES_OF_DEIT,
    soft: bool = True,
    counts: Sequence[int] | None = None,
    heads: int | None = None,
    head_attention: bool = True,
) -> TokenHost:
    """`backbone` with a HeatViT selector in front of each of `blocks`.

    Args:
        ratios: keep ratios, each relative to the stage before. A stage up to which all are 1 drops nothing
            and gets no selector, so all ones are the unmodified network.
        soft: dropped patches leave a package token, one for every stage.
        counts: evaluate with exactly so many patches, one number per block (see `kept_patches`); without,
            with every patch whose keep probability reaches one half.
        heads: of the selectors; the backbone's own unless given.
        head_attention: weigh the selectors' heads.

    Raises:
        WrongUse: ratios and blocks differ in number, a ratio is not in (0, 1], or heads of such a width that
            the selector cannot halve it twice.
    """
    if any(not 0 < rho <= 1 for rho in ratios):
        raise WrongUse(f"keep ratios {list(ratios)} must lie in (0, 1]: each is relative to the stage before")
    vit = class_token_vit(backbone)
    number = heads or blocks_of(vit)[0].attn.num_heads

    def selector(prior: float) -> nn.Module:
        return HeadSelector(vit.embed_dim, number, head_attention=head_attention, prior=prior)

    return spvit.with_selectors(vit, cumulative(ratios), selector, blocks=blocks, soft=soft, counts=counts)


@dataclass(frozen=True)
class LatencyTerm:
    """weight (max(0, Lat - target) / target)^2, the latency-sparsity loss on the table of a device.

    Lat = sum over `depth` blocks of the table at the share of patches that the block gets; `blocks` are those
    with a stage in front, in order. Divided by the target, so that the weight does not depend on the device.
    A share below the table's smallest ratio raises WrongUse.
    """

    table: LatencyTable
    target_ms: float
    blocks: Sequence[int]
    depth: int
    weight: float = 2.0

    def __post_init__(self) -> None:
        if self.target_ms <= 0:
            raise WrongUse(f"the target latency must be positive, not {self.target_ms} ms")

    def latency_ms(self, shares: Sequence[Tensor]) -> Tensor:
        """Lat for the `shares` of all patches, scalars, that the stages leave; gradients flow to them."""
        total, start = torch.zeros(()), 0
        share = torch.ones(())
        for block, following in zip((*self.blocks, self.depth), (*shares, share), strict=True):
            total = total.to(share) + (block - start) * self._block(share)
            start, share = block, following
        return total

    def _block(self, share: Tensor) -> Tensor:
        """The table between its entries, linearly; it raises below them, where gradients would vanish."""
        ratios = share.new_tensor(self.table.ratios[::-1])
        times = share.new_tensor(self.table.block_ms[::-1])
        self.table.check(float(share.detach()))
        right = int(torch.searchsorted(ratios, share.detach()).clamp(1, len(ratios) - 1))
        part = (share.clamp(ratios[0], ratios[-1]) - ratios[right - 1]) / (ratios[right] - ratios[right - 1])
        return times[right - 1] + part * (times[right] - times[right - 1])

    def __call__(self, shares: Sequence[Tensor]) -> Tensor:
        """The loss."""
        return self.weight * (self.latency_ms(shares) / self.target_ms - 1).clamp(min=0).square()


def objective(
    ratios: Sequence[float],
    weights: spvit.LossWeights | None = None,
    latency: LatencyTerm | None = None,
) -> Objective:
    """SPViT's losses at `ratios`, each relative to the stage before, and the latency's where a term is given.

    While only some stages are in use, the one before is the one before among those: the last stage alone is
    asked for its own ratio, not for what all of them leave together. For the same reason the latency counts
    only once all stages are in use.
    """
    # as in `prune`: a stage up to which all ratios are 1 does not exist and has no number
    asked = [rho for rho, of_all in zip(ratios, cumulative(ratios), strict=True) if of_all < 1]

    def of_batch(output: Output, labels: Tensor, dense: Output, in_use: Sequence[int]) -> Tensor:
        wanted = cumulative([asked[stage] for stage in in_use])
        total = spvit.objective(wanted, weights)(output, labels, dense, in_use)
        if latency is None or len(in_use) < len(asked):
            return total
        return total + latency([trace.keep.mean() for trace in output.stages])

    return of_batch
