"""Attention of a timm block, opened up: who may see whom, and what the stages read off it.

timm's own module keeps its weights and its arithmetic. What is added are a factor on the exponentials
(masks), images of different lengths in one batch, and a look at the attention itself: the class token's row,
the size of every head's output, the mean over heads. A module may bring another arithmetic along as its
`core`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.vit.tokens import Rows

if TYPE_CHECKING:
    from timm.layers import Attention


class Core(Protocol):
    """The middle of attention: `q`, `k`, `v (batch, heads, length, head_dim)` to context and weights.

    `seen (batch, 1, length, length)`, or None for all ones, multiplies exp(scores); `eps` keeps rows from
    being empty, as in `exact_weights`. Returns context `(batch, heads, length, head_dim)` and weights
    `(batch, heads, length, length)`. An attention module with an attribute `core` is computed by it.
    """

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class AttentionView:
    """What attention tells of each candidate: `class_attention` and `context_norm`, `(rows, heads)` each.

    The first is the softmax attention that the class token pays to the token; the second the L2 norm of the
    token's output of a head, A V, before the output projection.
    """

    class_attention: Tensor
    context_norm: Tensor


@dataclass(frozen=True)
class Group:
    """Attention of images of equal length: `index (images, length)` of their rows, and what was computed.

    `context (images, heads, length, head_dim)`; `weights (images, heads, length, length)`, or None where the
    fused kernel kept them to itself: then queries and keys give any part of them again.
    """

    index: Tensor
    context: Tensor
    weights: Tensor | None
    q: Tensor
    k: Tensor
    scale: float

    def class_attention(self) -> Tensor:
        """`(images, heads, length)`: the class token's row."""
        if self.weights is not None:
            return self.weights[:, :, 0]
        return (self.q[:, :, :1] * self.scale @ self.k.transpose(-2, -1)).softmax(-1)[:, :, 0]

    def mean(self) -> Tensor:
        """`(images, length, length)`: the mean over heads."""
        weights = self.weights
        if weights is None:
            weights = (self.q * self.scale @ self.k.transpose(-2, -1)).softmax(-1)
        return weights.mean(1)


@dataclass(frozen=True)
class Attended:
    """Attention of a whole batch, `out (rows, dim)`, group by group of equal length."""

    out: Tensor
    groups: Sequence[Group]

    def view(self, free: Tensor) -> AttentionView:
        """What it tells of the rows `free`."""
        heads = self.groups[0].context.shape[1]
        row, norm = (self.out.new_empty(len(self.out), heads) for _ in range(2))
        for group in self.groups:
            row[group.index] = group.class_attention().transpose(1, 2)
            norm[group.index] = group.context.norm(dim=-1).transpose(1, 2)
        return AttentionView(row[free], norm[free])

    def on_grid(self, image: Tensor, position: Tensor, images: int, patches: int) -> Tensor:
        """Mean attention among patches, `(images, patches, patches)`; 0 where one of the two is gone.

        `image` and `position`, `(rows,)`, place the rows; position -1 is no patch.
        """
        place = _place(position, patches)
        grid = self.out.new_zeros(images, patches + 1, patches + 1)
        for group in self.groups:
            where = place[group.index]
            owner = image[group.index[:, 0]]
            grid[owner[:, None, None], where[:, :, None], where[:, None, :]] = group.mean().detach()
        return grid[:, :patches, :patches]


@dataclass(frozen=True)
class Connections:
    """Which patches attend to which: `mask (images, patches + 1, patches + 1)`, 1 for yes.

    The last row and column stand for tokens that are not patches: they see and are seen by all.
    """

    mask: Tensor

    @classmethod
    def among(cls, mask: Tensor) -> "Connections":
        """Those of `mask (images, patches, patches)`."""
        return cls(F.pad(mask, (0, 1, 0, 1), value=1.0))

    def factor(self, image: Tensor, position: Tensor) -> Tensor:
        """`(images, 1, length, length)` for rows placed by `image (images,)`, `position (images, length)`."""
        where = _place(position, self.mask.shape[1] - 1)
        return self.mask[image[:, None, None], where[:, :, None], where[:, None, :]][:, None]


