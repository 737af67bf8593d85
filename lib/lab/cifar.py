"""CIFAR-10 into memory, from its published binary archive or from class folders (plain or in a tar file)."""

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.catalogue import DataSet, downloaded
from lib.errors import ReproError, WrongUse
from lib.lab.image_folders import ClassFolders, find_split
from lib.project import user_folder
from lib.samples import file_sha256

SIDE = 32
RECORD_BYTES = 1 + 3 * SIDE * SIDE
MEMBERS = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}


@dataclass(frozen=True)
class Cifar10:
    """One split; `pixels(indices)` gives those images as bytes `(image, 3, 32, 32)`."""

    labels: Tensor
    sha256: str
    pixels: Callable[[Tensor], Tensor]


def open_cifar10(entry: DataSet, split: str, data_root: str = "") -> Cifar10:
    """The split from the published archive in `data_root`, else from class folders there.

    An empty `data_root` means where `./repro data get cifar10` keeps the archive. Raises ReproError for data
    that are missing or damaged, WrongUse for a wrong split or layout.
    """
    assert entry.download is not None
    if split not in MEMBERS:
        raise WrongUse(f"{entry.name} has no split {split!r}; known: {', '.join(MEMBERS)}")
    archive = (user_folder(data_root) if data_root else downloaded(entry)) / entry.download.file
    if archive.is_file():
        digest = file_sha256(archive)
        if digest != entry.download.sha256:
            raise ReproError(
                f"{archive} is not the published file: SHA-256 {digest}, expected {entry.download.sha256}; "
                f"delete it and run ./repro data get {entry.name}"
            )
        pixels, labels = read_archive(archive, split)
        return Cifar10(labels, digest, pixels.__getitem__)
    if not data_root:
        raise ReproError(
            f"{entry.name} is not here: run ./repro data get {entry.name}, or pass data_root ({entry.layout})"
        )
    source = ClassFolders(find_split(data_root, split, entry.name), entry.classes)
    return Cifar10(source.labels, source.sha256, partial(decode, source))


def read_archive(archive: Path, split: str) -> tuple[Tensor, Tensor]:
    """Pixels and labels in the published binary archive, whose records are a label and three planes."""
    batches = []
    with tarfile.open(archive) as members:
        for name in MEMBERS[split]:
            stream = members.extractfile(f"cifar-10-batches-bin/{name}")
            assert stream is not None
            batches.append(np.frombuffer(stream.read(), np.uint8).reshape(-1, RECORD_BYTES))
    records = torch.from_numpy(np.concatenate(batches))
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE), records[:, 0].long()


def decode(source: ClassFolders, chosen: Tensor) -> Tensor:
    """The chosen images of `source`, decoded; ReproError names one that is not 32x32."""
    pixels = torch.empty(len(chosen), 3, SIDE, SIDE, dtype=torch.uint8)
    for place, index in enumerate(chosen.tolist()):
        image = source.image(index)
        if image.size != (SIDE, SIDE):
            name = source.filename(index)
            raise ReproError(f"{name} is {image.width}x{image.height} pixels, expected {SIDE}x{SIDE}")
        pixels[place] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return pixels
