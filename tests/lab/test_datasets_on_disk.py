"""Class folders and tar files: miniatures of the layouts of CIFAR-10, ImageNet and one's own images."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib import catalogue
from lib.catalogue import Download, find
from lib.errors import ReproError, WrongUse
from lib.lab import image_folders
from lib.lab.datasets import FolderSplit, imagenet_classes, load
from lib.samples import file_sha256

CIFAR10 = find("cifar10").classes


def picture(path: Path, seed: int, size: tuple[int, int] = (32, 32)) -> None:
    """Writes a picture of noise; each seed gives another."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def class_folders(root: Path, classes: tuple[str, ...], count: int, ending: str = "png") -> Path:
    for label, name in enumerate(classes):
        for number in range(count):
            picture(root / name / f"{number:04}.{ending}", 100 * label + number)
    return root


def tar(folder: Path, *, prefix: str = "./") -> Path:
    """Packs a folder of class folders as `tar -C folder .` does, and removes the folder."""
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as archive:
        archive.add(folder, prefix)
    shutil.rmtree(folder)
    return path


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 255


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """data_root of classes whose natural order is not the sorted one; two training images each."""
    class_folders(tmp_path / "train", ("9", "10", "cat"), 2)
    class_folders(tmp_path / "test", ("9", "10", "cat"), 1)
    return tmp_path


def test_classes_are_numbered_by_sorted_folder_name(own: Path) -> None:
    split = load("class_folders", "train", data_root=str(own), image_size=32)
    assert split.classes == ("10", "9", "cat")
    assert torch.bincount(split.labels).tolist() == [2, 2, 2]
    first_nine = split.labels.tolist().index(1)
    image, label = split[first_nine]
    assert label == 1
    raw = image * torch.tensor(split.std)[:, None, None] + torch.tensor(split.mean)[:, None, None]
    assert raw.shape == (3, 32, 32)


def test_data_root_may_begin_at_the_home(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(own.parent))
    assert load("class_folders", "train", data_root=f"~/{own.name}").sha256 == (
        load("class_folders", "train", data_root=str(own)).sha256
    )


def test_the_image_under_an_index_is_the_file_of_its_label(own: Path) -> None:
    folders = image_folders.ClassFolders(own / "train")
    for index in range(len(folders)):
        path = own / "train" / folders.filename(index)
        assert path.parent.name == folders.classes[int(folders.labels[index])]
        assert np.array_equal(np.array(folders.image(index)), np.array(Image.open(path)))


def test_a_tar_file_gives_the_same_images_as_its_folder(own: Path) -> None:
    plain = load("class_folders", "train", data_root=str(own))
    before = [plain[index] for index in range(len(plain))]
    tar(own / "train")
    packed = load("class_folders", "train", data_root=str(own))
    assert packed.classes == plain.classes
    assert packed.sha256 == plain.sha256
    for index, (image, label) in enumerate(before):
        packed_image, packed_label = packed[index]
        assert label == packed_label
        assert torch.equal(image, packed_image)


def test_reading_leaves_the_users_folder_as_it_was(own: Path) -> None:
    tar(own / "train")
    before = sorted(own.rglob("*"))
    _ = load("class_folders", "train", data_root=str(own))[0]
    assert sorted(own.rglob("*")) == before


def test_a_tar_of_class_tars_is_read(tmp_path: Path) -> None:
    """ImageNet's training images are published so."""
    class_folders(tmp_path / "plain", ("a", "b"), 2)
    with tarfile.open(tmp_path / "train.tar", "w") as outer:
        for name in ("a", "b"):
            inner = tmp_path / f"{name}.tar"
            with tarfile.open(inner, "w") as archive:
                for path in sorted((tmp_path / "plain" / name).iterdir()):
                    archive.add(path, path.name)
            outer.add(inner, inner.name)
    folders = image_folders.ClassFolders(tmp_path / "train.tar")
    assert folders.classes == ("a", "b")
    assert sorted(folders.labels.tolist()) == [0, 0, 1, 1]
    image = np.array(folders.image(folders.labels.tolist().index(1)))
    assert any(
        np.array_equal(image, np.array(Image.open(path))) for path in (tmp_path / "plain" / "b").iterdir()
    )


