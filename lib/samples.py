"""The small files that results rest on: listed in data/samples/manifest.yaml, trusted only by their hash.

A sample is a file committed in data/samples (images, trained weights) or, where the terms of the data do not
clearly allow committing it, a file inside a pinned Python package, found without importing that package.
"""

import difflib
import hashlib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lib.errors import ReproError, WrongUse
from lib.project import REPOSITORY, Project

MANIFEST = "manifest.yaml"


class Sample(BaseModel):
    """One entry of the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(description="name in data/samples, or the path inside the installed package")
    package: str | None = Field(None, description="pinned package that holds the file, as name==version")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(gt=0)]
    what: str
    licence: str
    source: str
    citation: str
    made: str = Field(description="command that makes the file again, or why there is none")
    provenance: dict[str, str | int | float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.package is None and Path(self.file).name != self.file:
            raise ValueError("a committed sample lies directly in data/samples")
        if self.package is not None and self.package.count("==") != 1:
            raise ValueError("package is written name==version")
        return self


class Manifest(BaseModel):
    """data/samples/manifest.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: dict[str, Sample]


class SampleCheck(BaseModel):
    """What `check_samples` found of one sample; `detail` is empty when all is well."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    state: Literal["ok", "missing", "damaged", "unlisted"]
    path: str
    detail: str = ""


def read_manifest(project: Project = REPOSITORY) -> Manifest:
    """The project's manifest; one without samples has none. Raises WrongUse naming file and field."""
    path = project.samples / MANIFEST
    if not path.exists():
        return Manifest(samples={})
    try:
        return Manifest.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise WrongUse(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise WrongUse(f"{path}: {field}: {first['msg']}") from error


def sample(name: str, project: Project = REPOSITORY) -> Path:
    """Path of the sample `name`, its content checked against the manifest.

    Raises WrongUse for an unknown name, ReproError for a missing or changed file.
    """
    samples = read_manifest(project).samples
    if name not in samples:
        near = difflib.get_close_matches(name, samples, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(samples)) or 'none'}"
        raise WrongUse(f"unknown sample {name!r}; {hint}")
    entry = samples[name]
    path = _locate(name, entry, project)
    found = file_sha256(path)
    if found != entry.sha256:
        raise ReproError(
            f"{path} is not the file that the manifest names: SHA-256 {found}, expected {entry.sha256}; "
            + _remedy(entry)
        )
    return path


def sample_hashes(project: Project, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each named sample, in order of name, after checking that the file really has it."""
    samples = read_manifest(project).samples
    hashes = {}
    for name in sorted(set(names)):
        sample(name, project)
        hashes[name] = samples[name].sha256
    return hashes


def check_samples(project: Project = REPOSITORY) -> list[SampleCheck]:
    """One result per sample of the manifest and per file in data/samples that the manifest does not list."""
    samples = read_manifest(project).samples
    results = []
    for name, entry in sorted(samples.items()):
        try:
            path = _locate(name, entry, project)
        except ReproError as error:
            results.append(SampleCheck(name=name, state="missing", path=entry.file, detail=str(error)))
            continue
        try:
            sample(name, project)
        except ReproError as error:
            results.append(SampleCheck(name=name, state="damaged", path=str(path), detail=str(error)))
        else:
            results.append(SampleCheck(name=name, state="ok", path=str(path)))
    listed = {entry.file for entry in samples.values()}
    for path in sorted(project.samples.glob("*.npz")) + sorted(project.samples.glob("*.safetensors")):
        if path.name not in listed:
            detail = f"add an entry with its hash, origin and licence to {MANIFEST}"
            results.append(SampleCheck(name=path.stem, state="unlisted", path=str(path), detail=detail))
    return results


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _locate(name: str, entry: Sample, project: Project) -> Path:
    if entry.package is None:
        path = project.samples / entry.file
    else:
        distribution, _, version = entry.package.partition("==")
        try:
            installed = metadata.distribution(distribution)
        except metadata.PackageNotFoundError as error:
            raise ReproError(
                f"{name} is read from the package {entry.package}, which is not installed; {_remedy(entry)}"
            ) from error
        if installed.version != version:
            raise ReproError(
                f"{name} is read from {entry.package}, but {installed.version} is installed; {_remedy(entry)}"
            )
        path = Path(str(installed.locate_file(entry.file)))
    if not path.is_file():
        raise ReproError(f"{name}: {path} is missing; {_remedy(entry)}")
    return path


def _remedy(entry: Sample) -> str:
    if entry.package is not None:
        return f"install it with: pip install --force-reinstall --no-deps {entry.package}"
    return f"bring it back with: git checkout -- data/samples/{entry.file}"
