"""Class-folder images on disk, as folders or as one tar file, through timm's readers with strict errors.

timm's own dataset passes over an unreadable image and serves its neighbour under the same index; here it is an error
that names the file. Classes are numbered by sorted folder name, as torchvision does (timm sorts "10" after "9").
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lib.errors import ReproError, WrongUse

SPLIT_NAMES = {
    "train": ("train",),
    "test": ("test", "val", "validation"),
    "val": ("val", "validation", "test"),
}


def find_split(data_root: str, split: str, name: str) -> Path:
    """The folder or tar file of `split` under `data_root`; WrongUse says what was expected and what was found."""
    if not data_root:
        raise WrongUse(
            f"{name} is not part of the repository: pass data_root, the folder that holds {split}/ or {split}.tar"
        )
    root = Path(data_root).expanduser()
    if not root.is_dir():
        raise WrongUse(f"data_root {root} of {name} is not a folder")
    if split not in SPLIT_NAMES:
        raise WrongUse(f"{name} has no split {split!r}; known: {', '.join(SPLIT_NAMES)}")
    for folder in SPLIT_NAMES[split]:
        for candidate in (root / folder, root / f"{folder}.tar"):
            if candidate.is_dir() or (candidate.suffix == ".tar" and candidate.is_file()):
                return candidate
    found = sorted(
        path.name + "/" * path.is_dir() for path in root.iterdir() if not path.name.startswith(".")
    )
    shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    wanted = " or ".join(f"{folder}/ or {folder}.tar" for folder in SPLIT_NAMES[split])
    hint = f"; if these are the class folders, data_root is {root.parent}" if root.name in SPLIT_NAMES else ""
    raise WrongUse(
        f"{name}: expected {wanted} with one folder per class under {root}, found {shown or 'nothing'}{hint}"
    )


class ClassFolders:
    """The images under a folder (or in a tar file) of class folders.

    `classes` are the class names in label order, `labels (image,)` their indices, `sha256` a hash of the sorted listing
    (path and size of every image), which tells one set from another without reading it all.
    """

    def __init__(self, path: Path, expected: Sequence[str] = ()) -> None:
        """Lists the images; `expected` classes, if given, must be exactly those found."""
        self._reader: Any = _open_reader(path)
        self._path = path
        self._process = os.getpid()
        listing, names = self._list()
        found = set(names)
        self.classes = tuple(expected) or tuple(sorted(found))
        if expected and found != set(expected):
            raise WrongUse(_difference(path, found, set(expected)))
        index = {name: label for label, name in enumerate(self.classes)}
        self.labels: Tensor = torch.tensor([index[name] for name in names])
        self.sha256 = hashlib.sha256("\n".join(sorted(listing)).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Image `index`, decoded, in RGB; ReproError names the file if it cannot be read."""
        if os.getpid() != self._process:
            # A forked worker shares the parent's open tar file and its position: it opens its own.
            self._reader = _open_reader(self._path)
            self._process = os.getpid()
        try:
            stream, _ = self._reader[index]
            with stream, Image.open(stream) as image:
                return image.convert("RGB")
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
            raise ReproError(
                f"{self._path / self.filename(index)} is not a readable image ({error}); restore it from the data set's origin"
            ) from error

    def filename(self, index: int) -> str:
        """Path of image `index` inside the folder or tar file."""
        return os.path.normpath(self._reader.filename(index))

    def _list(self) -> tuple[list[str], list[str]]:
        """Of every image: "path size", and the name of its class."""
        listing, names = [], []
        for index in range(len(self._reader)):
            name = self.filename(index)
            parts = Path(name).parts
            if len(parts) < 2 or (len(parts) > 2 and self._path.is_dir()):
                where = "outside any class folder" if len(parts) < 2 else "in a folder inside a class folder"
                raise WrongUse(f"{self._path}: expected CLASS/IMAGE, found {name}, which lies {where}")
            listing.append(f"{name} {self._size(index)}")
            names.append(parts[-2])
        if self._path.is_dir():
            folders = {
                entry.name
                for entry in os.scandir(self._path)
                if entry.is_dir() and not entry.name.startswith(".")
            }
            if empty := sorted(folders - set(names)):
                raise WrongUse(f"{self._path}: class folder without images: {', '.join(empty[:5])}")
        return listing, names

    def _size(self, index: int) -> int:
        entry = self._reader.samples[index]
        return int(entry[0].size) if self._path.is_file() else os.path.getsize(entry[0])


def _open_reader(path: Path) -> Any:
    from lib.lab.torchvision_ops import prepare_torchvision

    prepare_torchvision()
    from timm.data.readers import create_reader
    from timm.data.readers.img_extensions import get_img_extensions

    options = {"cache_tarinfo": False} if path.is_file() else {}
    try:
        return create_reader("", root=str(path), **options)
    except (RuntimeError, ValueError) as error:
        endings = ", ".join(get_img_extensions())
        raise WrongUse(f"{path}: expected CLASS/IMAGE with images ending in {endings}, found none") from error


def _difference(path: Path, found: set[str], expected: set[str]) -> str:
    missing, extra = sorted(expected - found), sorted(found - expected)
    parts = [f"{path}: expected {len(expected)} class folders ({', '.join(sorted(expected)[:3])}, ...)"]
    if missing:
        parts.append(f"{len(missing)} are missing or empty, such as {missing[0]}")
    if extra:
        parts.append(f"{len(extra)} are not of this data set, such as {extra[0]}")
    return "; ".join(parts)
