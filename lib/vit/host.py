"""One host for all token-pruning papers: a timm vision transformer with stages between its blocks.

A *stage* scores the patches that are left, decides which of them stay, and says what becomes of the rest. The
host runs the stages in two ways that agree: masked (nothing leaves; for training) and gathered (dropped
tokens are gone; for inference). The class token is never pruned. The backbone is used as it is, never copied
or patched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.vit.selectors import Candidates, Rule, Selector, gumbel_keep
from lib.vit.tokens import IMAGE, PREFIX, Rows, TransformerBlock, gathered_block, masked_block, segment_mean

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

Execution = Literal["masked", "gathered"]


class TokenStage(nn.Module):
    """Scores, decides, packages.

    Args:
        selector: gives each token its probability of being worth keeping.
        rule: turns probabilities into decisions at evaluation (training samples them).
        package: whether the patches dropped here leave one package token behind: their mean, weighted by
            their keep probability (soft pruning); otherwise they vanish (hard pruning).
        sample: training draws decisions from the probabilities, so that gradients reach the selector;
            otherwise the rule decides then too (for selectors with nothing to learn).
    """

    def __init__(self, selector: Selector, rule: Rule, *, package: bool, sample: bool = True) -> None:
        super().__init__()
        self.selector = selector
        self.rule = rule
        self.package = package
        self.sample = sample

    def decide(self, scores: Tensor, alive: Tensor, generator: torch.Generator | None) -> Tensor:
        """Decisions `(batch, patches)` on scores of that shape: sampled while training, else by the rule."""
        if self.training and self.sample:
            return gumbel_keep(scores, alive, generator)
        return self.rule(scores, alive)


@dataclass(frozen=True)
class StageTrace:
    """What a stage did: `scores` and decisions `keep`, `(batch, patches)`; a patch gone before has keep 0."""

    scores: Tensor
    keep: Tensor


@dataclass(frozen=True)
class Output:
    """`logits (batch, classes)`, a trace per stage; when masked, normalised `tokens (batch, length, dim)`."""

    logits: Tensor
    stages: list[StageTrace]
    tokens: Tensor | None = None


def class_token_vit(backbone: nn.Module) -> "VisionTransformer":
    """`backbone` itself, if it is a vision transformer that classifies by its class token; else WrongUse."""
    if getattr(backbone, "global_pool", None) != "token" or not hasattr(backbone, "blocks"):
        raise WrongUse(
            f"{type(backbone).__name__} does not classify by a class token: the token host needs a ViT"
        )
    return cast("VisionTransformer", backbone)


def blocks_of(backbone: "VisionTransformer") -> Sequence[TransformerBlock]:
    """The blocks of `backbone` in order, typed."""
    return cast(Sequence[TransformerBlock], backbone.blocks)


class TokenHost(nn.Module):
    """A timm ViT that loses tokens on the way.

    Args:
        backbone: a timm `VisionTransformer` (DeiT, LV-ViT of lib.lab.backbones, the small ViT) that
            classifies by its class token.
        stages: block index (0-based) -> the stage in front of that block. Without stages, and with stages
            that drop nothing, the logits are those of the backbone, bit for bit.

    Raises:
        WrongUse: not such a backbone, or a stage in front of a block that does not exist.
    """

    def __init__(self, backbone: nn.Module, stages: Mapping[int, TokenStage]) -> None:
        super().__init__()
        self.backbone = class_token_vit(backbone)
        last = len(self.backbone.blocks) - 1
        if outside := [block for block in stages if not 0 <= block <= last]:
            raise WrongUse(f"stages in front of blocks {outside}: this backbone has blocks 0 to {last}")
        self.stages = nn.ModuleDict({str(block): stages[block] for block in sorted(stages)})
        self.active = frozenset(stages)

    @property
    def patches(self) -> int:
        """Number of patches of an image."""
        return self.backbone.patch_embed.num_patches

    @property
    def blocks(self) -> Sequence[TransformerBlock]:
        """The backbone's blocks in order."""
        return blocks_of(self.backbone)

    @property
    def ordered(self) -> list[TokenStage]:
        """The stages in order of their blocks."""
        return [cast(TokenStage, stage) for stage in self.stages.values()]

    def activate(self, blocks: frozenset[int]) -> None:
        """Use only the stages in front of `blocks`; the others let all tokens pass (progressive training)."""
        self.active = blocks

    def decide_by(self, rules: Sequence[Rule]) -> "TokenHost":
        """Replace the stages' rules, in order; returns the host itself."""
        for stage, rule in zip(self.ordered, rules, strict=True):
            stage.rule = rule
        return self

    def forward(
        self,
        images: Tensor,
        *,
        execution: Execution = "gathered",
        generator: torch.Generator | None = None,
        eps: float = 1.0e-6,
    ) -> Output:
        """Logits of `images (batch, channels, height, width)`.

        In training mode decisions are sampled and execution must be masked. `eps` is that of masked
        attention, for training; evaluation uses 0, which makes masked and gathered equal up to rounding.
        """
        b = self.backbone
        x = b.norm_pre(b.patch_drop(b._pos_embed(b.patch_embed(images))))
        if execution == "masked":
            return self._masked(x, generator, eps if self.training else 0.0)
        if self.training:
            raise WrongUse(
                "gathered execution cannot be trained through; use execution='masked', or host.eval()"
            )
        return self._gathered(x, generator)

    def _stage(self, block: int) -> TokenStage | None:
        return cast(TokenStage, self.stages[str(block)]) if block in self.active else None

    def _masked(self, x: Tensor, generator: torch.Generator | None, eps: float) -> Output:
        prefix, patches = self.backbone.num_prefix_tokens, self.patches
        policy: Tensor | None = None
        traces = []
        for index, block in enumerate(self.blocks):
            if stage := self._stage(index):
                x, policy, trace = _masked_stage(stage, x, policy, prefix, patches, generator)
                traces.append(trace)
            x = block(x) if policy is None else masked_block(block, x, policy, eps)
        tokens = self.backbone.norm(x)
        visible = tokens if policy is None else _dead_hidden(tokens, policy, prefix)
        return Output(self.backbone.forward_head(visible), traces, tokens)

    def _gathered(self, x: Tensor, generator: torch.Generator | None) -> Output:
        prefix, patches, batch = self.backbone.num_prefix_tokens, self.patches, len(x)
        rows = Rows.of(x, prefix)
        traces = []
        for index, block in enumerate(self.blocks):
            if stage := self._stage(index):
                rows, trace = _gathered_stage(stage, rows, batch, patches, generator)
                traces.append(trace)
            rows = gathered_block(block, rows)
        return Output(self.backbone.forward_head(self.backbone.norm(_padded(rows, prefix))), traces)


