"""CUB-200-2011, Stanford Dogs and iNat2017: miniatures in their official layouts, whole and damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from lib.errors import ReproError, WrongUse
from lib.lab.datasets import load

NAMES = ("cub200", "stanford_dogs", "inat2017")


def picture(path: Path, value: int, mode: str = "RGB") -> None:
    """A flat picture of 20x16 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (20, 16), value).convert(mode).save(path)


def cub200(root: Path) -> Path:
    """Two species, three pictures each; the third of each is for testing. One is grey, one CMYK."""
    names = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    lists: dict[str, list[str]] = {name: [] for name in ("images", "image_class_labels", "train_test_split")}
    for index in range(6):
        label, path = index // 3, f"{names[index // 3]}/{index}.jpg"
        picture(root / "images" / path, 40 * index, {0: "L", 1: "CMYK"}.get(index, "RGB"))
        lists["images"].append(path)
        lists["image_class_labels"].append(str(label + 1))
        lists["train_test_split"].append(str(int(index % 3 < 2)))
    for name, values in {**lists, "classes": list(names)}.items():
        (root / f"{name}.txt").write_text("".join(f"{n} {v}\n" for n, v in enumerate(values, start=1)))
    return root


def stanford_dogs(root: Path) -> Path:
    """Two breeds, whose folders are not in the order of their labels; two pictures to train on each."""
    folders = ("n02-Maltese", "n01-Chihuahua")
    for split, numbers in (("train", (0, 1)), ("test", (2,))):
        files = [
            (f"{folder}/{number}.jpg", 1 + label)
            for label, folder in enumerate(folders)
            for number in numbers
        ]
        for file, label in files:
            picture(root / "Images" / file, 50 * label)
        listed = np.empty((len(files), 1), dtype=object)
        listed[:, 0] = [file for file, _ in files]
        savemat(
            root / f"{split}_list.mat", {"file_list": listed, "labels": np.array([[n] for _, n in files])}
        )
    return root


def inat2017(root: Path, folder: str = "train_val_images") -> Path:
    """Two species of the same name in two supercategories; identifiers that are not places in the list."""
    kingdoms = {7: "Insecta", 3: "Plantae"}
    categories = [
        {"id": key, "name": "Pieris rapae", "supercategory": kingdom} for key, kingdom in kingdoms.items()
    ]
    for split, numbers in (("train", (0, 1)), ("val", (2,))):
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for category, kingdom in kingdoms.items():
            for number in numbers:
                file, key = f"{kingdom}/Pieris rapae/{number}.jpg", 100 * category + number
                picture(root / folder / file, 30 * number)
                images.insert(0, {"id": key, "file_name": f"train_val_images/{file}"})
                annotations.append({"image_id": key, "category_id": category})
        content = {"categories": categories, "images": images, "annotations": annotations}
        (root / f"{split}2017.json").write_text(json.dumps(content))
    return root


MAKE: dict[str, Callable[[Path], Path]] = {
    "cub200": cub200,
    "stanford_dogs": stanford_dogs,
    "inat2017": inat2017,
}


@pytest.mark.parametrize("name", NAMES)
def test_both_splits_load_with_their_classes_and_sizes(name: str, tmp_path: Path) -> None:
    root = MAKE[name](tmp_path)
    train, test = (load(name, split, data_root=str(root), image_size=32) for split in ("train", "test"))
    assert (len(train), len(test)) == (4, 2)
    assert train.classes == test.classes
    assert train.labels.tolist() == [0, 0, 1, 1] or name == "inat2017"
    assert train.tier == "paper"
    images, _ = next(train.batches(4))
    assert images.shape == (4, 3, 32, 32)


def test_classes_of_dogs_are_in_the_order_of_their_labels(tmp_path: Path) -> None:
    split = load("stanford_dogs", "train", data_root=str(stanford_dogs(tmp_path)))
    assert split.classes == ("n02-Maltese", "n01-Chihuahua")


def test_species_of_one_name_stay_apart_and_are_numbered_by_identifier(tmp_path: Path) -> None:
    split = load("inat2017", "val", data_root=str(inat2017(tmp_path)))
    assert split.classes == ("Plantae/Pieris rapae", "Insecta/Pieris rapae")
    assert split.labels.tolist() == [1, 0]


def test_the_newer_name_of_the_image_folder_serves_too(tmp_path: Path) -> None:
    split = load("inat2017", "train", data_root=str(inat2017(tmp_path, "train_val2017")), image_size=8)
    assert split[3][0].shape == (3, 8, 8)


def test_no_image_is_in_both_splits_of_birds(tmp_path: Path) -> None:
    from lib.lab.fine_grained import open_fine_grained

    root = cub200(tmp_path)
    names = [
        {source.filename(i) for i in range(len(source))}
        for source in (open_fine_grained("cub200", split, str(root)) for split in ("train", "test"))
    ]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 6


