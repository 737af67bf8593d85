"""Fetches a public data set from its official place: all of it with the right hash, or nothing."""

import os
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

from lib.catalogue import Download, downloaded, find
from lib.errors import ReproError, WrongUse
from lib.project import REPOSITORY, Project
from lib.samples import file_sha256

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30


def download(
    name: str,
    project: Project = REPOSITORY,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Path of the data set's file in data/cache, fetched if it is not there with the right content.

    `on_progress` is called with the bytes done and the bytes in all. Raises WrongUse for a set that nobody
    can download, ReproError when the network, the disk or the content fails; a partial file is never left
    under the final name.
    """
    entry = find(name)
    if entry.samples:
        raise WrongUse(
            f"{name} needs no download: it is part of the installation; look with ./repro data check"
        )
    if entry.download is None:
        where = f"get it at {entry.url}" if entry.url else "it is your own"
        raise WrongUse(
            f"{name} cannot be downloaded by a program: {where} and pass data_root ({entry.layout})"
        )
    path = downloaded(entry, project) / entry.download.file
    if path.is_file() and file_sha256(path) == entry.download.sha256:
        return path
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        _fetch(entry.download, partial, on_progress)
        found = file_sha256(partial)
        if found != entry.download.sha256:
            raise ReproError(
                f"{entry.download.url} gave another file than the published one: SHA-256 {found}, "
                f"expected {entry.download.sha256}; try again later, and from another network"
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _fetch(source: Download, target: Path, on_progress: Callable[[int, int], None]) -> None:
    done = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:
            for chunk in _chunks(source, target.parent):
                stream.write(chunk)
                done += len(chunk)
                on_progress(done, source.bytes)
    except OSError as error:
        raise ReproError(
            f"cannot write into {target.parent} ({error}); {source.bytes} bytes are needed"
        ) from error


def _chunks(source: Download, folder: Path) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(source.url, timeout=TIMEOUT_S) as answer:
            while chunk := answer.read(CHUNK_BYTES):
                yield chunk
    except (OSError, HTTPException) as error:
        raise ReproError(
            f"cannot fetch {source.url} ({error}); try again, bring {source.file} by hand into {folder}, "
            "or pass data_root"
        ) from error
