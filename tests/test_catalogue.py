"""The catalogue of data sets, and what the CLI shows of it."""

from pathlib import Path

import pytest

from lib.catalogue import DATA_SETS, downloaded, find, status
from lib.errors import WrongUse
from lib.project import Project


def test_an_unknown_data_set_gets_the_nearest_name() -> None:
    with pytest.raises(WrongUse, match="unknown data set 'cifar_10'; did you mean 'cifar10'"):
        find("cifar_10")


def test_sequences_are_not_offered_as_images() -> None:
    with pytest.raises(WrongUse, match="unknown data set 'japanese_vowels'; known: cifar10"):
        find("japanese_vowels", "images")


def test_the_status_says_what_is_here_and_how_to_get_the_rest(tmp_path: Path) -> None:
    rows = {row.name: row for row in status()}
    assert set(rows) == {entry.name for entry in DATA_SETS}
    assert rows["fashion_mnist"].state == "ready"
    elsewhere = {row.name: row for row in status(Project(tmp_path))}
    assert elsewhere["fashion_mnist"].state == "damaged"
    assert elsewhere["cifar10"].state == "not here"
    assert "./repro data get cifar10" in elsewhere["cifar10"].detail
    assert "pass data_root" in elsewhere["imagenet"].detail


def test_a_damaged_download_is_seen(tmp_path: Path) -> None:
    project = Project(tmp_path)
    entry = find("cifar10")
    assert entry.download is not None
    folder = downloaded(entry, project)
    folder.mkdir(parents=True)
    (folder / entry.download.file).write_bytes(b"half of it")
    row = next(row for row in status(project) if row.name == "cifar10")
    assert row.state == "damaged"
    assert "./repro data get cifar10" in row.detail
