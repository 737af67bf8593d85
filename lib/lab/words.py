"""Running text as word indices: the Penn Treebank in the form that language models are compared on."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lib.catalogue import Tier, find
from lib.errors import ReproError, WrongUse
from lib.project import user_folder
from lib.samples import file_sha256

END_OF_LINE = "<eos>"
FILES = {"train": "ptb.train.txt", "val": "ptb.valid.txt", "test": "ptb.test.txt"}
PTB_WORDS = {"train": 929_589, "val": 73_760, "test": 82_430}
"""Words of each file with one end-of-line mark a line: the 929k, 73k and 82k of the literature."""


@dataclass(frozen=True)
class WordSplit:
    """One text as indices `words (word,)` into `vocabulary`, which is that of the training text."""

    name: str
    tier: Tier
    split: str
    vocabulary: tuple[str, ...]
    sha256: str
    words: Tensor

    def __len__(self) -> int:
        return len(self.words)


def load_words(name: str, split: str, data_root: str, *, whole: bool = True) -> WordSplit:
    """The split "train", "val" or "test" of `name` (ptb) in `data_root`, which holds the three text files.

    The vocabulary goes from the most to the least frequent word of the training text, equals in order of
    spelling. `whole` requires the published number of words; without it any text of that layout is read.

    Raises:
        WrongUse: unknown name or split, no data_root, or files that are not there.
        ReproError: a text of another length, or a word that the training text lacks.
    """
    entry = find(name, "text")
    if split not in FILES:
        raise WrongUse(f"{name} has no split {split!r}; known: {', '.join(FILES)}")
    if not data_root:
        raise WrongUse(f"{name} is not part of the repository: pass data_root ({entry.layout})")
    root = user_folder(data_root)
    words = {part: _read(root / FILES[part]) for part in ("train", split)}
    if whole:
        for part, found in words.items():
            if len(found) != PTB_WORDS[part]:
                raise ReproError(
                    f"{root / FILES[part]} has {len(found):,} words, line ends included, "
                    f"expected {PTB_WORDS[part]:,}; fetch the preprocessed Penn Treebank again"
                )
    counts = Counter(words["train"])
    vocabulary = tuple(sorted(counts, key=lambda word: (-counts[word], word)))
    index = {word: place for place, word in enumerate(vocabulary)}
    if strangers := set(words[split]) - index.keys():
        raise ReproError(
            f"{root / FILES[split]}: {min(strangers)!r} is not a word of {FILES['train']}; "
            "rare words are <unk> in the preprocessed text"
        )
    return WordSplit(
        name=name,
        tier=entry.tier,
        split=split,
        vocabulary=vocabulary,
        sha256=file_sha256(root / FILES[split]),
        words=torch.tensor([index[word] for word in words[split]]),
    )


def _read(path: Path) -> list[str]:
    if not path.is_file():
        raise WrongUse(f"ptb: expected {path}, which does not exist")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ReproError(f"{path} cannot be read ({error}); fetch it again") from error
    words = [word for line in lines for word in (*line.split(), END_OF_LINE)]
    if not words:
        raise ReproError(f"{path} is empty; fetch it again")
    return words