def _place(position: Tensor, patches: int) -> Tensor:
    return torch.where(position < 0, torch.full_like(position, patches), position)


def exact_weights(scores: Tensor, seen: Tensor, eps: float) -> Tensor:
    """Softmax of `scores` with every exponential multiplied by `seen`, as in DynamicViT and SPViT.

    A_ij = (exp(S_ij - max_j S_ij) G_ij + eps/L) / (sum_j exp(S_ij - max_j S_ij) G_ij + eps) in float32.
    eps > 0 keeps rows from being empty; with eps = 0 what is seen comes out as if nothing else were there.
    """
    scores = scores.float()
    weights = (scores - scores.amax(-1, keepdim=True)).exp() * seen
    return (weights + eps / scores.shape[-1]) / (weights.sum(-1, keepdim=True) + eps)


def _middle(
    attention: "Attention", index: Tensor, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, eps: float
) -> Group:
    """Context and weights of one group; the fused kernel, as in timm, where nothing is masked."""
    core: Core | None = getattr(attention, "core", None)
    scale = attention.scale
    if core is not None:
        context, weights = core(q, k, v, seen, eps)
        return Group(index, context, weights, q, k, scale)
    if seen is None:
        drop = attention.attn_drop.p if attention.training else 0.0
        context = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        return Group(index, context, None, q, k, scale)
    weights = exact_weights(q * scale @ k.transpose(-2, -1), seen, eps)
    return Group(index, attention.attn_drop(weights.to(v.dtype)) @ v, weights, q, k, scale)


def _project(attention: "Attention", x: Tensor) -> Tensor:
    return attention.proj_drop(attention.proj(attention.norm(x)))


def attend(
    attention: "Attention", x: Tensor, seen: Tensor | None = None, eps: float = 0.0
) -> tuple[Tensor, Group]:
    """Attention output of `x (batch, length, dim)`, and the look inside.

    `seen (batch, 1, length, length)` multiplies the exponentials (see `exact_weights`); without it the output
    is that of timm's forward, bit for bit.
    """
    batch, length, _ = x.shape
    q, k, v = (
        attention.qkv(x).reshape(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    )
    index = torch.arange(batch * length, device=x.device).view(batch, length)
    group = _middle(attention, index, attention.q_norm(q), attention.k_norm(k), v, seen, eps)
    return _project(attention, group.context.transpose(1, 2).reshape(batch, length, -1)), group


def attend_rows(
    attention: "Attention", x: Tensor, rows: Rows, connections: Connections | None = None, eps: float = 0.0
) -> Attended:
    """Attention of `x (rows, dim)`: each image attends to its own rows only.

    The projections run once over all rows; the products of queries and keys run once per number of tokens
    that occurs, on images of equal length.
    """

    def factor(index: Tensor) -> Tensor | None:
        if connections is None:
            return None
        return connections.factor(rows.image[index[:, 0]], rows.position[index])

    if rows.uniform:
        dense = x.view(len(rows.lengths), rows.lengths[0], -1)
        out, group = attend(attention, dense, factor(rows.groups[0][1]), eps)
        return Attended(out.flatten(0, 1), [group])
    q, k, v = attention.qkv(x).view(len(x), 3, attention.num_heads, -1).unbind(1)
    q, k = attention.q_norm(q), attention.k_norm(k)
    out, groups = torch.empty_like(v), []
    for _, index in rows.groups:
        mine = [part[index].transpose(1, 2) for part in (q, k, v)]
        group = _middle(attention, index, mine[0], mine[1], mine[2], factor(index), eps)
        out[index] = group.context.transpose(1, 2)
        groups.append(group)
    return Attended(_project(attention, out.flatten(1)), groups)
