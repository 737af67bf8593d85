"""One host for all token-pruning papers: a timm vision transformer with stages between its blocks.

The host runs its stages in two ways that agree: masked (nothing leaves; for training) and gathered (dropped
tokens are gone; for inference). The class token is never pruned. The backbone is used as it is, never copied
or patched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.vit.flows import Flow, GatheredFlow, MaskedFlow
from lib.vit.selectors import Rule
from lib.vit.stage import StageTrace, TokenStage
from lib.vit.tokens import Rows, TransformerBlock

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

__all__ = ["Output", "StageTrace", "TokenHost", "TokenStage", "blocks_of", "class_token_vit", "embedded"]

Execution = Literal["masked", "gathered"]


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


def embedded(backbone: "VisionTransformer", images: Tensor) -> Tensor:
    """Placed tokens `(batch, prefix + patches, dim)` of `images`: what the first block of `backbone` gets."""
    b = backbone
    return b.norm_pre(b.patch_drop(b._pos_embed(b.patch_embed(images))))


class TokenHost(nn.Module):
    """A timm ViT that loses tokens on the way.

    Args:
        backbone: a timm `VisionTransformer` (DeiT, LV-ViT of lib.lab.backbones, the small ViT) that
            classifies by its class token.
        stages: block index (0-based) -> the stage in front of that block, or inside it. Without stages, and
            with stages that drop nothing, the logits are those of the backbone, bit for bit.

    Raises:
        WrongUse: not such a backbone, a stage at a block that does not exist, or a stage in front of the
            first block that looks at the attention of a block before it.
    """

    def __init__(self, backbone: nn.Module, stages: Mapping[int, TokenStage]) -> None:
        super().__init__()
        self.backbone = class_token_vit(backbone)
        last = len(self.backbone.blocks) - 1
        if outside := [block for block in stages if not 0 <= block <= last]:
            raise WrongUse(f"stages at blocks {outside}: this backbone has blocks 0 to {last}")
        if 0 in stages and stages[0].looks and not stages[0].inside:
            raise WrongUse(
                "no block attends in front of block 0: put this stage inside it, or at a later block"
            )
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
        """Use only the stages at `blocks`; the others let all tokens pass (progressive training)."""
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

        In training mode, stages that sample their decisions must be executed masked; those that do not may
        also be executed gathered, so that training too costs less. `eps` is that of masked attention, for
        training; evaluation uses 0, which makes masked and gathered equal up to rounding.
        """
        b = self.backbone
        x = embedded(b, images)
        prefix, small = b.num_prefix_tokens, eps if self.training else 0.0
        if execution == "masked":
            masked = MaskedFlow(x, prefix, self.patches, small)
            traces = self._run(masked, generator)
            tokens = b.norm(masked.x)
            visible = tokens if masked.policy is None else _dead_hidden(tokens, masked.policy, prefix)
            return Output(b.forward_head(visible), traces, tokens)
        if self.training and any(stage.sample for stage in self._in_use()):
            raise WrongUse(
                "sampled decisions cannot be trained through in gathered execution; "
                "use execution='masked', or host.eval()"
            )
        gathered = GatheredFlow(x, prefix, self.patches, small)
        traces = self._run(gathered, generator)
        return Output(b.forward_head(b.norm(_padded(gathered.rows, prefix))), traces)

    def _run(self, flow: Flow, generator: torch.Generator | None) -> list[StageTrace]:
        """All blocks and stages, in order; what the stages did."""
        traces = []
        for index, block in enumerate(self.blocks):
            stage, following = self._stage(index), self._stage(index + 1)
            inside = stage is not None and stage.inside
            if stage is not None and not inside:
                traces.append(flow.stage(stage, generator))
            if not inside and not (following is not None and following.looks and not following.inside):
                flow.whole(block)
                continue
            flow.attention(block)
            if stage is not None and inside:
                traces.append(flow.stage(stage, generator))
            flow.mlp(block)
        return traces

    def _in_use(self) -> list[TokenStage]:
        return [cast(TokenStage, self.stages[str(block)]) for block in sorted(self.active)]

    def _stage(self, block: int) -> TokenStage | None:
        return cast(TokenStage, self.stages[str(block)]) if block in self.active else None


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
