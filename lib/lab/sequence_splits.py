"""Labelled sequences of frames, padded to one length, as the experiments see them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lib.catalogue import DataSet, Tier

NO_LABEL = -100
"""Label of frames that count neither in a loss nor in an accuracy: padding, and phones without a class."""


@dataclass(frozen=True)
class SequenceSplit(Dataset[tuple[Tensor, int, Tensor]]):
    """One split; item `i` is (frames (frame, coefficient), length, label).

    `frames (utterance, frame, coefficient)` are standardised by `mean` and `std` (one per coefficient, over
    the frames of the training split) and zero after each utterance's own length in `lengths (utterance,)`.
    `labels` are class indices: one an utterance, `(utterance,)`, or one a frame, `(utterance, frame)`, with
    `NO_LABEL` where there is none.
    """

    name: str
    tier: Tier
    split: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str
    frames: Tensor
    lengths: Tensor
    labels: Tensor

    @classmethod
    def standardised(
        cls,
        entry: DataSet,
        split: str,
        classes: tuple[str, ...],
        sha256: str,
        utterances: Sequence[np.ndarray],
        statistics: tuple[np.ndarray, np.ndarray],
        labels: Tensor,
        longest: int | None = None,
    ) -> Self:
        """The split of `utterances` (frame, coefficient), by the mean and deviation of `statistics`.

        They are padded to `longest` frames, without it to those of the longest."""
        lengths = torch.tensor([len(utterance) for utterance in utterances])
        mean, std = statistics
        return cls(
            name=entry.name,
            tier=entry.tier,
            split=split,
            classes=classes,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            sha256=sha256,
            frames=padded(utterances, mean, std, int(lengths.max()) if longest is None else longest),
            lengths=lengths,
            labels=labels,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, Tensor]:
        return self.frames[index], int(self.lengths[index]), self.labels[index]

    def part(self, chosen: Tensor) -> Self:
        """The utterances at the places `chosen (utterance,)`, in that order, under the same facts."""
        return replace(
            self, frames=self.frames[chosen], lengths=self.lengths[chosen], labels=self.labels[chosen]
        )

    def batches(
        self, batch_size: int, *, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Goes once through the split: (frames, lengths, labels), shuffled if given a generator."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        order = (
            torch.arange(len(self)) if generator is None else torch.randperm(len(self), generator=generator)
        )
        return (
            (self.frames[chosen], self.lengths[chosen], self.labels[chosen])
            for chosen in order.split(batch_size)
        )


def frame_statistics(utterances: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (coefficient,) over all frames of utterances (frame, coefficient)."""
    every_frame = np.concatenate(utterances).astype(np.float64)
    return every_frame.mean(axis=0), every_frame.std(axis=0)


def padded(utterances: Sequence[np.ndarray], mean: np.ndarray, std: np.ndarray, longest: int) -> Tensor:
    """Standardised utterances (utterance, longest, coefficient), zero after the end of each."""
    frames = torch.zeros(len(utterances), longest, len(mean))
    for index, utterance in enumerate(utterances):
        frames[index, : len(utterance)] = torch.from_numpy((utterance - mean) / std).float()
    return frames
