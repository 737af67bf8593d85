"""The manifest of samples: what is trusted, what is refused, and what the refusal says."""

import hashlib
from pathlib import Path

import pytest
import yaml

from lib.errors import ReproError, WrongUse
from lib.project import REPOSITORY, Project
from lib.samples import check_samples, read_manifest, sample, sample_hashes

CONTENT = b"some pixels"


def entry(**changes: object) -> dict[str, object]:
    facts: dict[str, object] = {
        "file": "pixels.npz",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "bytes": len(CONTENT),
        "what": "w",
        "licence": "l",
        "source": "s",
        "citation": "c",
        "made": "m",
    }
    return facts | changes


def write(project: Project, **entries: dict[str, object]) -> None:
    project.samples.mkdir(parents=True, exist_ok=True)
    (project.samples / "manifest.yaml").write_text(yaml.safe_dump({"samples": entries}))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    write(made, pixels=entry())
    (made.samples / "pixels.npz").write_bytes(CONTENT)
    return made


def test_a_sample_with_the_right_content_is_found(project: Project) -> None:
    assert sample("pixels", project).read_bytes() == CONTENT


def test_an_unknown_name_gets_the_nearest_one(project: Project) -> None:
    with pytest.raises(WrongUse, match="'pixel'; did you mean 'pixels'"):
        sample("pixel", project)


def test_changed_content_is_refused_with_both_hashes_and_the_remedy(project: Project) -> None:
    (project.samples / "pixels.npz").write_bytes(b"other pixels")
    with pytest.raises(ReproError) as error:
        sample("pixels", project)
    for part in (
        "pixels.npz",
        hashlib.sha256(CONTENT).hexdigest(),
        hashlib.sha256(b"other pixels").hexdigest(),
        "git checkout -- data/samples/pixels.npz",
    ):
        assert part in str(error.value)


def test_a_missing_file_is_refused_with_the_remedy(project: Project) -> None:
    (project.samples / "pixels.npz").unlink()
    with pytest.raises(ReproError, match=r"pixels\.npz is missing; bring it back with: git checkout"):
        sample("pixels", project)


def test_a_package_that_is_not_installed_is_named(project: Project) -> None:
    write(project, pixels=entry(package="no-such-package-of-ours==1.0", file="data/pixels.npz"))
    with pytest.raises(
        ReproError, match=r"no-such-package-of-ours==1\.0, which is not installed; install it"
    ):
        sample("pixels", project)


def test_a_package_of_another_version_is_refused(project: Project) -> None:
    write(project, pixels=entry(package="pytest==0.0.1", file="data/pixels.npz"))
    with pytest.raises(ReproError, match=rf"pytest==0\.0\.1, but {pytest.__version__} is installed"):
        sample("pixels", project)


def test_a_file_inside_an_installed_package_is_found(project: Project) -> None:
    content = Path(pytest.__file__).read_bytes()
    facts = entry(
        package=f"pytest=={pytest.__version__}",
        file="pytest/__init__.py",
        sha256=hashlib.sha256(content).hexdigest(),
    )
    write(project, pixels=facts)
    assert sample("pixels", project).read_bytes() == content


def test_hashes_come_in_order_of_name_and_only_for_good_files(project: Project) -> None:
    write(project, pixels=entry(), again=entry())
    assert list(sample_hashes(project, ["pixels", "again", "pixels"])) == ["again", "pixels"]
    (project.samples / "pixels.npz").write_bytes(b"other pixels")
    with pytest.raises(ReproError, match="is not the file that the manifest names"):
        sample_hashes(project, ["pixels"])


def test_check_tells_good_missing_damaged_and_unlisted_apart(project: Project) -> None:
    (project.samples / "bent.npz").write_bytes(b"other pixels")
    (project.samples / "stray.safetensors").write_bytes(b"weights")
    write(project, pixels=entry(), bent=entry(file="bent.npz"), gone=entry(file="gone.npz"))
    states = {result.name: result.state for result in check_samples(project)}
    assert states == {"pixels": "ok", "bent": "damaged", "gone": "missing", "stray": "unlisted"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sha256": "abc"}, "samples.pixels.sha256"),
        ({"licence": None}, "samples.pixels.licence"),
        ({"colour": "red"}, "samples.pixels.colour"),
        ({"file": "../pixels.npz"}, "samples.pixels"),
        ({"package": "pytest"}, "samples.pixels"),
    ],
)
def test_a_wrong_manifest_is_refused_by_field(
    project: Project, changes: dict[str, object], field: str
) -> None:
    write(project, pixels=entry(**changes))
    with pytest.raises(WrongUse, match=rf"manifest\.yaml: {field}: "):
        read_manifest(project)


def test_a_manifest_that_is_not_yaml_is_refused(project: Project) -> None:
    (project.samples / "manifest.yaml").write_text("samples: [")
    with pytest.raises(WrongUse, match=r"manifest\.yaml: not valid YAML"):
        read_manifest(project)


def test_a_project_without_samples_has_none(tmp_path: Path) -> None:
    assert check_samples(Project(tmp_path)) == []


def test_every_committed_sample_is_listed_and_whole() -> None:
    results = check_samples(REPOSITORY)
    assert {result.name for result in results} >= {"fashion_mnist", "mnist_5k", "japanese_vowels_train"}
    assert [result for result in results if result.state != "ok"] == []


def test_the_manifest_gives_the_size_of_every_sample() -> None:
    for name, facts in read_manifest(REPOSITORY).samples.items():
        assert sample(name).stat().st_size == facts.bytes, name
