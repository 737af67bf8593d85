"""From a score per patch to a rectangle of pixels: threshold, largest connected component, box, crop.

None of these steps passes a gradient on: a comparison, a labelling and whole-numbered edges are piecewise
constant in the scores.
"""

from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from lib.errors import WrongUse

EIGHT_NEIGHBOURS = numpy.ones((3, 3), dtype=int)


@dataclass(frozen=True)
class Grid:
    """Patches of `patch` pixels, `stride` apart, on images of `height` x `width` pixels.

    Raises:
        WrongUse: an image smaller than a patch, or a stride outside 1 .. patch.
    """

    height: int
    width: int
    patch: int
    stride: int

    def __post_init__(self) -> None:
        if min(self.height, self.width) < self.patch:
            raise WrongUse(f"images of {self.height}x{self.width} pixels hold no patch of {self.patch}")
        if not 1 <= self.stride <= self.patch:
            raise WrongUse(f"stride {self.stride} is outside 1 to {self.patch}, the side of a patch")

    @property
    def rows(self) -> int:
        return (self.height - self.patch) // self.stride + 1

    @property
    def columns(self) -> int:
        return (self.width - self.patch) // self.stride + 1

    @property
    def patches(self) -> int:
        return self.rows * self.columns


def threshold(scores: Tensor, eta: float) -> Tensor:
    """Mask `(batch, patches)` of the scores above `eta` times their image's mean; empty where all are equal.

    Scores are first divided by the image's largest, so that neither their scale nor its rounding matters.
    """
    relative = scores / scores.amax(1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
    flat = relative.amin(1, keepdim=True) == relative.amax(1, keepdim=True)
    return (relative > eta * relative.mean(1, keepdim=True)) & ~flat


def largest_component(mask: NDArray[numpy.bool_]) -> NDArray[numpy.bool_]:
    """The largest set of patches in `mask (rows, columns)` that touch, also by their corners.

    Of equally large ones the first in reading order; of an empty mask nothing.
    """
    labels, count = ndimage.label(mask, structure=EIGHT_NEIGHBOURS)
    if count == 0:
        return numpy.zeros_like(mask)
    sizes = numpy.bincount(labels.ravel())[1:]
    found: NDArray[numpy.bool_] = labels == 1 + int(sizes.argmax())
    return found


def bounding_box(component: NDArray[numpy.bool_], grid: Grid) -> tuple[int, int, int, int]:
    """Pixel edges (top, left, bottom, right), the last two exclusive; the whole image if nothing is there.

    Patches r0 to r1 span the pixels from r0 S to r1 S + P, at most to the image's edge.
    """
    if not component.any():
        return 0, 0, grid.height, grid.width
    rows, columns = numpy.nonzero(component.any(1))[0], numpy.nonzero(component.any(0))[0]
    bottom = min(int(rows[-1]) * grid.stride + grid.patch, grid.height)
    right = min(int(columns[-1]) * grid.stride + grid.patch, grid.width)
    return int(rows[0]) * grid.stride, int(columns[0]) * grid.stride, bottom, right


def boxes_of(mask: Tensor, grid: Grid) -> Tensor:
    """Boxes `(batch, 4)` around the largest components of `mask (batch, patches)`."""
    maps = mask.detach().cpu().numpy().reshape(-1, grid.rows, grid.columns)
    return torch.tensor([bounding_box(largest_component(one), grid) for one in maps])


def random_boxes(boxes: Tensor, grid: Grid, generator: torch.Generator | None) -> Tensor:
    """Boxes of the same heights and widths, anywhere in the image with equal chance: the control."""
    height, width = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    free = torch.stack((grid.height - height, grid.width - width), 1) + 1
    corner = (torch.rand(len(boxes), 2, generator=generator) * free).long()
    return torch.cat((corner, corner + torch.stack((height, width), 1)), 1)


def crop(images: Tensor, boxes: Tensor) -> Tensor:
    """`images (batch, channels, height, width)` cut out at `boxes (batch, 4)`, bilinearly at full size.

    The whole image comes out unchanged.
    """
    size = images.shape[-2:]
    parts = [
        F.interpolate(image[None, :, top:bottom, left:right], size, mode="bilinear", align_corners=False)
        for image, (top, left, bottom, right) in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.cat(parts)


def area_share(boxes: Tensor, grid: Grid) -> Tensor:
    """Share of the image's area that each box covers, `(batch,)`."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(1) / (grid.height * grid.width)


def light_share(images: Tensor, boxes: Tensor) -> Tensor:
    """Share of each image's light, counted from its darkest pixel, that falls inside its box, `(batch,)`."""
    light = images - images.amin((1, 2, 3), keepdim=True)
    inside = [
        image[:, top:bottom, left:right].sum()
        for image, (top, left, bottom, right) in zip(light, boxes.tolist(), strict=True)
    ]
    return torch.stack(inside) / light.sum((1, 2, 3))