@pytest.mark.parametrize(("index", "mode"), [(0, "L"), (1, "CMYK")])
def test_grey_and_cmyk_pictures_become_rgb(index: int, mode: str, tmp_path: Path) -> None:
    from lib.lab.fine_grained import open_fine_grained

    root = cub200(tmp_path)
    source = open_fine_grained("cub200", "train", str(root))
    assert Image.open(root / source.filename(index)).mode == mode
    assert source.image(index).mode == "RGB"


def test_the_hash_changes_with_the_images(tmp_path: Path) -> None:
    root = cub200(tmp_path)
    before = load("cub200", "train", data_root=str(root)).sha256
    assert load("cub200", "train", data_root=str(root)).sha256 == before
    file = root / "images" / "001.Black_footed_Albatross" / "0.jpg"
    file.write_bytes(file.read_bytes() + b"0")
    assert load("cub200", "train", data_root=str(root)).sha256 != before


def test_classes_and_limit_choose_images(tmp_path: Path) -> None:
    split = load(
        "stanford_dogs", "train", data_root=str(stanford_dogs(tmp_path)), limit=1, classes=["n01-Chihuahua"]
    )
    assert torch.equal(split.labels, torch.tensor([0]))


@pytest.mark.parametrize("name", NAMES)
def test_without_data_root_the_layout_is_explained(name: str) -> None:
    with pytest.raises(
        WrongUse, match=f"{name} is not part of the repository: pass data_root, the folder that"
    ):
        load(name, "train")


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_above_is_recognised(name: str, tmp_path: Path) -> None:
    MAKE[name](tmp_path / "inner")
    with pytest.raises(WrongUse, match=r"found none of them; data_root is probably .*inner"):
        load(name, "train", data_root=str(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_another_folder_and_another_split_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="found none of them"):
        load(name, "train", data_root=str(tmp_path))
    with pytest.raises(WrongUse, match="not a folder"):
        load(name, "train", data_root=str(tmp_path / "nowhere"))
    with pytest.raises(WrongUse, match="no split 'validation'"):
        load(name, "validation", data_root=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cub200", "image_class_labels.txt"),
        ("cub200", "images"),
        ("stanford_dogs", "train_list.mat"),
        ("inat2017", "val2017.json"),
        ("inat2017", "train_val_images"),
    ],
)
def test_a_missing_part_is_named_with_the_remedy(name: str, file: str, tmp_path: Path) -> None:
    root = MAKE[name](tmp_path)
    (root / file).rename(root / "elsewhere")
    with pytest.raises(ReproError, match=rf"{file}.* of {name} is missing; unpack its archives? again"):
        load(name, "train", data_root=str(root))


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("cub200", "images.txt", b"1\n", "line 1 is '1', expected two words; fetch it again"),
        ("cub200", "images.txt", b"1 a.jpg\n", "do not number the same images; fetch CUB_200_2011"),
        ("cub200", "classes.txt", b"1 a\n", "uses class 2, which classes.txt lacks; fetch CUB_200_2011"),
        ("cub200", "classes.txt", b"\xff\xfe\xff", "cannot be read .*; fetch it again"),
        ("stanford_dogs", "train_list.mat", b"MATLAB 5.0", r"not a readable list .*; fetch lists.tar again"),
        ("inat2017", "train2017.json", b'{"categories": [', "not a readable list .*; fetch it again"),
        ("inat2017", "train2017.json", b'{"images": []}', "not a readable list .*; fetch it again"),
    ],
)
def test_a_damaged_list_is_one_clear_error(
    name: str, file: str, content: bytes, message: str, tmp_path: Path
) -> None:
    root = MAKE[name](tmp_path)
    (root / file).write_bytes(content)
    with pytest.raises(ReproError, match=message):
        load(name, "train", data_root=str(root))


def test_a_dog_list_whose_labels_contradict_its_folders_is_refused(tmp_path: Path) -> None:
    root = stanford_dogs(tmp_path)
    listed = np.empty((2, 1), dtype=object)
    listed[:, 0] = ["n02-Maltese/0.jpg", "n01-Chihuahua/0.jpg"]
    savemat(root / "train_list.mat", {"file_list": listed, "labels": np.array([[1], [1]])})
    with pytest.raises(ReproError, match=r"contradict each other; fetch lists\.tar again"):
        load("stanford_dogs", "train", data_root=str(root))


@pytest.mark.parametrize("name", NAMES)
def test_a_listed_image_that_is_absent_is_named(name: str, tmp_path: Path) -> None:
    root = MAKE[name](tmp_path)
    next(root.rglob("1.jpg")).unlink()
    with pytest.raises(ReproError, match=r"1 of 4 listed images are not there, such as .*1\.jpg; unpack"):
        load(name, "train", data_root=str(root))


@pytest.mark.parametrize("name", NAMES)
def test_an_image_cut_short_is_named_when_it_is_read(name: str, tmp_path: Path) -> None:
    root = MAKE[name](tmp_path)
    for path in root.rglob("1.jpg"):
        path.write_bytes(path.read_bytes()[:40])
    split = load(name, "train", data_root=str(root), image_size=8)
    with pytest.raises(ReproError, match=r"1\.jpg is not a readable image .*; restore it"):
        list(split.batches(4))
