"""Images that come with the repository: what `load` gives, and what it refuses."""

import pytest
import torch

from lib.errors import WrongUse
from lib.lab.datasets import ImageSplit, choose, load
from lib.samples import file_sha256, sample

EMBEDDED = ["fashion_mnist", "fashion_upper_body", "mnist_5k"]


def everything(split: ImageSplit) -> tuple[torch.Tensor, torch.Tensor]:
    return next(iter(split.batches(len(split))))


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [("fashion_mnist", 1000, 200), ("fashion_upper_body", 1000, 200), ("mnist_5k", 400, 100)],
)
def test_every_class_has_the_same_number_of_images(name: str, train: int, test: int) -> None:
    for part, count in (("train", train), ("test", test)):
        split = load(name, part)
        assert torch.bincount(split.labels).tolist() == [count] * len(split.classes)


@pytest.mark.parametrize("name", EMBEDDED)
def test_training_images_are_standardised(name: str) -> None:
    images, _ = everything(load(name, "train"))
    assert images.mean().item() == pytest.approx(0, abs=1e-3)
    assert images.std().item() == pytest.approx(1, abs=1e-3)


def test_a_split_says_what_it_is() -> None:
    split = load("fashion_mnist", "test")
    assert (split.name, split.tier, split.split) == ("fashion_mnist", "embedded", "test")
    assert (split.channels, split.image_size) == (1, 28)
    assert split.classes[9] == "Ankle boot"
    assert split.sha256 == file_sha256(sample("fashion_mnist"))


def test_an_item_is_the_same_as_in_a_batch() -> None:
    split = load("fashion_mnist", "test")
    images, labels = everything(split)
    image, label = split[7]
    assert isinstance(label, int)
    assert torch.equal(image, images[7])
    assert label == labels[7]


def test_the_first_images_are_the_official_ones() -> None:
    assert load("fashion_mnist", "train").labels[:8].tolist() == [9, 0, 0, 3, 0, 2, 7, 2]


def test_upper_body_images_are_those_of_fashion_mnist_renumbered() -> None:
    whole, part = load("fashion_mnist", "test"), load("fashion_upper_body", "test")
    for label, name in enumerate(part.classes):
        assert int((part.labels == label).sum()) == int((whole.labels == whole.classes.index(name)).sum())
    shirt = part.labels.tolist().index(part.classes.index("Shirt"))
    twin = whole.labels.tolist().index(whole.classes.index("Shirt"))
    raw_part = part[shirt][0] * part.std[0] + part.mean[0]
    raw_whole = whole[twin][0] * whole.std[0] + whole.mean[0]
    assert torch.allclose(raw_part, raw_whole, atol=1e-6)


def test_classes_are_numbered_in_the_order_given() -> None:
    split = load("mnist_5k", "test", classes=["5", "3"])
    assert split.classes == ("5", "3")
    whole = load("mnist_5k", "test")
    threes = whole.labels == 3
    assert torch.equal(everything(split)[0][split.labels == 1], everything(whole)[0][threes])


def test_a_limit_is_spread_over_the_classes() -> None:
    split = load("mnist_5k", "train", limit=25)
    assert len(split) == 25
    assert set(torch.bincount(split.labels).tolist()) == {2, 3}


def test_a_limit_beyond_the_split_keeps_all() -> None:
    assert len(load("mnist_5k", "test", limit=10_000)) == 1000


def test_a_limit_keeps_the_order_of_the_images() -> None:
    labels = torch.tensor([0, 0, 1, 0, 1, 1])
    chosen, kept = choose(labels, ("a", "b"), ("a", "b"), 3)
    assert chosen.tolist() == [0, 1, 2]
    assert kept.tolist() == [0, 0, 1]


def test_normalisation_depends_on_neither_limit_nor_classes() -> None:
    whole = load("mnist_5k", "train")
    assert load("mnist_5k", "train", limit=10, classes=["1"]).mean == whole.mean


def test_halving_the_size_averages_squares_of_pixels() -> None:
    image, halved = load("fashion_mnist", "test")[0][0], load("fashion_mnist", "test", image_size=14)[0][0]
    squares = image.reshape(14, 2, 14, 2).mean(dim=(1, 3))
    assert torch.allclose(halved[0], squares, atol=1e-5)


def test_images_can_be_enlarged() -> None:
    split = load("fashion_mnist", "test", image_size=32)
    assert split[0][0].shape == (1, 32, 32)
    assert split.image_size == 32


def test_a_generator_shuffles_and_its_seed_decides_the_order() -> None:
    split = load("mnist_5k", "test")
    orders = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        orders.append(torch.cat([labels for _, labels in split.batches(300, generator=generator)]))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert torch.equal(orders[0].sort().values, split.labels.sort().values)


def test_without_a_generator_the_order_is_the_splits_own_and_global_randomness_untouched() -> None:
    split = load("mnist_5k", "test")
    before = torch.get_rng_state()
    batches = [labels for _, labels in split.batches(300)]
    assert [len(labels) for labels in batches] == [300, 300, 300, 100]
    assert torch.equal(torch.cat(batches), split.labels)
    assert torch.equal(torch.get_rng_state(), before)


def test_augmentation_gets_each_batch_and_the_generator() -> None:
    split = load("mnist_5k", "test", limit=20)
    generator = torch.Generator().manual_seed(0)
    seen = []

    def brighten(images: torch.Tensor, given: torch.Generator) -> torch.Tensor:
        seen.append(given is generator)
        return images + 100

    images = torch.cat([images for images, _ in split.batches(8, generator=generator, augment=brighten)])
    assert seen == [True, True, True]
    assert images.min() > 90


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2, "augment": lambda images, generator: images}, "pass one"),
    ],
)
def test_wrong_batch_options_are_refused_at_once(options: dict[str, object], message: str) -> None:
    split = load("mnist_5k", "test", limit=10)
    with pytest.raises(ValueError, match=message):
        split.batches(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "fashion_mnits"}, "unknown data set 'fashion_mnits'; did you mean 'fashion_mnist'"),
        ({"name": "japanese_vowels"}, "unknown data set 'japanese_vowels'"),
        ({"split": "validation"}, "fashion_mnist has no split 'validation'; known: train, test"),
        ({"limit": 0}, "limit must be at least 1, not 0"),
        ({"image_size": 0}, "image_size must be at least 1, not 0"),
        ({"classes": ["Shrit"]}, "fashion_mnist has no class 'Shrit'; did you mean 'Shirt'"),
        ({"classes": []}, "at least one class"),
        ({"classes": ["Bag", "Bag"]}, "none twice"),
        ({"name": "fashion_upper_body", "classes": ["Bag"]}, "fashion_upper_body has no class 'Bag'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(options: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"name": "fashion_mnist", "split": "train"} | options
    with pytest.raises(WrongUse, match=message):
        load(**arguments)  # type: ignore[arg-type]
