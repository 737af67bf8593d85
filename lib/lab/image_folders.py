"""Class-folder images on disk, as folders or as one tar file, through timm's readers with strict errors.

timm's own dataset passes over an unreadable image and serves its neighbour under the same index; here it is
an error that names the file. Classes are numbered by sorted folder name, as torchvision does (timm sorts "10"
after "9").
"""

import hashlib
import os
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lib.errors import ReproError, WrongUse
from lib.lab.torchvision_ops import prepare_torchvision
from lib.project import user_folder

SPLIT_NAMES = {
    "train": ("train",),
    "test": ("test", "val", "validation"),
    "val": ("val", "validation", "test"),
}


def find_split(data_root: str, split: str, name: str) -> Path:
    """Folder or tar file of `split` under `data_root`; WrongUse says what was expected and found."""
    if not data_root:
        raise WrongUse(
            f"{name} is not part of the repository: pass data_root, which holds {split}/ or {split}.tar"
        )
    root = user_folder(data_root)
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

    `classes` are the class names in label order, `labels (image,)` their indices, `sha256` a hash of the
    sorted listing (path and size of every image), which tells one set from another without reading it all.
    """

    def __init__(self, path: Path, expected: Sequence[str] = ()) -> None:
        """Lists the images; `expected` classes, if given, must be exactly those found."""
        self._path = path
        self._reader: Any = _open_reader(path)
        names = _names_in_tar(self._reader) if path.is_file() else _names_in_folder(self._reader)
        for index, name in enumerate(names):
            if name in ("", "."):
                found = self.filename(index)
                raise WrongUse(f"{path}: expected CLASS/IMAGE, found {found} outside any class folder")
        found_classes = set(names)
        if path.is_dir():
            _check_folders(path, found_classes)
        if expected and found_classes != set(expected):
            raise WrongUse(_difference(path, found_classes, set(expected)))
        self.classes = tuple(expected) or tuple(sorted(found_classes))
        label = {name: index for index, name in enumerate(self.classes)}
        self.labels: Tensor = torch.tensor([label[name] for name in names])
        listing = sorted(f"{names[i]}/{self.filename(i)} {self._size(i)}" for i in range(len(names)))
        self.sha256 = hashlib.sha256("\n".join(listing).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Image `index`, decoded, in RGB; ReproError names the file if it cannot be read."""
        try:
            with Image.open(self._open(index)) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            where = self._path / self.filename(index)
            raise ReproError(
                f"{where} is not a readable image ({error}); restore it from the data set's origin"
            ) from error

    def filename(self, index: int) -> str:
        """Path of image `index` inside the folder or tar file."""
        return os.path.normpath(self._reader.filename(index))

    def _open(self, index: int) -> Path | BytesIO:
        """What Pillow opens: the file, or the bytes at the image's place in the tar file.

        timm keeps the tar file open and moves about in it; forked workers would share that one position.
        """
        if self._path.is_dir():
            return Path(self._reader.samples[index][0])
        member, _, inner_tar = self._reader.samples[index]
        with self._path.open("rb") as stream:
            stream.seek(member.offset_data + (inner_tar.offset_data if inner_tar is not None else 0))
            return BytesIO(stream.read(member.size))

    def _size(self, index: int) -> int:
        entry = self._reader.samples[index]
        return int(entry[0].size) if self._path.is_file() else os.path.getsize(entry[0])


def _open_reader(path: Path) -> Any:
    prepare_torchvision()
    from timm.data.readers import create_reader
    from timm.data.readers.img_extensions import get_img_extensions

    # By default timm writes its listing of a large tar file beside it; the user's folder stays as it was.
    in_tar: dict[str, Any] = {"cache_tarinfo": False}
    try:
        return create_reader("", root=str(path), **(in_tar if path.is_file() else {}))
    except tarfile.TarError as error:
        raise ReproError(f"{path} is not a readable tar file ({error}); fetch it again") from error
    except (RuntimeError, ValueError) as error:
        endings = ", ".join(get_img_extensions())
        raise WrongUse(f"{path}: expected CLASS/IMAGE with images ending in {endings}, found none") from error


def _names_in_tar(reader: Any) -> list[str]:
    return [reader.class_idx_to_name[int(target)] for target in reader.targets]


def _names_in_folder(reader: Any) -> list[str]:
    names = {index: name for name, index in reader.class_to_idx.items()}
    return [names[target] for _, target in reader.samples]


def _check_folders(path: Path, found: set[str]) -> None:
    """Refuses folders inside class folders and class folders without images."""
    folders = {entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")}
    if nested := sorted(found - folders):
        raise WrongUse(f"{path}: expected CLASS/IMAGE, found images deeper down, in a folder {nested[0]}")
    if empty := sorted(folders - found):
        raise WrongUse(f"{path}: class folder without images: {', '.join(empty[:5])}")


def _difference(path: Path, found: set[str], expected: set[str]) -> str:
    missing, extra = sorted(expected - found), sorted(found - expected)
    parts = [f"{path}: expected {len(expected)} class folders ({', '.join(sorted(expected)[:3])}, ...)"]
    if missing:
        parts.append(f"{len(missing)} are missing or empty, such as {missing[0]}")
    if extra:
        parts.append(f"{len(extra)} are not of this data set, such as {extra[0]}")
    return "; ".join(parts)
