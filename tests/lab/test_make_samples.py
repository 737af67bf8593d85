"""How the committed samples are made: which images, and bytes that depend on nothing else."""

import gzip
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from lib.errors import ReproError
from lib.lab.make_samples import FASHION_MNIST_SOURCES, decode_idx, fashion_mnist, first_per_class, write_npz


def test_the_first_of_each_class_are_taken_in_their_order() -> None:
    assert first_per_class(np.array([1, 0, 1, 1, 0, 0]), 2).tolist() == [0, 1, 2, 4]


def test_a_class_with_too_few_is_refused() -> None:
    with pytest.raises(ReproError, match="holds only 1 items, 2 are wanted"):
        first_per_class(np.array([0, 0, 1]), 2)


def test_an_idx_file_is_decoded_by_its_header() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
    raw = struct.pack(">HBB3I", 0, 8, 3, 2, 3, 2) + pixels.tobytes()
    assert np.array_equal(decode_idx(raw), pixels)


def test_an_idx_file_of_other_numbers_is_refused() -> None:
    with pytest.raises(ReproError, match="unsigned bytes"):
        decode_idx(struct.pack(">HBBI", 0, 13, 1, 4) + bytes(16))


def test_the_same_arrays_give_the_same_bytes_at_any_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {"images": np.arange(20, dtype=np.uint8), "labels": np.zeros(3, np.uint8)}
    write_npz(tmp_path / "now.npz", arrays)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    write_npz(tmp_path / "later.npz", arrays)
    assert (tmp_path / "now.npz").read_bytes() == (tmp_path / "later.npz").read_bytes()
    with np.load(tmp_path / "now.npz") as loaded:
        assert {name: loaded[name].tolist() for name in loaded} == {n: a.tolist() for n, a in arrays.items()}


def test_a_source_that_is_not_the_official_file_is_refused(tmp_path: Path) -> None:
    for name in FASHION_MNIST_SOURCES:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(ReproError, match="train-images-idx3-ubyte is not the official file"):
        fashion_mnist(tmp_path)
