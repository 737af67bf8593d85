"""What an image costs by AS-ViT's own formula, differentiable in the tokens that are kept.

    F(x) = F_patch + sum_l (4 D^2 n_l + 2 D n_l^2 + 2 r D^2 n_l)        (multiply-accumulates)

n_l tokens in block l, class token included; D width; r MLP ratio; F_patch the patch embedding. The classifier
is left out, as in the released code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from hw_models import trace
from lib.errors import WrongUse
from lib.vit.host import TokenHost

Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class Budget:
    """The formula for one network with thresholds in front of `blocks`.

    `dim` D, `mlp_ratio` r, `depth` number of blocks, `tokens` at the start and `prefix` those of them that
    never leave, `embedding` F_patch. `reference_tokens` is how many the dense cost B is counted for:
    `tokens`, or, in the released code, one less (it forgets the class token in B but not in F).
    """

    dim: int
    mlp_ratio: float
    depth: int
    tokens: int
    prefix: int
    embedding: int
    blocks: tuple[int, ...]
    reference_tokens: int

    @classmethod
    def of(cls, host: TokenHost, *, as_released: bool = False) -> "Budget":
        """That of `host`; `as_released` counts B without the class token."""
        vit = host.backbone
        tokens = host.patches + vit.num_prefix_tokens
        first = cast(nn.Linear, vit.blocks[0].get_submodule("mlp.fc1"))
        rows, columns = (
            side * patch
            for side, patch in zip(vit.patch_embed.grid_size, vit.patch_embed.patch_size, strict=True)
        )
        channels = next(m.in_channels for m in vit.patch_embed.modules() if isinstance(m, nn.Conv2d))
        return cls(
            dim=vit.embed_dim,
            mlp_ratio=first.out_features / vit.embed_dim,
            depth=len(host.blocks),
            tokens=tokens,
            prefix=vit.num_prefix_tokens,
            embedding=trace(vit.patch_embed, torch.zeros(1, channels, rows, columns)).macs,
            blocks=tuple(int(block) for block in host.stages),
            reference_tokens=host.patches if as_released else tokens,
        )

    def block(self, tokens: Number) -> Number:
        """Multiply-accumulates of a block on `tokens` tokens."""
        d, r = self.dim, self.mlp_ratio
        return (4 + 2 * r) * d**2 * tokens + 2 * d * tokens * tokens

    @property
    def dense(self) -> float:
        """B, multiply-accumulates of the dense network."""
        return self.embedding + self.depth * self.block(float(self.reference_tokens))

    @property
    def lowest(self) -> float:
        """The share of B that is left when the first threshold drops every patch; no budget is below it."""
        first = min(self.blocks, default=self.depth)
        rest = (self.depth - first) * self.block(float(self.prefix))
        return (self.embedding + first * self.block(float(self.tokens)) + rest) / self.dense

    def check(self, t: float) -> None:
        """Raises WrongUse for a budget that no thresholds can meet, or that asks for nothing."""
        if not self.lowest <= t <= 1:
            raise WrongUse(
                f"a budget of {t:g} of the dense cost cannot be met: with thresholds in front of blocks "
                f"{list(self.blocks)} the lowest is {self.lowest:.3f}, and the highest 1"
            )

    def macs(self, keeps: Sequence[Tensor], in_use: Sequence[int] | None = None) -> Tensor:
        """F of every image, `(images,)`, from the decisions `(images, patches)` of its stages, in order.

        `in_use` are the numbers, from 0, of the stages that decided; all of them by default.
        """
        return self.of_counts(torch.stack([keep.sum(1) for keep in keeps], 1), in_use)

    def of_counts(self, counts: Tensor, in_use: Sequence[int] | None = None) -> Tensor:
        """F of every image, `(images,)`, from the numbers of patches kept, `(images, stages)`."""
        starts = [self.blocks[k] for k in (range(counts.shape[1]) if in_use is None else in_use)]
        total = self.embedding + min(starts) * self.block(float(self.tokens)) + counts.new_zeros(len(counts))
        for column, (start, end) in enumerate(zip(starts, [*starts[1:], self.depth], strict=True)):
            total = total + (end - start) * self.block(self.prefix + counts[:, column])
        return total

    def shares(self, t: float) -> tuple[float, ...]:
        """Shares rho, rho^2, ... of the patches after the stages in order, with which an image costs t B.

        Raises WrongUse for a budget that cannot be met.
        """
        self.check(t)
        stages = torch.arange(1, len(self.blocks) + 1, dtype=torch.float64)
        patches = self.tokens - self.prefix
        low, high = 0.0, 1.0
        for _ in range(50):
            rho = (low + high) / 2
            cost = float(self.of_counts((patches * rho**stages)[None])) / self.dense
            low, high = (low, rho) if cost > t else (rho, high)
        return tuple((low**stages).tolist())
