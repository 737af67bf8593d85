"""The Free Spoken Digit Dataset: six speakers say the digits at 8 kHz; recordings 0 to 4 are for testing."""

import hashlib
import re

import torch

from lib.catalogue import DataSet
from lib.errors import ReproError, WrongUse
from lib.lab.sequence_splits import SequenceSplit, frame_statistics
from lib.lab.speech import Cepstra, read_recording
from lib.project import user_folder

CEPSTRA = Cepstra(sample_rate=8000, window_ms=32.0, hop_ms=16.0)
TEST_INDICES = 5
NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)\.wav")


def load_spoken_digits(entry: DataSet, split: str, data_root: str) -> SequenceSplit:
    """The split "train" or "test" of `data_root`/recordings, as cepstra; the label is the digit.

    `sha256` covers names and contents of both splits, since both decide what a frame looks like.

    Raises:
        WrongUse: no data_root, another layout, or an unknown split.
        ReproError: recordings that are damaged, have names of another form, or leave a split empty.
    """
    if split not in ("train", "test"):
        raise WrongUse(f"{entry.name} has no split {split!r}; known: train, test")
    if not data_root:
        raise WrongUse(f"{entry.name} is not part of the repository: pass data_root ({entry.layout})")
    folder = user_folder(data_root) / "recordings"
    if not folder.is_dir():
        raise WrongUse(f"{entry.name}: expected {folder}, which does not exist")
    digest = hashlib.sha256()
    features: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for path in sorted(folder.glob("*.wav")):
        name = NAME.fullmatch(path.name)
        if name is None:
            raise ReproError(f"{path}: expected a name such as 7_jackson_32.wav")
        part = "test" if int(name["index"]) < TEST_INDICES else "train"
        features[part].append((path.name, name["digit"]))
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for part, recordings in features.items():
        if not recordings:
            raise ReproError(f"{folder} holds no recording of the {part} split; fetch the data set again")
    cepstra = {
        part: [CEPSTRA.of(read_recording(folder / name, CEPSTRA.sample_rate)) for name, _ in features[part]]
        for part in {"train", split}
    }
    return SequenceSplit.standardised(
        entry,
        split,
        entry.classes,
        digest.hexdigest(),
        cepstra[split],
        frame_statistics(cepstra["train"]),
        torch.tensor([entry.classes.index(digit) for _, digit in features[split]]),
    )
