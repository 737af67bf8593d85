"""The spoken digits, on a miniature of the data set."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from lib.errors import ReproError, WrongUse
from lib.lab.sequences import load_sequences


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two digits, two speakers, indices 4 to 6, growing lengths: four recordings to test, eight to train."""
    draw = np.random.default_rng(0)
    (tmp_path / "recordings").mkdir()
    for digit in (3, 7):
        for place, speaker in enumerate(("ann", "bob")):
            for index in (4, 5, 6):
                samples = draw.normal(0, 500, 1000 + 300 * index + 2000 * place).astype(np.int16)
                wavfile.write(tmp_path / "recordings" / f"{digit}_{speaker}_{index}.wav", 8000, samples)
    return tmp_path


def test_the_index_decides_the_split_and_the_digit_the_label(root: Path) -> None:
    train, test = (load_sequences("spoken_digits", split, str(root)) for split in ("train", "test"))
    assert train.labels.tolist() == [3, 3, 3, 3, 7, 7, 7, 7]
    assert test.labels.tolist() == [3, 3, 7, 7]
    assert train.classes == tuple("0123456789")
    assert train.frames.shape[0::2] == (8, 39)
    assert train.frames.shape[1] == int(train.lengths.max())


def test_training_frames_are_standardised_and_padding_is_zero(root: Path) -> None:
    train, test = (load_sequences("spoken_digits", split, str(root)) for split in ("train", "test"))
    inside = torch.arange(train.frames.shape[1]) < train.lengths[:, None]
    assert torch.allclose(train.frames[inside].mean(0), torch.zeros(39), atol=1e-4)
    assert torch.allclose(train.frames[inside].std(0, unbiased=False), torch.ones(39), atol=1e-4)
    assert train.frames[~inside].abs().max() == 0
    assert test.mean == train.mean
    assert test.sha256 == train.sha256


def test_another_recording_changes_the_hash(root: Path) -> None:
    before = load_sequences("spoken_digits", "test", str(root)).sha256
    path = root / "recordings" / "3_ann_4.wav"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert load_sequences("spoken_digits", "test", str(root)).sha256 != before


def test_wrong_places_and_splits_are_refused(root: Path) -> None:
    with pytest.raises(WrongUse, match="pass data_root"):
        load_sequences("spoken_digits", "train")
    with pytest.raises(WrongUse, match="no split 'val'; known: train, test"):
        load_sequences("spoken_digits", "val", str(root))
    with pytest.raises(WrongUse, match=r"expected .*recordings.recordings, which does not exist"):
        load_sequences("spoken_digits", "train", str(root / "recordings"))


def test_a_strange_name_and_an_empty_split_are_named(root: Path) -> None:
    stranger = root / "recordings" / "three_ann_5.wav"
    stranger.write_bytes(b"")
    with pytest.raises(ReproError, match=r"three_ann_5\.wav: expected a name such as"):
        load_sequences("spoken_digits", "train", str(root))
    stranger.unlink()
    for path in (root / "recordings").glob("*_4.wav"):
        path.unlink()
    with pytest.raises(ReproError, match="no recording of the test split"):
        load_sequences("spoken_digits", "train", str(root))


def test_a_damaged_recording_is_named(root: Path) -> None:
    (root / "recordings" / "7_bob_5.wav").write_bytes(b"RIFF")
    with pytest.raises(ReproError, match=r"7_bob_5\.wav is not a readable recording"):
        load_sequences("spoken_digits", "train", str(root))