def test_workers_read_the_same_batches(own: Path) -> None:
    tar(own / "train")
    split = load("class_folders", "train", data_root=str(own), image_size=32)
    split[0]
    alone = list(split.batches(4, generator=torch.Generator().manual_seed(3)))
    helped = list(split.batches(4, generator=torch.Generator().manual_seed(3), workers=2))
    for (images, labels), (others, other_labels) in zip(alone, helped, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


def test_classes_and_limit_choose_among_the_folders(own: Path) -> None:
    split = load("class_folders", "train", data_root=str(own), classes=["cat", "10"], limit=2)
    assert split.classes == ("cat", "10")
    assert sorted(split.labels.tolist()) == [0, 1]


def test_photographs_are_cut_to_squares_of_the_size_asked_for(tmp_path: Path) -> None:
    picture(tmp_path / "test" / "wide" / "0.jpg", 0, size=(90, 40))
    picture(tmp_path / "test" / "tall" / "0.jpeg", 1, size=(31, 64))
    images, _ = next(iter(load("class_folders", "test", data_root=str(tmp_path), image_size=48).batches(2)))
    assert images.shape == (2, 3, 48, 48)
    assert load("class_folders", "test", data_root=str(tmp_path))[0][0].shape == (3, 224, 224)


def test_another_transform_sees_the_same_images(own: Path) -> None:
    split = load("class_folders", "train", data_root=str(own))
    assert isinstance(split, FolderSplit)
    tiny = split.with_transform(lambda image: torch.tensor([float(np.array(image).mean())]))
    assert tiny[3][0].shape == (1,)
    assert tiny[3][1] == split[3][1]


def test_val_and_test_stand_for_each_other(own: Path) -> None:
    assert len(load("class_folders", "val", data_root=str(own))) == 3
    (own / "test").rename(own / "val")
    assert len(load("class_folders", "test", data_root=str(own))) == 3


def test_another_listing_has_another_hash(own: Path) -> None:
    before = load("class_folders", "train", data_root=str(own)).sha256
    assert load("class_folders", "train", data_root=str(own)).sha256 == before
    picture(own / "train" / "cat" / "more.png", 77)
    assert load("class_folders", "train", data_root=str(own)).sha256 != before


# What can be wrong with a folder


def test_no_data_root_is_asked_for() -> None:
    with pytest.raises(WrongUse, match="imagenet is not part of the repository: pass data_root"):
        load("imagenet", "val")


def test_a_data_root_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match=r"data_root .*/nowhere of imagenet is not a folder"):
        load("imagenet", "val", data_root=str(tmp_path / "nowhere"))


def test_an_unknown_split_is_refused(own: Path) -> None:
    with pytest.raises(WrongUse, match="class_folders has no split 'training'; known: train, test, val"):
        load("class_folders", "training", data_root=str(own))


def test_a_missing_split_says_what_was_found(own: Path) -> None:
    shutil.rmtree(own / "train")
    (own / "readme.txt").write_text("hello")
    with pytest.raises(WrongUse, match=r"expected train/ or train\.tar .* found readme\.txt, test/"):
        load("class_folders", "train", data_root=str(own))


def test_a_root_one_level_too_deep_gets_a_hint(own: Path) -> None:
    with pytest.raises(WrongUse, match=f"if these are the class folders, data_root is {own}$"):
        load("class_folders", "train", data_root=str(own / "train"))


def test_an_empty_class_is_named(own: Path) -> None:
    (own / "train" / "dog").mkdir()
    with pytest.raises(WrongUse, match="train: class folder without images: dog"):
        load("class_folders", "train", data_root=str(own))


def test_a_hidden_folder_is_no_class(own: Path) -> None:
    (own / "train" / ".ipynb_checkpoints").mkdir()
    assert len(load("class_folders", "train", data_root=str(own)).classes) == 3


@pytest.mark.parametrize("packed", [False, True])
def test_an_image_outside_any_class_is_named(own: Path, packed: bool) -> None:
    picture(own / "train" / "stray.png", 5)
    if packed:
        tar(own / "train")
    with pytest.raises(WrongUse, match=r"expected CLASS/IMAGE, found stray\.png outside any class folder"):
        load("class_folders", "train", data_root=str(own))


def test_folders_inside_class_folders_are_refused(own: Path) -> None:
    picture(own / "train" / "cat" / "siamese" / "0.png", 6)
    with pytest.raises(WrongUse, match="images deeper down, in a folder siamese"):
        load("class_folders", "train", data_root=str(own))


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_without_images_says_what_counts_as_one(tmp_path: Path, packed: bool) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("none")
    if packed:
        tar(tmp_path / "train")
    with pytest.raises(WrongUse, match=r"images ending in .*\.jpg.*, found none"):
        load("class_folders", "train", data_root=str(tmp_path))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_named_and_not_passed_over(own: Path, packed: bool, workers: int) -> None:
    (own / "train" / "cat" / "0000.png").write_bytes(b"not a picture")
    if packed:
        tar(own / "train")
    split = load("class_folders", "train", data_root=str(own))
    with pytest.raises(
        ReproError, match=r"^\S*cat/0000\.png is not a readable image \(.*restore it"
    ) as error:
        list(split.batches(2, workers=workers))
    assert "\n" not in str(error.value)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train" / "cat" / "0.jpg"
    picture(path, 0, size=(64, 64))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(ReproError, match=r"cat/0\.jpg is not a readable image \(image file is truncated"):
        load("class_folders", "train", data_root=str(tmp_path))[0]


def test_a_broken_tar_file_is_named(own: Path) -> None:
    path = tar(own / "train")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ReproError, match=r"train\.tar is not a readable tar file"):
        load("class_folders", "train", data_root=str(own))


# ImageNet


def tar_of_one_image_a_class(path: Path, classes: tuple[str, ...]) -> None:
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "JPEG")
    with tarfile.open(path, "w") as archive:
        for name in classes:
            member = tarfile.TarInfo(f"{name}/{name}.JPEG")
            member.size = len(content.getvalue())
            archive.addfile(member, io.BytesIO(content.getvalue()))


