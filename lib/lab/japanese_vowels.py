"""JapaneseVowels: short utterances of nine speakers as cepstra, read from the UEA archive's text files."""

from pathlib import Path

import numpy as np
import torch

from lib.catalogue import DataSet
from lib.errors import ReproError, WrongUse
from lib.lab.sequence_splits import SequenceSplit, frame_statistics
from lib.project import user_folder
from lib.samples import file_sha256, sample

COEFFICIENTS = 12
UTTERANCES = {"train": 270, "test": 370}
LONGEST = 29


def load_japanese_vowels(entry: DataSet, split: str, data_root: str = "") -> SequenceSplit:
    """The split "train" or "test", from the pinned package or from `data_root`.

    Under `data_root` the files are called JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts, as in the UEA
    archive. Raises WrongUse for a wrong name, split or folder, ReproError for a file that is missing, changed
    or unreadable.
    """
    if split not in UTTERANCES:
        raise WrongUse(f"{entry.name} has no split {split!r}; known: {', '.join(UTTERANCES)}")
    paths = {part: _locate(part, data_root) for part in UTTERANCES}
    train = read_ts(paths["train"], UTTERANCES["train"])
    statistics = frame_statistics([utterance for utterance, _ in train])
    chosen = train if split == "train" else read_ts(paths[split], UTTERANCES[split])
    if strangers := {label for _, label in chosen} - set(entry.classes):
        raise ReproError(f"{paths[split]}: unknown label {min(strangers)!r}")
    return SequenceSplit.standardised(
        entry,
        split,
        entry.classes,
        file_sha256(paths[split]),
        [utterance for utterance, _ in chosen],
        statistics,
        torch.tensor([entry.classes.index(label) for _, label in chosen]),
        LONGEST,
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
