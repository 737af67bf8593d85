"""Labelled images as the experiments see them: in memory (small sets) or read from disk as they are needed.

Both kinds give the same images in the same order for the same generator, whatever the number of workers.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from lib.catalogue import Tier
from lib.errors import ReproError
from lib.lab.fine_grained import ListedImages
from lib.lab.image_folders import ClassFolders

Augment = Callable[[Tensor, torch.Generator], Tensor]
Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class SplitFacts:
    """What is known of a split besides its images; `sha256` identifies the data it was taken from."""

    name: str
    tier: Tier
    split: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str
    image_size: int


class ImageSplit(Dataset[tuple[Tensor, int]]):
    """One split of a data set: item `i` is (normalised image (channels, height, width), class index)."""

    labels: Tensor

    def __init__(self, facts: SplitFacts, labels: Tensor) -> None:
        self.facts = facts
        self.labels = labels

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def tier(self) -> Tier:
        return self.facts.tier

    @property
    def split(self) -> str:
        return self.facts.split

    @property
    def classes(self) -> tuple[str, ...]:
        return self.facts.classes

    @property
    def mean(self) -> tuple[float, ...]:
        return self.facts.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.facts.std

    @property
    def sha256(self) -> str:
        return self.facts.sha256

    @property
    def image_size(self) -> int:
        return self.facts.image_size

    @property
    def channels(self) -> int:
        return len(self.facts.mean)

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The normalised image and its class index."""

    @abstractmethod
    def _read(
        self, order: Tensor, batch_size: int, seeds: torch.Generator, workers: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of normalised images and labels in the given order."""

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augment: Augment | None = None,
        workers: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Goes once through the split: (images (batch, channels, height, width), labels (batch,)).

        With a generator the order is shuffled by it, without one it is the split's own. The last batch may be
        smaller. `augment` gets a batch and the generator, which it therefore needs. `workers` processes read
        images from disk; images in memory need none.
        """
        order = (
            torch.arange(len(self)) if generator is None else torch.randperm(len(self), generator=generator)
        )
        return self.in_order(order, batch_size, generator=generator, augment=augment, workers=workers)

    def in_order(
        self,
        order: Tensor,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augment: Augment | None = None,
        workers: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the images `order (images,)`, in that order; the rest as for `batches`."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if augment is not None and generator is None:
            raise ValueError("augment draws from a generator: pass one")
        seeds = generator or torch.Generator()
        batches = self._read(order, batch_size, seeds, workers)
        if augment is None:
            return batches
        return ((augment(images, seeds), labels) for images, labels in batches)


class MemorySplit(ImageSplit):
    """Images held as bytes `(image, channels, height, width)`; batches are cut by whole-tensor indexing."""

    def __init__(self, facts: SplitFacts, pixels: Tensor, labels: Tensor) -> None:
        super().__init__(facts, labels)
        self._pixels = pixels
        self._mean = torch.tensor(facts.mean)[:, None, None]
        self._std = torch.tensor(facts.std)[:, None, None]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._prepare(self._pixels[index][None])[0], int(self.labels[index])

    def _read(
        self, order: Tensor, batch_size: int, seeds: torch.Generator, workers: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in order.split(batch_size):
            yield self._prepare(self._pixels[chosen]), self.labels[chosen]

    def _prepare(self, pixels: Tensor) -> Tensor:
        images = pixels.float() / 255
        size = self.image_size
        if images.shape[-1] > size:
            images = F.interpolate(images, size=(size, size), mode="area")
        elif images.shape[-1] < size:
            images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
        return (images - self._mean) / self._std


class FolderSplit(ImageSplit):
    """Images read from class folders, a tar file or a list when asked for; `transform` makes the tensor."""

    def __init__(
        self,
        facts: SplitFacts,
        source: ClassFolders | ListedImages,
        chosen: Tensor,
        labels: Tensor,
        transform: Transform,
    ) -> None:
        super().__init__(facts, labels)
        self._source = source
        self._chosen = chosen
        self.transform = transform

    def with_transform(self, transform: Transform) -> "FolderSplit":
        """The same images through another transform, such as timm's `create_transform` for training."""
        return FolderSplit(self.facts, self._source, self._chosen, self.labels, transform)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self._source.image(int(self._chosen[index]))
        return self.transform(image), int(self.labels[index])

    def _read(
        self, order: Tensor, batch_size: int, seeds: torch.Generator, workers: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        loader: DataLoader[int] = DataLoader(
            order.tolist(),  # type: ignore[arg-type]
            batch_size,
            num_workers=workers,
            generator=seeds,
            collate_fn=self._gather,
        )
        for batch in loader:
            if isinstance(batch, ReproError):
                raise batch
            yield batch

    def _gather(self, indices: list[int]) -> tuple[Tensor, Tensor] | ReproError:
        """The batch, or what went wrong: raised in a worker it would arrive as the text of a traceback."""
        try:
            images, labels = zip(*(self[index] for index in indices), strict=True)
        except ReproError as error:
            return error
        return torch.stack(images), torch.tensor(labels)
