"""AS-ViT: thresholds on class attention, learnt under a budget (Liu, Wu, Guo, IJCAI 2023).

Symbols: A attention of a block `(heads, N+1, N+1)` with the class token at 0; H_i^h norm of token i's output
of head h; R_i^h that head's share of it; S_i the token's score; theta_n the threshold of stage n; tau = 1/T
the temperature; M the mask; F(x) the multiply-accumulates of an image and B those of the dense network; t the
budget, a share of B.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import WrongUse
from lib.vit.as_vit_budget import Budget
from lib.vit.finetune import Objective
from lib.vit.flows import Flow, MaskedFlow
from lib.vit.host import Output, TokenHost, TokenStage, class_token_vit
from lib.vit.selectors import Candidates, Count, Selector
from lib.vit.stage import StageTrace
from lib.vit.tokens import TransformerBlock
from lib.vit.topk import ClassAttentionSelector, looked_at

BLOCKS = {"deit": (4, 7, 10), "lv_vit_s": (5, 9, 13), "lv_vit_m": (6, 11, 16)}
"""Blocks (0-based) in front of which the released code compares scores with thresholds."""

THRESHOLDS = (0.001, 0.002, 0.003)
"""Where the released thresholds start: with 197 tokens uniform attention is 0.0051, so nearly all stay."""

TOKENS = 197
"""Number of tokens for which `THRESHOLDS` and the temperature were published."""


class HeadWeightedSelector(nn.Module):
    """S_i = sum_h R_i^h A^h_{0,i}: class attention, every head weighted by its part in the token's output.

    R_i^h = H_i^h / (sum_h' H_i^h' + 1e-8), with H before the output projection. Nothing is learnt, and
    nothing is computed that attention has not computed already but the norms.
    """

    needs_attention = True

    def forward(self, candidates: Candidates) -> Tensor:
        """Scores `(rows,)`, in [0, 1]; between the smallest and the largest head's class attention."""
        view = looked_at(candidates)
        share = view.context_norm / (view.context_norm.sum(1, keepdim=True) + 1.0e-8)
        return (share * view.class_attention).sum(1)


@dataclass(frozen=True)
class Above:
    """Keeps every patch whose score exceeds `threshold`, a scalar tensor: no sorting, images differ."""

    threshold: Tensor

    def __call__(self, scores: Tensor, alive: Tensor) -> Tensor:
        return (scores > self.threshold).to(scores.dtype) * alive


