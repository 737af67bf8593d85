"""Listings of fine-grained photographs in their official layouts: CUB-200-2011, Stanford Dogs, iNat2017.

A listing says which images a split holds and of which class; images are decoded when asked for. Everything
that is listed must be there: a data set with holes would give accuracies that compare with nothing.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lib.errors import ReproError, WrongUse
from lib.project import user_folder

Entry = tuple[str, str]
"""Path below data_root, and class."""


class ListedImages:
    """The images of `entries`; the same face as `ClassFolders`: `classes`, `labels`, `sha256`, `image(i)`.

    `sha256` is that of the sorted listing with the size of every image.

    Raises:
        ReproError: listed images are not there.
    """

    def __init__(self, root: Path, classes: Sequence[str], entries: Sequence[Entry]) -> None:
        self._root = root
        self._paths = [path for path, _ in entries]
        self.classes = tuple(classes)
        label = {name: index for index, name in enumerate(self.classes)}
        self.labels: Tensor = torch.tensor([label[name] for _, name in entries])
        lines, absent = [], []
        for path, name in entries:
            try:
                lines.append(f"{name} {path} {os.path.getsize(root / path)}")
            except OSError:
                absent.append(path)
        if absent:
            raise ReproError(
                f"{root}: {len(absent)} of {len(entries)} listed images are not there, such as {absent[0]}; "
                "unpack the data set's archive again"
            )
        self.sha256 = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._paths)

    def filename(self, index: int) -> str:
        """Path of image `index` below data_root."""
        return self._paths[index]

    def image(self, index: int) -> Image.Image:
        """Image `index`, decoded, in RGB (a few are grey or CMYK); ReproError names one that is damaged."""
        path = self._root / self._paths[index]
        try:
            with Image.open(path) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise ReproError(
                f"{path} is not a readable image ({error}); restore it from the data set's origin"
            ) from error


def open_fine_grained(name: str, split: str, data_root: str) -> ListedImages:
    """The split "train" or "test" of `cub200`, `stanford_dogs` or `inat2017` under `data_root`.

    iNat2017 has a validation split in place of the test split, whose labels are not public; "val" is another
    word for "test" everywhere.

    Raises:
        WrongUse: no data_root, a folder of another layout, or an unknown split.
        ReproError: lists that cannot be read or contradict each other, or images that are not there.
    """
    layout, wanted = READERS[name], LISTS[name]
    if not data_root:
        raise WrongUse(
            f"{name} is not part of the repository: pass data_root, the folder that holds {', '.join(wanted)}"
        )
    if split not in ("train", "test", "val"):
        raise WrongUse(f"{name} has no split {split!r}; known: train, test, val")
    root = user_folder(data_root)
    if not root.is_dir():
        raise WrongUse(f"data_root {root} of {name} is not a folder")
    missing = [entry for entry in wanted if not (root / entry).exists()]
    if len(missing) == len(wanted):
        inside = sorted(path.name for path in root.iterdir() if (path / wanted[0]).exists())
        hint = f"; data_root is probably {root / inside[0]}" if inside else ""
        raise WrongUse(f"{name}: expected {', '.join(wanted)} in {root}, found none of them{hint}")
    if missing:
        raise ReproError(f"{root}: {', '.join(missing)} of {name} is missing; unpack its archives again")
    classes, entries = layout(root, split == "train")
    if not entries:
        raise ReproError(f"{root}: the lists of {name} name no image of {split}; fetch them again")
    return ListedImages(root, classes, entries)


def _cub200(root: Path, train: bool) -> tuple[list[str], list[Entry]]:
    """images.txt, image_class_labels.txt and train_test_split.txt are joined by the image's number."""
    classes = dict(_pairs(root / "classes.txt"))
    paths = dict(_pairs(root / "images.txt"))
    labels = dict(_pairs(root / "image_class_labels.txt"))
    is_train = dict(_pairs(root / "train_test_split.txt"))
    if not paths.keys() == labels.keys() == is_train.keys():
        raise ReproError(
            f"{root}: images.txt, image_class_labels.txt and train_test_split.txt do not number the same "
            "images; fetch CUB_200_2011.tgz again"
        )
    if unknown := sorted(set(labels.values()) - classes.keys()):
        raise ReproError(
            f"{root / 'image_class_labels.txt'} uses class {unknown[0]}, which classes.txt lacks; "
            "fetch CUB_200_2011.tgz again"
        )
    chosen = [number for number, flag in is_train.items() if (flag == "1") == train]
    entries = [(f"images/{paths[number]}", classes[labels[number]]) for number in chosen]
    return list(classes.values()), entries


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """The lines `number value` of a list of CUB."""
    for number, line in enumerate(_text(path).splitlines(), start=1):
        parts = line.split()
        if len(parts) != 2:
            raise ReproError(f"{path}: line {number} is {line!r}, expected two words; fetch it again")
        yield parts[0], parts[1]


