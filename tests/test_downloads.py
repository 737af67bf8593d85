"""Fetching a public data set, from files that stand in for the official place."""

import hashlib
from pathlib import Path

import pytest

from lib import catalogue, downloads
from lib.catalogue import Download, find
from lib.downloads import download
from lib.errors import ReproError, WrongUse
from lib.project import Project

CONTENT = b"published " * 100_000


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file at the official place of a cifar10 whose published content is CONTENT."""
    path = tmp_path / "official.tar.gz"
    path.write_bytes(CONTENT)
    published = Download(
        url=path.as_uri(), file="data.tar.gz", bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest()
    )
    entry = find("cifar10").model_copy(update={"download": published})
    others = tuple(known for known in catalogue.DATA_SETS if known.name != "cifar10")
    monkeypatch.setattr(catalogue, "DATA_SETS", (*others, entry))
    return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def kept(project: Project) -> list[str]:
    return [path.name for path in (project.cache / "datasets" / "cifar10").iterdir()]


def test_the_file_arrives_whole_and_progress_is_told(source: Path, project: Project) -> None:
    steps: list[tuple[int, int]] = []
    path = download("cifar10", project, on_progress=lambda done, total: steps.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert kept(project) == ["data.tar.gz"]
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert len(steps) > 1


def test_a_good_file_is_not_fetched_again(source: Path, project: Project) -> None:
    download("cifar10", project)
    source.unlink()
    assert download("cifar10", project).read_bytes() == CONTENT


def test_a_damaged_file_is_fetched_again(source: Path, project: Project) -> None:
    path = download("cifar10", project)
    path.write_bytes(b"damaged")
    assert download("cifar10", project).read_bytes() == CONTENT


def test_other_content_is_refused_and_removed(source: Path, project: Project) -> None:
    source.write_bytes(b"something else")
    with pytest.raises(ReproError, match="gave another file than the published one: SHA-256"):
        download("cifar10", project)
    assert kept(project) == []


def test_an_unreachable_place_says_what_to_do(source: Path, project: Project) -> None:
    source.unlink()
    with pytest.raises(ReproError, match=r"cannot fetch file:.*bring data\.tar\.gz by hand into .*cifar10"):
        download("cifar10", project)
    assert kept(project) == []


def test_a_full_disk_says_how_much_is_needed(
    source: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr(downloads.os, "getpid", lambda: 1)
    folder = project.cache / "datasets" / "cifar10"
    folder.mkdir(parents=True)
    (folder / ".partial-1-data.tar.gz").symlink_to(full)
    with pytest.raises(ReproError, match=f"cannot write .*{len(CONTENT)} bytes are needed"):
        download("cifar10", project)
    assert kept(project) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashion_mnist", "needs no download"),
        ("imagenet", "get it at https://www.image-net.org"),
        ("class_folders", "it is your own"),
    ],
)
def test_sets_that_cannot_be_downloaded_say_why(name: str, message: str, project: Project) -> None:
    with pytest.raises(WrongUse, match=message):
        download(name, project)
