"""Overlapping patches, the tokenisation of TransFG and its relatives: as many tokens as the stride allows."""

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lib.lab.torchvision_ops import prepare_torchvision

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class OverlappingPatches(nn.Module):
    """Tokens `(batch, n^2, dim)` by one convolution with `stride` below the patch size.

    n = floor((image - patch) / stride) + 1. Pixels beyond the last patch are not seen.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        *,
        stride: int,
        **_: Any,  # timm passes its patch embedding's other options, which concern tiled patches
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride)
        side = (img_size - patch_size) // stride + 1
        self.img_size = (img_size, img_size)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (side, side)
        self.num_patches = side * side

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


def overlapping_vit(image_size: int, stride: int, **options: Any) -> "VisionTransformer":
    """A timm ViT on overlapping patches; `options` are timm's own (ViT-B/16 without any)."""
    prepare_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    embed = partial(OverlappingPatches, stride=stride)
    return VisionTransformer(img_size=image_size, embed_layer=embed, **options)