def _stanford_dogs(root: Path, train: bool) -> tuple[list[str], list[Entry]]:
    """The lists are Matlab files; classes are the folders, numbered from 1 by `labels`."""
    path = root / ("train_list.mat" if train else "test_list.mat")
    from scipy.io import loadmat

    try:
        content = loadmat(path)
        files = [str(row[0][0]) for row in content["file_list"]]
        numbers = [int(row[0]) for row in content["labels"]]
    # a file cut short fails in scipy in many ways: unpacking, decompression, missing variables
    except Exception as error:
        raise ReproError(
            f"{path} is not a readable list ({type(error).__name__}); fetch lists.tar again"
        ) from error
    folders = [file.split("/")[0] for file in files]
    by_number = dict(zip(numbers, folders, strict=False))
    consistent = len(files) == len(numbers) and folders == [by_number[number] for number in numbers]
    if not consistent or sorted(by_number) != list(range(1, len(by_number) + 1)):
        raise ReproError(f"{path}: labels and folders contradict each other; fetch lists.tar again")
    classes = [by_number[number] for number in sorted(by_number)]
    return classes, [(f"Images/{file}", folder) for file, folder in zip(files, folders, strict=True)]


def _inat2017(root: Path, train: bool) -> tuple[list[str], list[Entry]]:
    """COCO-style lists; a category keeps its supercategory, since names recur.

    The listed paths begin with train_val_images; the archive has also been published as train_val2017.
    """
    folder = next((name for name in INAT_FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        raise ReproError(
            f"{root}: {' or '.join(INAT_FOLDERS)} of inat2017 is missing; unpack its archive again"
        )
    path = root / ("train2017.json" if train else "val2017.json")
    try:
        content: dict[str, Any] = json.loads(_text(path))
        names = {item["id"]: f"{item['supercategory']}/{item['name']}" for item in content["categories"]}
        files = {item["id"]: str(item["file_name"]) for item in content["images"]}
        entries = [
            (f"{folder}/{_below(files[item['image_id']])}", names[item["category_id"]])
            for item in content["annotations"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ReproError(
            f"{path} is not a readable list ({type(error).__name__}: {error}); fetch it again"
        ) from error
    return [names[number] for number in sorted(names)], entries


def _below(path: str) -> str:
    """`path` without the name of the folder of all images."""
    first, _, rest = path.partition("/")
    return rest if first in INAT_FOLDERS else path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReproError(f"{path} cannot be read ({error}); fetch it again") from error


INAT_FOLDERS = ("train_val_images", "train_val2017")
READERS: dict[str, Callable[[Path, bool], tuple[list[str], list[Entry]]]] = {
    "cub200": _cub200,
    "stanford_dogs": _stanford_dogs,
    "inat2017": _inat2017,
}
LISTS: dict[str, tuple[str, ...]] = {
    "cub200": ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt", "images"),
    "stanford_dogs": ("train_list.mat", "test_list.mat", "Images"),
    "inat2017": ("train2017.json", "val2017.json"),
}
