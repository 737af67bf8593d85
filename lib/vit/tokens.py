"""Tokens of a batch whose images may keep different numbers of them, and attention over either form.

Two forms hold the same tokens. *Masked*: `(batch, length, dim)` with a policy that says which tokens still
count; nothing leaves, gradients flow through the policy. *Gathered*: rows of the tokens that are left, image
after image; the work shrinks with them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from timm.layers import Attention

Layer = Callable[[Tensor], Tensor]

PREFIX, IMAGE, PACKAGE = 0, 1, 2
"""Kinds of a token: never pruned (class token), a patch of the image, a package of dropped patches."""


class TransformerBlock(Protocol):
    """What is used of a timm block: its parts, one by one, and the whole."""

    attn: "Attention"
    norm1: Layer
    norm2: Layer
    mlp: Layer
    ls1: Layer
    ls2: Layer
    drop_path1: Layer
    drop_path2: Layer

    def __call__(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Rows:
    """Gathered tokens: `values (rows, dim)` sorted by `image (rows,)`, `kind (rows,)`, `position (rows,)`.

    `lengths` holds the number of rows of every image; `position` is the patch, -1 for other tokens.
    """

    values: Tensor
    image: Tensor
    kind: Tensor
    position: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, x: Tensor, prefix: int) -> "Rows":
        """Rows of `x (batch, prefix + patches, dim)`, all of them."""
        batch, length, dim = x.shape
        kind = torch.full((length,), IMAGE, device=x.device)
        kind[:prefix] = PREFIX
        position = (torch.arange(length, device=x.device) - prefix).clamp(min=-1)
        return cls(
            values=x.reshape(batch * length, dim),
            image=torch.arange(batch, device=x.device).repeat_interleave(length),
            kind=kind.repeat(batch),
            position=position.repeat(batch),
            lengths=(length,) * batch,
        )

    @property
    def uniform(self) -> bool:
        """Whether all images hold the same number of tokens, so that they form one dense batch."""
        return len(set(self.lengths)) == 1

    def dense(self) -> Tensor:
        """`(batch, length, dim)`; only for uniform rows."""
        return self.values.view(len(self.lengths), self.lengths[0], -1)

    def with_values(self, values: Tensor) -> "Rows":
        return Rows(values.reshape(len(self.image), -1), self.image, self.kind, self.position, self.lengths)

    def kept(self, keep: Tensor, packages: Tensor, packaged: Tensor) -> "Rows":
        """The rows where `keep (rows,)`, and behind each image's rows its package where `packaged (batch,)`.

        `packages` is `(batch, dim)`.
        """
        owners = packaged.nonzero().squeeze(-1)
        image = torch.cat((self.image[keep], owners))
        order = image.argsort(stable=True)
        new = torch.full_like(owners, PACKAGE)
        return Rows(
            values=torch.cat((self.values[keep], packages[owners]))[order],
            image=image[order],
            kind=torch.cat((self.kind[keep], new))[order],
            position=torch.cat((self.position[keep], torch.full_like(owners, -1)))[order],
            lengths=tuple(torch.bincount(image, minlength=len(self.lengths)).tolist()),
        )

    @cached_property
    def groups(self) -> list[tuple[int, Tensor]]:
        """`(length, indices (images, length))` for each number of tokens that occurs: batches of equals."""
        lengths = torch.tensor(self.lengths)
        starts = lengths.cumsum(0) - lengths
        result = []
        for length in sorted(set(self.lengths)):
            first = starts[lengths == length]
            result.append((length, (first[:, None] + torch.arange(length)).to(self.image.device)))
        return result


def segment_mean(values: Tensor, weight: Tensor, image: Tensor, images: int) -> Tensor:
    """`(images, ...)`: each image's mean of its rows of `values (rows, ...)`, weighted by `weight (rows,)`.

    An image whose weights are all zero gets zeros.
    """
    weight = weight.view(-1, *([1] * (values.dim() - 1)))
    total = values.new_zeros(images, *values.shape[1:]).index_add(0, image, values * weight)
    mass = values.new_zeros(images, *weight.shape[1:]).index_add(0, image, weight)
    # a mass of 1 where there is none: dividing by almost nothing would make gradients overflow
    return total / torch.where(mass > 0, mass, torch.ones_like(mass))


def outside_box(package: Tensor, values: Tensor, weight: Tensor) -> float:
    """How far `package (batch, dim)` lies outside the bounding box of the tokens it was made of; 0 if inside.

    Those are the rows of `values (batch, tokens, dim)` with a positive `weight (batch, tokens)`. A convex
    combination cannot leave the box.
    """
    absent = (weight <= 0)[..., None]
    highest = values.masked_fill(absent, -torch.inf).amax(1)
    lowest = values.masked_fill(absent, torch.inf).amin(1)
    return float(torch.maximum(package - highest, lowest - package).clamp(min=0).max())


def masked_attention(attention: "Attention", x: Tensor, policy: Tensor, eps: float) -> Tensor:
    """Attention output `(batch, length, dim)` of `x`; tokens with `policy (batch, length)` 0 are not seen.

    As in SPViT and DynamicViT, exp(S - max S) is multiplied by G, where G_ij is 1 for i = j and
    policy_j elsewhere, and normalised with `eps` so that no row is empty. With eps = 0 the tokens that count
    come out as if the others had been removed. Computed in float32.
    """
    batch, length, _ = x.shape
    q, k, v = (
        attention.qkv(x).reshape(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    )
    q, k = attention.q_norm(q), attention.k_norm(k)
    scores = (q * attention.scale @ k.transpose(-2, -1)).float()
    own = torch.eye(length, dtype=scores.dtype, device=x.device)
    seen = policy[:, None, None, :] * (1 - own) + own
    weights = (scores - scores.amax(-1, keepdim=True)).exp() * seen
    weights = (weights + eps / length) / (weights.sum(-1, keepdim=True) + eps)
    out = attention.attn_drop(weights.to(v.dtype)) @ v
    return _project(attention, out.transpose(1, 2).reshape(batch, length, -1))


def ragged_attention(attention: "Attention", x: Tensor, rows: Rows) -> Tensor:
    """Attention output `(rows, dim)` of `x (rows, dim)`: each image attends to its own rows only.

    The projections run once over all rows; the products of queries and keys run once per number of tokens
    that occurs, on images of equal length.
    """
    q, k, v = attention.qkv(x).view(len(x), 3, attention.num_heads, -1).unbind(1)
    q, k = attention.q_norm(q), attention.k_norm(k)
    out = torch.empty_like(v)
    for _, index in rows.groups:
        group = F.scaled_dot_product_attention(
            q[index].transpose(1, 2), k[index].transpose(1, 2), v[index].transpose(1, 2)
        )
        out[index] = group.transpose(1, 2)
    return _project(attention, out.flatten(1))


def _project(attention: "Attention", x: Tensor) -> Tensor:
    return attention.proj_drop(attention.proj(attention.norm(x)))


def masked_block(block: TransformerBlock, x: Tensor, policy: Tensor, eps: float) -> Tensor:
    """A timm transformer block on `x (batch, length, dim)` under `policy (batch, length)`."""
    x = x + block.drop_path1(block.ls1(masked_attention(block.attn, block.norm1(x), policy, eps)))
    return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def gathered_block(block: TransformerBlock, rows: Rows) -> Rows:
    """A timm transformer block on gathered tokens: timm's own forward where images form one dense batch."""
    if rows.uniform:
        return rows.with_values(block(rows.dense()))
    x = rows.values
    x = x + block.drop_path1(block.ls1(ragged_attention(block.attn, block.norm1(x), rows)))
    return rows.with_values(x + block.drop_path2(block.ls2(block.mlp(block.norm2(x)))))
