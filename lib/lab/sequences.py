"""Loads labelled sequences of frames by name: JapaneseVowels, the spoken digits, TIMIT.

    train = load_sequences("japanese_vowels", "train")
    for frames, lengths, labels in train.batches(32, generator=generator): ...

`lib.catalogue` holds the names and the layouts. Running text is loaded by `lib.lab.words`.
"""

from collections.abc import Callable

from lib.catalogue import DataSet, find
from lib.lab.japanese_vowels import load_japanese_vowels
from lib.lab.sequence_splits import SequenceSplit
from lib.lab.spoken_digits import load_spoken_digits
from lib.lab.timit import load_timit

__all__ = ["SequenceSplit", "load_sequences"]


def load_sequences(name: str, split: str, data_root: str = "") -> SequenceSplit:
    """The split `split` ("train", "test"; of TIMIT also "val") of `name`, from `data_root` unless embedded.

    Raises WrongUse for a wrong name, split or folder, ReproError for files that are missing, changed or
    unreadable.
    """
    entry = find(name, "sequences")
    readers: dict[str, Callable[[DataSet, str, str], SequenceSplit]] = {
        "japanese_vowels": load_japanese_vowels,
        "spoken_digits": load_spoken_digits,
        "timit": load_timit,
    }
    return readers[name](entry, split, data_root)