def test_imagenet_labels_follow_the_thousand_identifiers(tmp_path: Path) -> None:
    classes = imagenet_classes()
    assert list(classes) == sorted(set(classes))
    tar_of_one_image_a_class(tmp_path / "val.tar", classes)
    split = load("imagenet", "val", data_root=str(tmp_path))
    assert split.classes == classes
    assert split.labels.tolist() == list(range(1000))
    assert (split.tier, split.image_size, split.channels) == ("paper", 224, 3)


def test_imagenet_without_one_of_its_classes_is_refused(tmp_path: Path) -> None:
    tar_of_one_image_a_class(tmp_path / "val.tar", imagenet_classes()[1:])
    with pytest.raises(
        WrongUse, match=r"expected 1000 class folders .*1 are missing or empty, such as n01440764"
    ):
        load("imagenet", "val", data_root=str(tmp_path))


# CIFAR-10


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_from_class_folders(tmp_path: Path, packed: bool) -> None:
    class_folders(tmp_path / "train", CIFAR10, 2)
    truck = pixels(tmp_path / "train" / "truck" / "0000.png")
    if packed:
        tar(tmp_path / "train")
    split = load("cifar10", "train", data_root=str(tmp_path))
    assert (len(split), split.classes, split.image_size) == (20, CIFAR10, 32)
    image, label = split[split.labels.tolist().index(9)]
    raw = image * torch.tensor(split.std)[:, None, None] + torch.tensor(split.mean)[:, None, None]
    assert label == 9
    assert torch.allclose(raw, truck, atol=1e-6)


def test_cifar10_decodes_only_what_is_asked_for(tmp_path: Path) -> None:
    class_folders(tmp_path / "test", CIFAR10, 2)
    (tmp_path / "test" / "dog" / "0001.png").write_bytes(b"not a picture")
    assert len(load("cifar10", "test", data_root=str(tmp_path), limit=10)) == 10
    with pytest.raises(ReproError, match=r"dog/0001\.png is not a readable image"):
        load("cifar10", "test", data_root=str(tmp_path))


def test_cifar10_images_must_have_its_size(tmp_path: Path) -> None:
    class_folders(tmp_path / "test", CIFAR10, 1)
    picture(tmp_path / "test" / "frog" / "0000.png", 1, size=(33, 32))
    with pytest.raises(ReproError, match=r"frog/0000\.png is 33x32 pixels, expected 32x32"):
        load("cifar10", "test", data_root=str(tmp_path))


def test_folders_of_another_data_set_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "test", (*CIFAR10[:-1], "lorry"), 1)
    with pytest.raises(WrongUse, match="such as truck; 1 are not of this data set, such as lorry"):
        load("cifar10", "test", data_root=str(tmp_path))


def test_cifar10_has_no_validation_split(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="cifar10 has no split 'val'; known: train, test"):
        load("cifar10", "val", data_root=str(tmp_path))


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data_root with an archive laid out as the published one, two images a batch."""
    path = tmp_path / "cifar-10-binary.tar.gz"
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    with tarfile.open(path, "w:gz") as archive:
        for batch, name in enumerate(names):
            records = b"".join(
                bytes([label]) + bytes([label] * 1024) + bytes([batch] * 1024) + bytes(1024)
                for label in (9, batch)
            )
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(records)
            archive.addfile(member, io.BytesIO(records))
    download = Download(url="https://example.org", file=path.name, bytes=1, sha256=file_sha256(path))
    entry = find("cifar10").model_copy(update={"download": download})
    monkeypatch.setattr(catalogue, "DATA_SETS", (entry,))
    return tmp_path


def test_cifar10_from_the_published_archive(published: Path) -> None:
    split = load("cifar10", "train", data_root=str(published))
    assert split.labels.tolist() == [9, 0, 9, 1, 9, 2, 9, 3, 9, 4]
    raw = split[7][0] * torch.tensor(split.std)[:, None, None] + torch.tensor(split.mean)[:, None, None]
    assert torch.allclose(raw.mean(dim=(1, 2)) * 255, torch.tensor([3.0, 3.0, 0.0]), atol=1e-3)
    assert load("cifar10", "test", data_root=str(published)).labels.tolist() == [9, 5]
    assert split.sha256 == file_sha256(published / "cifar-10-binary.tar.gz")


def test_a_changed_archive_is_refused(published: Path) -> None:
    (published / "cifar-10-binary.tar.gz").write_bytes(b"half of it")
    with pytest.raises(
        ReproError, match=r"is not the published file: SHA-256 .*run \./repro data get cifar10"
    ):
        load("cifar10", "train", data_root=str(published))


def test_cifar10_that_is_not_here_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib.lab import cifar

    monkeypatch.setattr(cifar, "downloaded", lambda entry: tmp_path)
    with pytest.raises(
        ReproError, match=r"cifar10 is not here: run \./repro data get cifar10, or pass data_root"
    ):
        load("cifar10", "train")
