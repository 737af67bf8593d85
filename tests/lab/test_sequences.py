"""JapaneseVowels: padding, standardisation, the official split, and files that are not it."""

from pathlib import Path

import pytest
import torch

from lib.errors import ReproError, WrongUse
from lib.lab import sequences
from lib.lab.sequences import load_sequences
from lib.samples import file_sha256, sample


def valid(split: sequences.SequenceSplit) -> torch.Tensor:
    """(utterance, frame) true where a frame was spoken."""
    return torch.arange(split.frames.shape[1]) < split.lengths[:, None]


def test_the_official_split_and_its_speakers() -> None:
    train, test = load_sequences("japanese_vowels", "train"), load_sequences("japanese_vowels", "test")
    assert torch.bincount(train.labels).tolist() == [30] * 9
    assert torch.bincount(test.labels).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert train.frames.shape == (270, 29, 12)
    assert test.frames.shape == (370, 29, 12)
    assert (int(train.lengths.min()), int(test.lengths.max())) == (7, 29)


def test_training_frames_are_standardised_and_padding_is_zero() -> None:
    train = load_sequences("japanese_vowels", "train")
    spoken = train.frames[valid(train)]
    assert torch.allclose(spoken.mean(0), torch.zeros(12), atol=1e-4)
    assert torch.allclose(spoken.std(0, unbiased=False), torch.ones(12), atol=1e-4)
    assert train.frames[~valid(train)].abs().max() == 0


def test_test_frames_are_standardised_by_the_training_statistics() -> None:
    train, test = load_sequences("japanese_vowels", "train"), load_sequences("japanese_vowels", "test")
    assert test.mean == train.mean
    line = next(
        text for text in sample("japanese_vowels_test").read_text().splitlines() if text[0] not in "#@"
    )
    first = float(line.split(",")[0])
    assert test.frames[0, 0, 0].item() == pytest.approx((first - train.mean[0]) / train.std[0], abs=1e-5)


def test_an_item_is_one_utterance() -> None:
    split = load_sequences("japanese_vowels", "train")
    frames, length, label = split[40]
    assert frames.shape == (29, 12)
    assert (length, label) == (int(split.lengths[40]), int(split.labels[40]))
    assert split.sha256 == file_sha256(sample("japanese_vowels_train"))


def test_batches_cover_the_split_in_the_generators_order() -> None:
    split = load_sequences("japanese_vowels", "train")
    batches = list(split.batches(100, generator=torch.Generator().manual_seed(0)))
    assert [len(labels) for _, _, labels in batches] == [100, 100, 70]
    labels = torch.cat([labels for _, _, labels in batches])
    assert not torch.equal(labels, split.labels)
    assert torch.equal(labels.sort().values, split.labels)
    assert torch.equal(torch.cat([lengths for _, lengths, _ in split.batches(100)]), split.lengths)


def test_a_wrong_name_and_a_wrong_split_are_refused() -> None:
    with pytest.raises(WrongUse, match="did you mean 'japanese_vowels'"):
        load_sequences("japanese_vowel", "train")
    with pytest.raises(WrongUse, match="no split 'val'; known: train, test"):
        load_sequences("japanese_vowels", "val")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """data_root with a copy of the files, as the UEA archive names them."""
    for part in ("train", "test"):
        content = sample(f"japanese_vowels_{part}").read_bytes()
        (tmp_path / f"JapaneseVowels_{part.upper()}.ts").write_bytes(content)
    return tmp_path


def test_files_of_the_users_own_are_read(own: Path) -> None:
    split = load_sequences("japanese_vowels", "test", data_root=str(own))
    assert torch.equal(split.frames, load_sequences("japanese_vowels", "test").frames)


def test_a_missing_file_is_named(own: Path) -> None:
    (own / "JapaneseVowels_TEST.ts").unlink()
    with pytest.raises(WrongUse, match=r"expected .*JapaneseVowels_TEST\.ts, which does not exist"):
        load_sequences("japanese_vowels", "test", data_root=str(own))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2:3,x:1", r"line \d+: not numbers of equal count"),
        ("1,2:3:1", r"line \d+: not numbers of equal count"),
        ("1,2:3,4:1", r"line \d+: expected 12 series of at most 29 numbers"),
        (":".join(["1,2"] * 12) + ":1", "expected 370 utterances, found 371"),
    ],
)
def test_a_wrong_line_is_named(own: Path, line: str, message: str) -> None:
    path = own / "JapaneseVowels_TEST.ts"
    path.write_text(path.read_text().rstrip("\n") + "\n" + line + "\n")
    with pytest.raises(ReproError, match=message):
        load_sequences("japanese_vowels", "test", data_root=str(own))


def test_an_unknown_speaker_is_named(own: Path) -> None:
    path = own / "JapaneseVowels_TEST.ts"
    text = path.read_text().rstrip("\n")
    path.write_text(text[: text.rindex(":")] + ":10\n")
    with pytest.raises(ReproError, match=r"JapaneseVowels_TEST\.ts: unknown label '10'"):
        load_sequences("japanese_vowels", "test", data_root=str(own))
