"""The Penn Treebank's layout, on a miniature text."""

from pathlib import Path

import pytest

from lib.errors import ReproError, WrongUse
from lib.lab.words import load_words


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "ptb.train.txt").write_text(" the cat saw the dog \n the dog ran \n")
    (tmp_path / "ptb.valid.txt").write_text(" the dog saw \n")
    (tmp_path / "ptb.test.txt").write_text(" cat \n\n")
    return tmp_path


def test_words_are_numbered_by_frequency_and_lines_have_an_end(root: Path) -> None:
    train = load_words("ptb", "train", str(root), whole=False)
    assert train.vocabulary == ("the", "<eos>", "dog", "cat", "ran", "saw")
    assert train.words.tolist() == [0, 3, 5, 0, 2, 1, 0, 2, 4, 1]
    assert len(train) == 10


def test_other_splits_use_the_training_vocabulary(root: Path) -> None:
    train, test = (load_words("ptb", split, str(root), whole=False) for split in ("train", "test"))
    assert test.vocabulary == train.vocabulary
    assert test.words.tolist() == [3, 1, 1]
    assert load_words("ptb", "val", str(root), whole=False).words.tolist() == [0, 2, 5, 1]
    assert test.sha256 != train.sha256


def test_a_text_of_another_length_is_not_the_treebank(root: Path) -> None:
    with pytest.raises(
        ReproError, match=r"ptb\.train\.txt has 10 words, line ends included, expected 929,589"
    ):
        load_words("ptb", "train", str(root))


def test_a_word_that_training_lacks_is_named(root: Path) -> None:
    (root / "ptb.test.txt").write_text("the bird\n")
    with pytest.raises(ReproError, match=r"ptb\.test\.txt: 'bird' is not a word of ptb\.train\.txt"):
        load_words("ptb", "test", str(root), whole=False)


def test_missing_and_empty_files_and_wrong_names_are_refused(root: Path) -> None:
    (root / "ptb.valid.txt").write_text("")
    with pytest.raises(ReproError, match=r"ptb\.valid\.txt is empty"):
        load_words("ptb", "val", str(root), whole=False)
    (root / "ptb.valid.txt").write_bytes(b"\xff")
    with pytest.raises(ReproError, match=r"ptb\.valid\.txt cannot be read"):
        load_words("ptb", "val", str(root), whole=False)
    (root / "ptb.train.txt").unlink()
    with pytest.raises(WrongUse, match=r"expected .*ptb\.train\.txt, which does not exist"):
        load_words("ptb", "test", str(root))
    with pytest.raises(WrongUse, match="pass data_root"):
        load_words("ptb", "test", "")
    with pytest.raises(WrongUse, match="no split 'valid'; known: train, val, test"):
        load_words("ptb", "valid", str(root))
    with pytest.raises(WrongUse, match="unknown data set 'japanese_vowels'; known: ptb"):
        load_words("japanese_vowels", "train", str(root))
