"""CIFAR-10 into memory, from its published binary archive or from class folders (plain or in a tar file)."""

import tarfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.catalogue import DataSet, downloaded
from lib.errors import ReproError, WrongUse
from lib.lab.image_folders import ClassFolders, find_split
from lib.samples import file_sha256

SIDE = 32
RECORD_BYTES = 1 + 3 * SIDE * SIDE
MEMBERS = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}


def read_cifar10(entry: DataSet, split: str, data_root: str = "") -> tuple[Tensor, Tensor, str]:
    """Pixels as bytes `(image, 3, 32, 32)`, labels `(image,)` and the hash of what was read.

    Looks for the published archive in `data_root` (where `./repro data get cifar10` put it, if empty), then for class
    folders. Raises ReproError for data that are missing or damaged, WrongUse for a wrong split or layout.
    """
    assert entry.download is not None
    if split not in MEMBERS:
        raise WrongUse(f"{entry.name} has no split {split!r}; known: {', '.join(MEMBERS)}")
    archive = (Path(data_root).expanduser() if data_root else downloaded(entry)) / entry.download.file
    if archive.is_file():
        digest = file_sha256(archive)
        if digest != entry.download.sha256:
            raise ReproError(
                f"{archive} is not the published file: SHA-256 {digest}, expected {entry.download.sha256}; "
                f"delete it and run ./repro data get {entry.name}"
            )
        return *read_archive(archive, split), digest
    if not data_root:
        raise ReproError(
            f"{entry.name} is not here: run ./repro data get {entry.name}, or pass data_root ({entry.layout})"
        )
    return decode_all(ClassFolders(find_split(data_root, split, entry.name), entry.classes))


def read_archive(archive: Path, split: str) -> tuple[Tensor, Tensor]:
    """Pixels and labels of `split` in the published archive of the binary version: a label byte, then the planes."""
    batches = []
    with tarfile.open(archive) as members:
        for name in MEMBERS[split]:
            stream = members.extractfile(f"cifar-10-batches-bin/{name}")
            assert stream is not None
            batches.append(np.frombuffer(stream.read(), np.uint8).reshape(-1, RECORD_BYTES))
    records = torch.from_numpy(np.concatenate(batches))
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE).contiguous(), records[:, 0].long()


def decode_all(source: ClassFolders) -> tuple[Tensor, Tensor, str]:
    """Every image of `source` decoded once; ReproError names one that is not 32x32."""
    pixels = torch.empty(len(source), 3, SIDE, SIDE, dtype=torch.uint8)
    for index in range(len(source)):
        image = source.image(index)
        if image.size != (SIDE, SIDE):
            raise ReproError(
                f"{source.filename(index)} is {image.width}x{image.height} pixels, expected {SIDE}x{SIDE}"
            )
        pixels[index] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return pixels, source.labels, source.sha256
