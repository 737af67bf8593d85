"""TIMIT's layout, on generated miniatures: splits, folded phones, labels of frames, kinds of recordings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from lib.errors import ReproError, WrongUse
from lib.lab.sequence_splits import NO_LABEL, SequenceSplit
from lib.lab.sequences import load_sequences
from lib.lab.timit import FOLDED, PHONES, TEST_SPEAKERS, VALIDATION_SPEAKERS

PHN = "0 1600 h#\n1600 2400 ix\n2400 3200 q\n3200 4800 zh\n"
SAMPLES = 4800


def sentence(speaker: Path, name: str, transcript: str = PHN) -> None:
    """A recording of noise with its transcript; every second one is NIST, the others RIFF."""
    speaker.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, f"{speaker.name}{name}"))
    samples = np.random.default_rng(seed).normal(0, 500, SAMPLES).astype(np.int16)
    if seed % 2:
        header = (
            f"NIST_1A\n   1024\nchannel_count -i 1\nsample_count -i {SAMPLES}\nsample_rate -i 16000\n"
            "sample_n_bytes -i 2\nsample_byte_format -s2 01\nend_head\n"
        )
        (speaker / f"{name}.WAV").write_bytes(header.encode().ljust(1024) + samples.tobytes())
    else:
        wavfile.write(speaker / f"{name}.WAV", 16000, samples)
    (speaker / f"{name}.PHN").write_text(transcript)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for speaker in ("FCJF0", "MDAC0"):
        for name in ("SA1", "SI648", "SX127"):
            sentence(tmp_path / "TRAIN" / "DR1" / speaker, name)
    for place, speaker in enumerate(sorted(TEST_SPEAKERS | VALIDATION_SPEAKERS)):
        sentence(tmp_path / "TEST" / f"DR{place % 8 + 1}" / speaker, "SX1")
    sentence(tmp_path / "TEST" / "DR1" / "FAAA0", "SX1")
    return tmp_path


def load(root: Path, split: str) -> SequenceSplit:
    return load_sequences("timit", split, str(root))


def test_splits_leave_out_the_common_sentences_and_the_other_speakers(root: Path) -> None:
    assert [len(load(root, split)) for split in ("train", "val", "test")] == [4, 50, 24]


def test_every_frame_has_the_phone_at_its_middle(root: Path) -> None:
    """Windows of 400 samples every 160: the middles are 200, 360, ... 4680 (28 frames)."""
    train = load(root, "train")
    assert train.lengths.tolist() == [28] * 4
    middles = range(200, 4801 - 200, 160)
    expected = [
        PHONES.index("sil") if middle < 1600
        else PHONES.index("ih") if middle < 2400
        else NO_LABEL if middle < 3200
        else PHONES.index("sh")
        for middle in middles
    ]  # fmt: skip
    assert train.labels[0].tolist() == expected
    assert train.frames.shape == (4, 28, 39)


def test_phones_fold_into_39_classes() -> None:
    assert len(PHONES) == len(set(PHONES)) == 39
    assert len(FOLDED.keys() - {*PHONES}) == len(FOLDED) == 61 - 1 - 38
    assert set(FOLDED.values()) <= set(PHONES)
    assert not TEST_SPEAKERS & VALIDATION_SPEAKERS
    assert (len(TEST_SPEAKERS), len(VALIDATION_SPEAKERS)) == (24, 50)
    assert sum(speaker.startswith("F") for speaker in TEST_SPEAKERS) == 8


def test_shorter_sentences_are_padded_without_labels(root: Path) -> None:
    path = root / "TRAIN" / "DR1" / "FCJF0" / "SX127.WAV"
    wavfile.write(path, 16000, np.full(1000, 7, np.int16))
    train = load(root, "train")
    assert train.lengths.tolist() == [28, 4, 28, 28]
    assert train.labels[1, 4:].tolist() == [NO_LABEL] * 24
    assert train.frames[1, 4:].abs().max() == 0


def test_training_statistics_serve_every_split(root: Path) -> None:
    train, test = load(root, "train"), load(root, "test")
    assert torch.allclose(train.frames.flatten(0, 1).mean(0), torch.zeros(39), atol=1e-4)
    assert test.mean == train.mean
    assert test.sha256 != train.sha256


def test_small_letters_are_as_good(root: Path) -> None:
    before = load(root, "train")
    for path in sorted(root.rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.lower()))
    assert torch.equal(load(root, "train").frames, before.frames)


def test_a_batch_carries_labels_of_every_frame(root: Path) -> None:
    frames, lengths, labels = next(load(root, "train").batches(1))
    assert (frames.shape[1], lengths.tolist(), labels.shape) == (28, [28], (1, 28))


def test_missing_parts_are_named(root: Path) -> None:
    with pytest.raises(WrongUse, match="pass data_root"):
        load_sequences("timit", "train")
    with pytest.raises(WrongUse, match="no split 'dev'; known: train, val, test"):
        load(root, "dev")
    with pytest.raises(WrongUse, match="expected data_root holds TRAIN and TEST"):
        load(root / "TRAIN", "train")
    (root / "TRAIN" / "DR1" / "MDAC0" / "SI648.PHN").unlink()
    with pytest.raises(ReproError, match=r"SI648\.WAV has no transcript"):
        load(root, "train")


def test_the_folder_above_gets_a_hint(root: Path) -> None:
    (root.parent / "TIMIT").mkdir(exist_ok=True)
    with pytest.raises(WrongUse, match=r"data_root is probably .*TIMIT"):
        load(root.parent, "train")


def test_a_missing_speaker_is_named(root: Path) -> None:
    speaker = next(root.glob("TEST/DR*/MDAB0"))
    speaker.rename(speaker.with_name("MZZZ0"))
    with pytest.raises(ReproError, match="1 speakers are missing, such as MDAB0"):
        load(root, "test")


@pytest.mark.parametrize(
    ("transcript", "message"),
    [
        ("0 1600 h#\n1600 4800 xx\n", "line 2: expected start, end, phone, not '1600 4800 xx'"),
        ("0 h#\n", "line 1: expected start"),
        ("0 -5 h#\n", "line 1: expected start"),
        ("0 5 h#\n\n", "line 2: expected start"),
        ("", "is empty"),
    ],
)
def test_a_wrong_transcript_is_named(root: Path, transcript: str, message: str) -> None:
    (root / "TRAIN" / "DR1" / "MDAC0" / "SI648.PHN").write_text(transcript)
    with pytest.raises(ReproError, match=rf"SI648\.PHN.*{message}"):
        load(root, "train")
