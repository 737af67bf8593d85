"""Parts of a split of images: some held out, the rest to train on."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.lab.image_splits import ImageSplit


class Part(ImageSplit):
    """The images of `whole` at `places (images,)`, in that order."""

    def __init__(self, whole: ImageSplit, places: Tensor) -> None:
        super().__init__(whole.facts, whole.labels[places])
        self._whole, self._places = whole, places

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._whole[int(self._places[index])]

    def _read(
        self, order: Tensor, batch_size: int, seeds: torch.Generator, workers: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        return self._whole.in_order(self._places[order], batch_size, workers=workers)


def hold_out(split: ImageSplit, count: int, generator: torch.Generator) -> tuple[Part, Part]:
    """`split` in two, drawn by chance: without `count` images, and those.

    Raises WrongUse if either is empty.
    """
    if not 0 < count < len(split):
        raise WrongUse(f"{len(split)} images: hold out 1 to {len(split) - 1} of them, not {count}")
    order = torch.randperm(len(split), generator=generator)
    return Part(split, order[count:]), Part(split, order[:count])