@dataclass(frozen=True)
class BatchAverage:
    """What the released code does with several images: all keep the average number of survivors, the best.

    The survivors of `threshold` are counted over the whole batch and divided by the images, rounded down. So
    the batch is dense, but it needs sorting and what an image keeps depends on its neighbours. With a single
    image it is `Above`.
    """

    threshold: Tensor

    def __call__(self, scores: Tensor, alive: Tensor) -> Tensor:
        survivors = int(Above(self.threshold)(scores, alive).sum())
        return Count(survivors // len(scores))(scores, alive)


class ThresholdStage(TokenStage):
    """Compares scores with one learnable scalar (adaptive sparsity module).

    Training: soft = sigmoid((S - theta) / tau), M = [S > theta] - stopgrad(soft) + soft, so that the decision
    is hard and gradients reach theta, and the scores, through the sigmoid. Evaluation: the stage's rule,
    which is `Above` unless it is replaced.

    Args:
        threshold: where theta starts. A negative one keeps every token.
        temperature: tau, the width of the band around theta within which gradients pass.
    """

    def __init__(self, selector: Selector, threshold: float, temperature: float) -> None:
        theta = nn.Parameter(torch.tensor(float(threshold)))
        super().__init__(selector, Above(theta), package=False)
        self.threshold = theta
        self.temperature = temperature

    def decide(self, scores: Tensor, alive: Tensor, generator: torch.Generator | None) -> Tensor:
        """Decisions `(batch, patches)`; nothing is drawn.

        A dropped patch never returns: its score is next to nothing, but a threshold may learn to be below it.
        `alive` is a constant here, as the mask of a stage replaces that of the stage before in the paper.
        """
        if not self.training:
            return self.rule(scores, alive)
        soft = torch.sigmoid((scores - self.threshold) / self.temperature)
        hard = (scores > self.threshold).to(scores.dtype)
        return (hard - soft.detach() + soft) * alive.detach()


class _ActivationFlow(MaskedFlow):
    """Dropped tokens are multiplied by 0 at the door of every block, and everybody still attends to them."""

    def seen(self) -> Tensor | None:
        return None

    def attention(self, block: TransformerBlock) -> None:
        if self.policy is not None:
            self.x = self.x * self.policy[..., None]
        super().attention(block)

    def stage(self, stage: TokenStage, generator: torch.Generator | None) -> StageTrace:
        trace = super().stage(stage, generator)
        assert self.policy is not None
        self.x = self.x * self.policy[..., None]
        return trace


class ActivationMaskedHost(TokenHost):
    """A host that masks activations while it is trained, the ablation of the paper; evaluation is the same.

    A token of zeros still has a key, its norm's bias, and takes its part of every softmax, which it no longer
    does when it has left.
    """

    def _run(self, flow: Flow, generator: torch.Generator | None) -> list[StageTrace]:
        if not (self.training and isinstance(flow, MaskedFlow)):
            return super()._run(flow, generator)
        masked = _ActivationFlow(flow.x, flow.prefix, flow.patches, flow.eps)
        traces = super()._run(masked, generator)
        flow.x, flow.policy = masked.x, masked.policy
        return traces


def prune(
    backbone: nn.Module,
    *,
    blocks: Sequence[int] = BLOCKS["deit"],
    thresholds: Sequence[float] = THRESHOLDS,
    temperature: float = 1.0e-4,
    head_weighting: bool = True,
    masks: Literal["attention", "activations"] = "attention",
) -> TokenHost:
    """`backbone` with a learnable threshold in front of each of `blocks`.

    Args:
        thresholds: where they start, one per block, for networks of 197 tokens. Attention sums to one, so
            with L tokens the scores, and thresholds and temperature with them, are 197/L times as large.
            With negative thresholds the network is the unmodified one.
        temperature: tau, likewise for 197 tokens.
        head_weighting: weigh the heads of the class attention; otherwise they count alike.
        masks: what training masks, attention (the method) or activations (the ablation).

    Raises:
        WrongUse: thresholds and blocks differ in number, or a temperature that is not positive.
    """
    if len(thresholds) != len(blocks):
        raise WrongUse(f"{len(thresholds)} thresholds for {len(blocks)} blocks; give one per block")
    if temperature <= 0:
        raise WrongUse(f"the temperature must be positive, not {temperature:g}")
    if masks not in ("attention", "activations"):
        raise WrongUse(f"masks are put on attention or activations, not on {masks!r}")
    vit = class_token_vit(backbone)
    scale = TOKENS / (vit.patch_embed.num_patches + vit.num_prefix_tokens)
    stages = {}
    for block, threshold in zip(blocks, thresholds, strict=True):
        selector = HeadWeightedSelector() if head_weighting else ClassAttentionSelector()
        stages[block] = ThresholdStage(selector, scale * threshold, scale * temperature)
    kind = TokenHost if masks == "attention" else ActivationMaskedHost
    return kind(backbone, stages)


def thresholds_of(host: TokenHost) -> list[nn.Parameter]:
    """The thresholds of `host`, in order of their blocks. Raises WrongUse for a host without."""
    stages = [stage for stage in host.ordered if isinstance(stage, ThresholdStage)]
    if len(stages) < len(host.ordered) or not stages:
        raise WrongUse("this host has no thresholds to learn: make it with as_vit.prune")
    return [stage.threshold for stage in stages]


def batch_averaged(host: TokenHost) -> TokenHost:
    """`host` as the released code runs batches (see `BatchAverage`); returns the host itself."""
    return host.decide_by([BatchAverage(threshold) for threshold in thresholds_of(host)])


def per_image(host: TokenHost) -> TokenHost:
    """`host` with its thresholds applied image by image, as `prune` makes it; returns the host itself."""
    return host.decide_by([Above(threshold) for threshold in thresholds_of(host)])


@dataclass(frozen=True)
class LossWeights:
    """lambda_1 of the budget and lambda_2 of the distillation.

    `absolute`: the budget is missed in G multiply-accumulates, as in the released code, not in shares of B:
    for DeiT-S that weighs it 4.57 times as much.
    """

    budget: float = 2.0
    distillation: float = 0.5
    absolute: bool = False


def budget_loss(mean_macs: Tensor, budget: Budget, t: float, *, absolute: bool = False) -> Tensor:
    """|F/B - t| of the batch's mean F, or with `absolute` |F - tB| / 1e9."""
    if absolute:
        return (mean_macs - t * budget.dense).abs() / 1.0e9
    return (mean_macs / budget.dense - t).abs()


def objective(budget: Budget, t: float, weights: LossWeights | None = None) -> Objective:
    """L = L_CE + lambda_1 |F/B - t| + lambda_2 KL(student || teacher), for `lib.vit.finetune`.

    F is the mean over the batch of what each image costs, and differentiable through the masks.

    Raises:
        WrongUse: no thresholds can bring the network down to `t`, or `t` is above 1.
    """
    budget.check(t)
    weights = weights or LossWeights()

    def of_batch(output: Output, labels: Tensor, dense: Output, in_use: Sequence[int]) -> Tensor:
        student, teacher = output.logits.log_softmax(-1), dense.logits.log_softmax(-1)
        # KL(student || teacher): F.kl_div takes its second argument as the distribution in front
        distance = F.kl_div(teacher, student, log_target=True, reduction="batchmean")
        total = F.cross_entropy(output.logits, labels) + weights.distillation * distance
        if not output.stages:
            return total
        macs = budget.macs([trace.keep for trace in output.stages], in_use).mean()
        return total + weights.budget * budget_loss(macs, budget, t, absolute=weights.absolute)

    return of_batch
