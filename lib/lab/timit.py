"""TIMIT for users who own it: phones of read sentences at 16 kHz, in the layout of the distribution."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.catalogue import DataSet
from lib.errors import ReproError, WrongUse
from lib.lab.sequence_splits import NO_LABEL, SequenceSplit, frame_statistics
from lib.lab.speech import Cepstra, read_recording
from lib.project import user_folder

CEPSTRA = Cepstra(sample_rate=16000)

PHONES = (
    "aa", "ae", "ah", "aw", "ay", "b", "ch", "d", "dh", "dx", "eh", "er", "ey", "f", "g", "hh", "ih",
    "iy", "jh", "k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "sil", "t", "th", "uh", "uw",
    "v", "w", "y", "z",
)  # fmt: skip
"""The 39 classes that phone errors are counted in (Lee and Hon 1989)."""

FOLDED = {
    "ao": "aa", "ax": "ah", "ax-h": "ah", "axr": "er", "hv": "hh", "ix": "ih", "el": "l", "em": "m",
    "en": "n", "nx": "n", "eng": "ng", "zh": "sh", "ux": "uw", "pcl": "sil", "tcl": "sil", "kcl": "sil",
    "bcl": "sil", "dcl": "sil", "gcl": "sil", "h#": "sil", "pau": "sil", "epi": "sil",
}  # fmt: skip
"""Phones of the transcripts that are counted as another one; the glottal stop q is counted as none."""

TEST_SPEAKERS = frozenset({
    "MDAB0", "MWBT0", "FELC0", "MTAS1", "MWEW0", "FPAS0", "MJMP0", "MLNT0", "FPKT0", "MLLL0", "MTLS0",
    "FJLM0", "MBPM0", "MKLT0", "FNLP0", "MCMJ0", "MJDH0", "FMGD0", "MGRT0", "MNJM0", "FDHC0", "MJLN0",
    "MPAM0", "FMLD0",
})  # fmt: skip
"""The core test set: two men and one woman of each of the eight dialect regions."""

VALIDATION_SPEAKERS = frozenset({
    "FAKS0", "FDAC1", "FJEM0", "MGWT0", "MJAR0", "MMDB1", "MMDM2", "MPDF0", "FCMH0", "FKMS0", "MBDG0",
    "MBWM0", "MCSH0", "FADG0", "FDMS0", "FEDW0", "MGJF0", "MGLB0", "MRTK0", "MTAA0", "MTDT0", "MTHC0",
    "MWJG0", "FNMR0", "FREW0", "FSEM0", "MBNS0", "MMJR0", "MDLS0", "MDLF0", "MDVC0", "MERS0", "FMAH0",
    "FDRW0", "MRCS0", "MRJM4", "FCAL1", "MMWH0", "FJSJ0", "MAJC0", "MJSW0", "MREB0", "FGJD0", "FJMG0",
    "MROA0", "MTEB0", "MJFC0", "MRJR0", "FMML0", "MRWS1",
})  # fmt: skip
"""The fifty speakers of folder TEST that recognisers are tuned on (Halberstadt 1998; Kaldi's recipe)."""

SPEAKERS = {"val": VALIDATION_SPEAKERS, "test": TEST_SPEAKERS}


@dataclass(frozen=True)
class Sentence:
    """One recording and its transcript."""

    recording: Path
    transcript: Path

    @cached_property
    def features(self) -> np.ndarray:
        """Cepstra (frame, 39)."""
        return CEPSTRA.of(read_recording(self.recording, CEPSTRA.sample_rate))

    def labels(self) -> np.ndarray:
        """Class of the phone at the middle of each frame (frame,); the last phone lasts to the end.

        Raises ReproError naming the line of a transcript that is not one.
        """
        ends, classes = [], []
        for number, line in enumerate(_text(self.transcript).splitlines(), start=1):
            parts = line.split()
            phone = FOLDED.get(parts[-1], parts[-1]) if parts else ""
            if len(parts) != 3 or not parts[1].isdigit() or phone not in (*PHONES, "q"):
                raise ReproError(
                    f"{self.transcript}, line {number}: expected start, end, phone, not {line!r}"
                )
            ends.append(int(parts[1]))
            classes.append(PHONES.index(phone) if phone != "q" else NO_LABEL)
        if not ends:
            raise ReproError(f"{self.transcript} is empty; fetch it again")
        middles = CEPSTRA.hop * np.arange(len(self.features)) + CEPSTRA.window // 2
        places = np.minimum(np.searchsorted(ends, middles, side="right"), len(ends) - 1)
        return np.array(classes)[places]


def load_timit(entry: DataSet, split: str, data_root: str) -> SequenceSplit:
    """The split "train" (folder TRAIN), "val" or "test" (50 and 24 speakers of TEST), with a label a frame.

    The sentences SA1 and SA2, which everybody reads, are left out as usual. Names may be in small letters.
    `sha256` is that of the sorted listing with the size of every file.

    Raises:
        WrongUse: no data_root, another layout, or an unknown split.
        ReproError: missing speakers or transcripts, and damaged files.
    """
    if split not in ("train", *SPEAKERS):
        raise WrongUse(f"{entry.name} has no split {split!r}; known: train, val, test")
    if not data_root:
        raise WrongUse(f"{entry.name} is not part of the repository: pass data_root ({entry.layout})")
    root = user_folder(data_root)
    training = list(_sentences(entry, root, "train"))
    chosen = training if split == "train" else list(_sentences(entry, root, split))
    statistics = frame_statistics([sentence.features for sentence in training])
    lengths = [len(sentence.features) for sentence in chosen]
    labels: Tensor = torch.full((len(chosen), max(lengths)), NO_LABEL)
    for place, sentence in enumerate(chosen):
        labels[place, : lengths[place]] = torch.from_numpy(sentence.labels())
    features = [sentence.features for sentence in chosen]
    digest = _listing_sha256(root, chosen)
    return SequenceSplit.standardised(entry, split, PHONES, digest, features, statistics, labels)


def _sentences(entry: DataSet, root: Path, split: str) -> Iterator[Sentence]:
    """Recordings of the split in order of path, each with its transcript."""
    folder = _child(root, "TRAIN" if split == "train" else "TEST")
    if folder is None:
        inside = _child(root, "TIMIT") if root.is_dir() else None
        hint = f"; data_root is probably {inside}" if inside else ""
        raise WrongUse(f"{entry.name}: expected {entry.layout} in {root}, which is not so{hint}")
    speakers = {
        path.name.upper(): path
        for region in sorted(folder.iterdir())
        if region.name.upper().startswith("DR")
        for path in sorted(region.iterdir())
    }
    wanted = SPEAKERS.get(split, frozenset(speakers))
    if absent := sorted(wanted - speakers.keys()):
        raise ReproError(
            f"{folder}: {len(absent)} speakers are missing, such as {absent[0]}; fetch {entry.name} again"
        )
    found = False
    for name in sorted(wanted, key=lambda speaker: speakers[speaker]):
        files = {path.name.upper(): path for path in sorted(speakers[name].iterdir())}
        for file, recording in files.items():
            if file.endswith(".WAV") and not file.startswith("SA"):
                transcript = files.get(file.partition(".")[0] + ".PHN")
                if transcript is None:
                    raise ReproError(
                        f"{recording} has no transcript .PHN beside it; fetch {entry.name} again"
                    )
                found = True
                yield Sentence(recording, transcript)
    if not found:
        raise ReproError(f"{folder} holds no sentence of the {split} split; fetch {entry.name} again")


def _child(folder: Path, name: str) -> Path | None:
    """The folder `name` inside `folder`, whatever the case of its letters."""
    if not folder.is_dir():
        return None
    return next(
        (path for path in sorted(folder.iterdir()) if path.name.upper() == name and path.is_dir()), None
    )


def _listing_sha256(root: Path, sentences: list[Sentence]) -> str:
    files = [path for sentence in sentences for path in (sentence.recording, sentence.transcript)]
    lines = sorted(f"{path.relative_to(root)} {path.stat().st_size}" for path in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ReproError(f"{path} cannot be read ({error}); fetch it again") from error
