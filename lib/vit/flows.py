"""The two ways in which a batch of tokens flows through blocks and stages: masked and gathered.

Both offer the same four steps, so that the host holds one loop: a block as a whole, a block's attention with
a look at it, a block's MLP, and a stage.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lib.vit.attention import Attended, AttentionView, Connections, attend, attend_rows
from lib.vit.selectors import Candidates
from lib.vit.stage import StageTrace, TokenStage
from lib.vit.tokens import IMAGE, PREFIX, Rows, TransformerBlock, add_attention, add_mlp, segment_mean


class Flow(ABC):
    """Tokens on their way; `attended` is what the last block that was asked to look has seen."""

    attended: Attended | None = None
    connections: Connections | None = None

    @abstractmethod
    def whole(self, block: TransformerBlock) -> None:
        """Through all of `block`."""

    @abstractmethod
    def attention(self, block: TransformerBlock) -> None:
        """Through the attention of `block`, remembering it in `attended`."""

    @abstractmethod
    def mlp(self, block: TransformerBlock) -> None:
        """Through the MLP of `block`."""

    @abstractmethod
    def stage(self, stage: TokenStage, generator: torch.Generator | None) -> StageTrace:
        """Through `stage`; says what it did."""

    def connect(self, stage: TokenStage, keep: Tensor, image: Tensor, position: Tensor) -> Tensor | None:
        """Lets `stage` say who sees whom from here on, if it does; its mask.

        `keep (images, patches)` are its decisions; `image` and `position`, `(rows,)`, place the tokens.
        """
        if stage.connect is None:
            return None
        assert self.attended is not None
        attention = self.attended.on_grid(image, position, *keep.shape)
        mask = stage.connect(attention, keep.detach())
        self.connections = Connections.among(mask)
        return mask


class MaskedFlow(Flow):
    """`x (batch, length, dim)`, in which nothing leaves; a policy `(batch, length)` says which tokens count.

    No policy yet means that all do: then blocks run as timm wrote them.
    """

    def __init__(self, x: Tensor, prefix: int, patches: int, eps: float) -> None:
        self.x, self.prefix, self.patches, self.eps = x, prefix, patches, eps
        self.policy: Tensor | None = None

    @property
    def position(self) -> Tensor:
        """Patch of every token of the sequence, -1 for class and package tokens: `(length,)`."""
        place = torch.arange(self.x.shape[1], device=self.x.device) - self.prefix
        return place.masked_fill(place >= self.patches, -1).clamp(min=-1)

    def seen(self) -> Tensor | None:
        """Factor on the exponentials: 1 for oneself, the policy for others, times the connections."""
        if self.policy is None and self.connections is None:
            return None
        batch, length, _ = self.x.shape
        factor = self.x.new_ones(1, 1, length, length)
        if self.policy is not None:
            own = torch.eye(length, dtype=self.policy.dtype, device=self.x.device)
            factor = self.policy[:, None, None, :] * (1 - own) + own
        if self.connections is not None:
            images = torch.arange(batch, device=self.x.device)
            factor = factor * self.connections.factor(images, self.position.expand(batch, -1))
        return factor

    def whole(self, block: TransformerBlock) -> None:
        if self.policy is None and self.connections is None:
            self.x = block(self.x)
        else:
            self.attention(block)
            self.mlp(block)

    def attention(self, block: TransformerBlock) -> None:
        out, group = attend(block.attn, block.norm1(self.x), self.seen(), self.eps)
        self.attended = Attended(out.flatten(0, 1), [group])
        self.x = add_attention(block, self.x, out)

    def mlp(self, block: TransformerBlock) -> None:
        self.x = add_mlp(block, self.x)

    def stage(self, stage: TokenStage, generator: torch.Generator | None) -> StageTrace:
        batch, patches, prefix = len(self.x), self.patches, self.prefix
        alive = self.x.new_ones(self.x.shape[:2]) if self.policy is None else self.policy
        tokens, seen = self.x[:, prefix:], alive[:, prefix:]
        length = tokens.shape[1]
        candidates = Candidates(
            values=tokens.flatten(0, 1),
            weight=seen.flatten(),
            image=torch.arange(batch, device=self.x.device).repeat_interleave(length),
            position=self.position[prefix:].repeat(batch),
            images=batch,
            patches=patches,
            generator=generator,
            attention=self._view(stage),
        )
        scores = stage.selector(candidates).view(batch, length)[:, :patches]
        before = seen[:, :patches]
        keep = stage.decide(scores, before, generator)
        owner = torch.arange(batch, device=self.x.device).repeat_interleave(self.x.shape[1])
        trace = StageTrace(scores, keep, self.connect(stage, keep, owner, self.position.repeat(batch)))
        dropped = before - keep
        if not stage.training and not dropped.any():
            return trace

        self.policy = torch.cat((alive[:, :prefix], keep, seen[:, patches:]), 1)
        if stage.package:
            image = torch.arange(batch, device=self.x.device).repeat_interleave(patches)
            weight = (dropped * package_weight(scores)).flatten()
            packages = segment_mean(tokens[:, :patches].flatten(0, 1), weight, image, batch)
            packaged = dropped.detach().amax(1, keepdim=True) > 0
            self.x = torch.cat((self.x, packages[:, None]), 1)
            self.policy = torch.cat((self.policy, packaged.to(self.policy)), 1)
        return trace

    def _view(self, stage: TokenStage) -> AttentionView | None:
        if not stage.needs_attention:
            return None
        assert self.attended is not None
        batch, length, _ = self.x.shape
        rows = torch.arange(batch * length, device=self.x.device).view(batch, length)
        return self.attended.view(rows[:, self.prefix :].flatten())


class GatheredFlow(Flow):
    """Rows of the tokens that are left."""

    def __init__(self, x: Tensor, prefix: int, patches: int, eps: float) -> None:
        self.rows = Rows.of(x, prefix)
        self.images, self.patches, self.eps = len(x), patches, eps

    def whole(self, block: TransformerBlock) -> None:
        if self.rows.uniform and self.connections is None:
            self.rows = self.rows.with_values(block(self.rows.dense()))
        else:
            self.attention(block)
            self.mlp(block)

    def attention(self, block: TransformerBlock) -> None:
        x = self.rows.values
        self.attended = attend_rows(block.attn, block.norm1(x), self.rows, self.connections, self.eps)
        self.rows = self.rows.with_values(add_attention(block, x, self.attended.out))

    def mlp(self, block: TransformerBlock) -> None:
        self.rows = self.rows.with_values(add_mlp(block, self.rows.values))

    def stage(self, stage: TokenStage, generator: torch.Generator | None) -> StageTrace:
        rows, batch, patches = self.rows, self.images, self.patches
        free = (rows.kind != PREFIX).nonzero().squeeze(-1)
        image, position, values = rows.image[free], rows.position[free], rows.values[free]
        view = None
        if stage.needs_attention:
            assert self.attended is not None
            view = self.attended.view(free)
        ones = torch.ones_like(values[:, 0])
        candidates = Candidates(values, ones, image, position, batch, patches, generator, view)
        scored = stage.selector(candidates)

        # decisions are made on the full grid of patches, exactly as in masked flow
        patch = rows.kind[free] == IMAGE
        where = (image[patch], position[patch])
        scores = scored.new_zeros(batch, patches).index_put(where, scored[patch])
        alive = scored.new_zeros(batch, patches).index_put(where, scored.new_ones(len(where[0])))
        keep = stage.decide(scores, alive, generator)
        trace = StageTrace(scores, keep, self.connect(stage, keep, rows.image, rows.position))
        dropped = alive - keep
        if not dropped.any():
            return trace

        stays = torch.ones_like(rows.image, dtype=torch.bool)
        stays[free[patch]] = keep[where] > 0
        if stage.package:
            weight = (dropped * package_weight(scores))[where]
            packages = segment_mean(values[patch], weight, where[0], batch)
            packaged = dropped.amax(1) > 0
        else:
            packages = values.new_zeros(batch, values.shape[1])
            packaged = torch.zeros(batch, dtype=torch.bool, device=values.device)
        self.rows = rows.kept(stays, packages, packaged)
        return trace


def package_weight(scores: Tensor) -> Tensor:
    """Weights of patches in their package: keep probabilities, never so small that their sum could vanish."""
    return scores.clamp(min=1.0e-6)
