"""Loads labelled sequences of frames, padded to one length: the speech stand-in of the recurrent papers.

train = load_sequences("japanese_vowels", "train")
for frames, lengths, labels in train.batches(32, generator=generator): ...
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lib.catalogue import Tier, find
from lib.errors import ReproError, WrongUse
from lib.project import user_folder
from lib.samples import file_sha256, sample

COEFFICIENTS = 12
UTTERANCES = {"train": 270, "test": 370}
LONGEST = 29


@dataclass(frozen=True)
class SequenceSplit(Dataset[tuple[Tensor, int, int]]):
    """One split; item `i` is (frames (frame, coefficient), length, class index).

    `frames (utterance, frame, coefficient)` are standardised by `mean` and `std` (one per coefficient, over
    the frames of the training split) and zero after each utterance's own length in `lengths (utterance,)`.
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

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.frames[index], int(self.lengths[index]), int(self.labels[index])

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


def load_sequences(name: str, split: str, data_root: str = "") -> SequenceSplit:
    """The split `split` ("train" or "test") of `name`, from the pinned package or from `data_root`.

    Under `data_root` the files are called JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts, as in the UEA
    archive. Raises WrongUse for a wrong name, split or folder, ReproError for a file that is missing, changed
    or unreadable.
    """
    entry = find(name, "sequences")
    if split not in UTTERANCES:
        raise WrongUse(f"{name} has no split {split!r}; known: {', '.join(UTTERANCES)}")
    paths = {part: _locate(part, data_root) for part in UTTERANCES}
    train = read_ts(paths["train"], UTTERANCES["train"])
    every_frame = np.concatenate([utterance for utterance, _ in train])
    mean, std = every_frame.mean(axis=0), every_frame.std(axis=0)
    chosen = train if split == "train" else read_ts(paths[split], UTTERANCES[split])
    if strangers := {label for _, label in chosen} - set(entry.classes):
        raise ReproError(f"{paths[split]}: unknown label {min(strangers)!r}")
    frames = torch.zeros(len(chosen), LONGEST, COEFFICIENTS)
    for index, (utterance, _) in enumerate(chosen):
        frames[index, : len(utterance)] = torch.from_numpy((utterance - mean) / std).float()
    return SequenceSplit(
        name=name,
        tier=entry.tier,
        split=split,
        classes=entry.classes,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        sha256=file_sha256(paths[split]),
        frames=frames,
        lengths=torch.tensor([len(utterance) for utterance, _ in chosen]),
        labels=torch.tensor([entry.classes.index(label) for _, label in chosen]),
    )


def read_ts(path: Path, expected: int) -> list[tuple[np.ndarray, str]]:
    """(utterance (frame, coefficient), label) of every data line; ReproError names file and line."""
    utterances = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith(("#", "@")):
            continue
        *series, label = line.split(":")
        try:
            utterance = np.array([[float(value) for value in values.split(",")] for values in series]).T
        except ValueError as error:
            raise ReproError(f"{path}, line {number}: not numbers of equal count ({error})") from error
        if utterance.ndim != 2 or utterance.shape[1] != COEFFICIENTS or len(utterance) > LONGEST:
            raise ReproError(
                f"{path}, line {number}: expected {COEFFICIENTS} series of at most {LONGEST} numbers"
            )
        utterances.append((utterance, label.strip()))
    if len(utterances) != expected:
        raise ReproError(f"{path}: expected {expected} utterances, found {len(utterances)}")
    return utterances


def _locate(split: str, data_root: str) -> Path:
    if not data_root:
        return sample(f"japanese_vowels_{split}")
    path = user_folder(data_root) / f"JapaneseVowels_{split.upper()}.ts"
    if not path.is_file():
        raise WrongUse(f"japanese_vowels: expected {path}, which does not exist")
    return path
