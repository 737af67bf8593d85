"""Tokens of a batch whose images may keep different numbers of them.

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


def add_attention(block: TransformerBlock, x: Tensor, attended: Tensor) -> Tensor:
    """`x` after the first half of `block`, whose attention has given `attended`, of the same shape."""
    return x + block.drop_path1(block.ls1(attended))


def add_mlp(block: TransformerBlock, x: Tensor) -> Tensor:
    """`x` after the second half of `block`."""
    return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


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
        image = self.image[keep]
        count = (image[None] == torch.arange(len(packaged), device=image.device)[:, None]).sum(1)
        earlier = packaged.long().cumsum(0) - packaged.long()
        # each row moves behind the packages of earlier images, each package behind the rows of its own image
        place = torch.cat(
            (
                torch.arange(len(image), device=image.device) + earlier[image],
                (count.cumsum(0) + earlier)[owners],
            )
        )

        def merged(rows: Tensor, new: Tensor) -> Tensor:
            together = torch.cat((rows[keep], new))
            return torch.empty_like(together).index_copy(0, place, together)

        nowhere, package = torch.full_like(owners, -1), torch.full_like(owners, PACKAGE)
        return Rows(
            values=merged(self.values, packages[owners]),
            image=merged(self.image, owners),
            kind=merged(self.kind, package),
            position=merged(self.position, nowhere),
            lengths=tuple((count + packaged).tolist()),
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
    total = _segment_sum(values * weight, image, images)
    mass = _segment_sum(weight, image, images)
    # a mass of 1 where there is none: dividing by almost nothing would make gradients overflow
    return total / torch.where(mass > 0, mass, torch.ones_like(mass))


def _segment_sum(values: Tensor, image: Tensor, images: int) -> Tensor:
    """Each image's sum of its rows. Not `index_add`: that loses repeated rows on its way to ONNX."""
    owner = image.view(-1, *([1] * (values.dim() - 1))).expand_as(values)
    return values.new_zeros(images, *values.shape[1:]).scatter_add(0, owner, values)


def outside_box(package: Tensor, values: Tensor, weight: Tensor) -> float:
    """How far `package (batch, dim)` lies outside the bounding box of the tokens it was made of; 0 if inside.

    Those are the rows of `values (batch, tokens, dim)` with a positive `weight (batch, tokens)`. A convex
    combination cannot leave the box.
    """
    absent = (weight <= 0)[..., None]
    highest = values.masked_fill(absent, -torch.inf).amax(1)
    lowest = values.masked_fill(absent, torch.inf).amin(1)
    return float(torch.maximum(package - highest, lowest - package).clamp(min=0).max())