def _masked_stage(
    stage: TokenStage,
    x: Tensor,
    policy: Tensor | None,
    prefix: int,
    patches: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor | None, StageTrace]:
    """Sequence and policy that go on after `stage`, and what it did; no policy yet means all tokens count."""
    batch = len(x)
    alive = x.new_ones(x.shape[:2]) if policy is None else policy
    tokens, seen = x[:, prefix:], alive[:, prefix:]
    length = tokens.shape[1]
    position = torch.arange(length, device=x.device)
    candidates = Candidates(
        values=tokens.flatten(0, 1),
        weight=seen.flatten(),
        image=torch.arange(batch, device=x.device).repeat_interleave(length),
        position=position.masked_fill(position >= patches, -1).repeat(batch),
        images=batch,
        patches=patches,
        generator=generator,
    )
    scores = stage.selector(candidates).view(batch, length)[:, :patches]
    before = seen[:, :patches]
    keep = stage.decide(scores, before, generator)
    trace = StageTrace(scores, keep)
    dropped = before - keep
    if not stage.training and not dropped.any():
        return x, policy, trace

    policy = torch.cat((alive[:, :prefix], keep, seen[:, patches:]), 1)
    if stage.package:
        image = torch.arange(batch, device=x.device).repeat_interleave(patches)
        weight = (dropped * _package_weight(scores)).flatten()
        packages = segment_mean(tokens[:, :patches].flatten(0, 1), weight, image, batch)
        packaged = dropped.detach().amax(1, keepdim=True) > 0
        x = torch.cat((x, packages[:, None]), 1)
        policy = torch.cat((policy, packaged.to(policy)), 1)
    return x, policy, trace


def _gathered_stage(
    stage: TokenStage, rows: Rows, batch: int, patches: int, generator: torch.Generator | None
) -> tuple[Rows, StageTrace]:
    """The rows that go on after `stage`, and what it did."""
    free = (rows.kind != PREFIX).nonzero().squeeze(-1)
    image, position, values = rows.image[free], rows.position[free], rows.values[free]
    candidates = Candidates(values, torch.ones_like(values[:, 0]), image, position, batch, patches, generator)
    scored = stage.selector(candidates)

    # decisions are made on the full grid of patches, exactly as in masked execution
    patch = rows.kind[free] == IMAGE
    where = (image[patch], position[patch])
    scores = scored.new_zeros(batch, patches).index_put(where, scored[patch])
    alive = scored.new_zeros(batch, patches).index_put(where, scored.new_ones(len(where[0])))
    keep = stage.decide(scores, alive, generator)
    trace = StageTrace(scores, keep)
    dropped = alive - keep
    if not dropped.any():
        return rows, trace

    stays = torch.ones_like(rows.image, dtype=torch.bool)
    stays[free[patch]] = keep[where] > 0
    if stage.package:
        packages = segment_mean(values[patch], (dropped * _package_weight(scores))[where], where[0], batch)
        packaged = dropped.amax(1) > 0
    else:
        packages = values.new_zeros(batch, values.shape[1])
        packaged = torch.zeros(batch, dtype=torch.bool, device=values.device)
    return rows.kept(stays, packages, packaged), trace


def _package_weight(scores: Tensor) -> Tensor:
    """Weights of patches in their package: keep probabilities, never so small that their sum could vanish."""
    return scores.clamp(min=1.0e-6)


def _padded(rows: Rows, prefix: int) -> Tensor:
    """`(batch, longest, dim)`: each image's rows, the last one repeated; room for one patch at least.

    A head that takes the class token, or the maximum over tokens, is blind to repetition.
    """
    longest = max(prefix + 1, *rows.lengths)
    if rows.uniform and rows.lengths[0] == longest:
        return rows.dense()
    lengths = torch.tensor(rows.lengths, device=rows.values.device)
    starts = lengths.cumsum(0) - lengths
    offsets = torch.arange(longest, device=rows.values.device)
    return rows.values[starts[:, None] + torch.minimum(offsets[None], lengths[:, None] - 1)]


def _dead_hidden(tokens: Tensor, policy: Tensor, prefix: int) -> Tensor:
    """`tokens` with every dropped one replaced by a token of the same image that still counts.

    Where none does, the last prefix token stands in, as in gathered execution.
    """
    alive = policy.detach()[:, prefix:] > 0
    first = alive.float().argmax(1)
    substitute = prefix + torch.where(alive.any(1), first, torch.full_like(first, -1))
    shown = tokens[torch.arange(len(tokens), device=tokens.device), substitute][:, None]
    keep = torch.cat((alive.new_ones(len(alive), prefix), alive), 1)[..., None]
    return torch.where(keep, tokens, shown)
