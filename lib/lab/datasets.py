"""Loads any image data set by name: embedded samples, public sets and the papers' own data through one call.

    train = load("fashion_mnist", "train")
    for images, labels in train.batches(64, generator=generator): ...
    val = load("imagenet", "val", data_root="/where/imagenet/is")

`lib.catalogue` holds the names and the layouts. Sequences are loaded by `lib.lab.sequences`.
"""

import difflib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lib.catalogue import DataSet, find
from lib.errors import WrongUse
from lib.lab.cifar import SIDE, open_cifar10
from lib.lab.fine_grained import READERS, ListedImages, open_fine_grained
from lib.lab.image_folders import ClassFolders, find_split
from lib.lab.image_splits import FolderSplit, ImageSplit, MemorySplit, SplitFacts, Transform
from lib.lab.torchvision_ops import prepare_torchvision
from lib.samples import file_sha256, sample

__all__ = ["FolderSplit", "ImageSplit", "MemorySplit", "load"]

PHOTOGRAPH_SIZE = 224


def load(
    name: str,
    split: str,
    *,
    data_root: str = "",
    image_size: int | None = None,
    limit: int | None = None,
    classes: Sequence[str] | None = None,
) -> ImageSplit:
    """The split `split` ("train", "test" or "val") of the data set `name`.

    `image_size` is the side of the square images, the set's own by default (224 for photographs, which are
    resized and cut out at the centre). `classes` keeps these classes and numbers them in the order given.
    `limit` keeps that many images, spread evenly over the classes and chosen from the front of each.
    Normalisation never depends on `limit` or `classes`.

    Raises WrongUse for a wrong name, split, class, size or layout; ReproError for data that are missing or
    damaged.
    """
    entry = find(name, "images")
    if image_size is not None and image_size < 1:
        raise WrongUse(f"image_size must be at least 1, not {image_size}")
    if limit is not None and limit < 1:
        raise WrongUse(f"limit must be at least 1, not {limit}")
    if entry.tier == "embedded":
        return _load_embedded(entry, split, image_size, limit, classes)
    if name == "cifar10":
        return _load_cifar10(entry, split, data_root, image_size, limit, classes)
    return _load_folders(entry, split, data_root, image_size or PHOTOGRAPH_SIZE, limit, classes)


def choose(
    labels: Tensor, known: Sequence[str], wanted: Sequence[str], limit: int | None
) -> tuple[Tensor, Tensor]:
    """Indices of the images to keep, in order, and their labels renumbered by `wanted`."""
    renumber = torch.full((len(known),), -1)
    for label, name in enumerate(wanted):
        renumber[list(known).index(name)] = label
    chosen = torch.nonzero(renumber[labels] >= 0)[:, 0]
    kept = renumber[labels[chosen]]
    if limit is not None and limit < len(chosen):
        rank = torch.empty_like(kept)
        for label in range(len(wanted)):
            of_class = torch.nonzero(kept == label)[:, 0]
            rank[of_class] = torch.arange(len(of_class))
        first = torch.argsort(rank, stable=True)[:limit].sort().values
        chosen, kept = chosen[first], kept[first]
    return chosen, kept


def check_classes(name: str, known: Sequence[str], classes: Sequence[str] | None) -> tuple[str, ...]:
    """The classes to load, all of them by default; WrongUse for an unknown one, a repeated one, or none."""
    if classes is None:
        return tuple(known)
    if len(set(classes)) != len(classes) or not classes:
        raise WrongUse(f"classes of {name} must name at least one class, and none twice")
    for wanted in classes:
        if wanted not in known:
            near = difflib.get_close_matches(wanted, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known[:20])}"
            raise WrongUse(f"{name} has no class {wanted!r}; {hint}")
    return tuple(classes)


def _load_embedded(
    entry: DataSet, split: str, image_size: int | None, limit: int | None, classes: Sequence[str] | None
) -> ImageSplit:
    if split not in ("train", "test"):
        raise WrongUse(f"{entry.name} has no split {split!r}; known: train, test")
    path = sample(entry.samples[0])
    with np.load(path) as arrays:
        images = torch.from_numpy(arrays[f"{split}_images"])[:, None]
        labels = torch.from_numpy(arrays[f"{split}_labels"]).long()
    in_file = find("fashion_mnist").classes if entry.samples == ("fashion_mnist",) else entry.classes
    wanted = check_classes(entry.name, entry.classes, classes)
    chosen, kept = choose(labels, in_file, wanted, limit)
    facts = _facts(entry, split, wanted, file_sha256(path), image_size or images.shape[-1])
    return MemorySplit(facts, images[chosen], kept)


def _load_cifar10(
    entry: DataSet,
    split: str,
    data_root: str,
    image_size: int | None,
    limit: int | None,
    classes: Sequence[str] | None,
) -> ImageSplit:
    source = open_cifar10(entry, split, data_root)
    wanted = check_classes(entry.name, entry.classes, classes)
    chosen, kept = choose(source.labels, entry.classes, wanted, limit)
    facts = _facts(entry, split, wanted, source.sha256, image_size or SIDE)
    return MemorySplit(facts, source.pixels(chosen), kept)


def _load_folders(
    entry: DataSet,
    split: str,
    data_root: str,
    image_size: int,
    limit: int | None,
    classes: Sequence[str] | None,
) -> ImageSplit:
    source: ClassFolders | ListedImages
    if entry.name in READERS:
        source = open_fine_grained(entry.name, split, data_root)
    else:
        path = find_split(data_root, split, entry.name)
        source = ClassFolders(path, imagenet_classes() if entry.name == "imagenet" else ())
    wanted = check_classes(entry.name, source.classes, classes)
    chosen, kept = choose(source.labels, source.classes, wanted, limit)
    facts = _facts(entry, split, wanted, source.sha256, image_size)
    return FolderSplit(facts, source, chosen, kept, photograph_transform(facts))


def photograph_transform(facts: SplitFacts) -> Transform:
    """The usual evaluation view: shorter side to image_size / 0.875 (bicubic), centre cut out, normalised."""
    prepare_torchvision()
    from timm.data.transforms_factory import create_transform

    transform: Transform = create_transform(
        input_size=(len(facts.mean), facts.image_size, facts.image_size),
        is_training=False,
        interpolation="bicubic",
        crop_pct=0.875,
        mean=facts.mean,
        std=facts.std,
    )
    return transform


def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 WordNet identifiers of ImageNet-1k in label order."""
    prepare_torchvision()
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())


def _facts(entry: DataSet, split: str, classes: tuple[str, ...], sha256: str, image_size: int) -> SplitFacts:
    return SplitFacts(
        name=entry.name,
        tier=entry.tier,
        split=split,
        classes=classes,
        mean=entry.mean,
        std=entry.std,
        sha256=sha256,
        image_size=image_size,
    )
