"""Tickets for networks that are no plain ViT (data-level lottery tickets, transfer to other families).

A Swin transformer or a ResNet cannot lose single tokens. Two variants bring a ViT's ticket to them as pixels:
"zero" blanks the other patches and leaves the size of the image; "small dense" packs the kept patches, in
raster order, into a smaller square image. LV-ViT needs square counts too: its label maps are square.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.lab.torchvision_ops import prepare_torchvision

if TYPE_CHECKING:
    from timm.models.swin_transformer import SwinTransformer


Way = Callable[[Tensor, Tensor, int], Tensor]
"""Images, their tickets and the side of a patch to the images that are made of them."""


def is_square(count: int) -> bool:
    """Whether `count` patches fill a square."""
    return math.isqrt(count) ** 2 == count


def side(count: int) -> int:
    """Side of the square that `count` patches fill; WrongUse if they fill none."""
    if count < 1 or not is_square(count):
        raise WrongUse(f"{count} patches fill no square: choose another keep rate, or the zero variant")
    return math.isqrt(count)


def zeroed(images: Tensor, ticket: Tensor, patch: int) -> Tensor:
    """`images (batch, channels, height, width)` with all patches 0 but those of `ticket (batch, k)`.

    On normalised images 0 is the mean colour of the data set. Patches are counted row by row; rows and
    columns of pixels that fill no whole patch belong to none and are blanked too.
    """
    rows, columns = _grid(images, ticket, patch)
    keep = images.new_zeros(len(images), rows * columns).scatter(1, ticket, 1.0).view(-1, 1, rows, columns)
    mask = keep.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    height, width = images.shape[2:]
    return images * nn.functional.pad(mask, (0, width - columns * patch, 0, height - rows * patch))


def small_dense(images: Tensor, ticket: Tensor, patch: int) -> Tensor:
    """The patches of `ticket (batch, k)` in raster order, as images of sqrt(k) patches a side.

    Raises WrongUse if k is no square.
    """
    edge = side(ticket.shape[1])
    rows, columns = _grid(images, ticket, patch)
    batch, channels = images.shape[:2]
    whole = images[..., : rows * patch, : columns * patch]
    tiles = whole.view(batch, channels, rows, patch, columns, patch).permute(0, 2, 4, 1, 3, 5)
    tiles = tiles.reshape(batch, rows * columns, channels, patch, patch)
    kept = tiles[torch.arange(batch, device=images.device)[:, None], ticket.sort(1).values]
    square = kept.view(batch, edge, edge, channels, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return square.reshape(batch, channels, edge * patch, edge * patch)


def ways(count: int) -> dict[str, Way]:
    """The variants for tickets of `count` patches, by name: "zero", and "small dense" if square."""
    found: dict[str, Way] = {"zero": zeroed}
    if is_square(count):
        found["small dense"] = small_dense
    return found


def square_map(values: Tensor) -> Tensor:
    """`(batch, channels, side, side)` of values `(batch, k, channels)` of a ticket's patches (LV-ViT).

    The side follows from k; the released code has that of keep rate 0.85 written in. WrongUse if k is no
    square.
    """
    batch, count, channels = values.shape
    edge = side(count)
    return values.transpose(1, 2).reshape(batch, channels, edge, edge)


def _grid(images: Tensor, ticket: Tensor, patch: int) -> tuple[int, int]:
    """Rows and columns of whole patches; WrongUse if `ticket` does not belong to such images."""
    rows, columns = images.shape[2] // patch, images.shape[3] // patch
    if len(ticket) != len(images) or not 1 <= ticket.shape[1] <= rows * columns:
        raise WrongUse(
            f"a ticket of shape {tuple(ticket.shape)} for {len(images)} images of {rows * columns} patches"
        )
    return rows, columns


def swin(
    image_size: int,
    *,
    patch: int = 4,
    dim: int = 96,
    depths: Sequence[int] = (2, 2, 6, 2),
    heads: Sequence[int] = (3, 6, 12, 24),
    channels: int = 3,
    num_classes: int = 1000,
) -> "SwinTransformer":
    """A Swin transformer for square images of `image_size` pixels; Swin-T by default.

    Its window is as large as the last stage's map, as in Swin-T: 7 for 224 pixels, 6 for 192.

    Raises WrongUse for images that do not reach the last stage in whole tokens.
    """
    last = patch * 2 ** (len(depths) - 1)
    if image_size % last:
        raise WrongUse(
            f"images of {image_size} pixels are no multiple of the last stage's {last}-pixel tokens"
        )
    prepare_torchvision()
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=image_size,
        patch_size=patch,
        in_chans=channels,
        num_classes=num_classes,
        embed_dim=dim,
        depths=tuple(depths),
        num_heads=tuple(heads),
        window_size=image_size // last,
    )
