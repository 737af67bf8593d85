"""Training from scratch: augmentation, learning rate, what a loss is told, which images are used."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import ReproError
from lib.lab.datasets import ImageSplit, load
from lib.lab.fit import FitStep, Schedule, augment, classification, fit, rate


@pytest.fixture(scope="module")
def split() -> ImageSplit:
    return load("fashion_mnist", "train", limit=30)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def test_augmented_images_are_shifted_or_flipped_copies() -> None:
    images = torch.zeros(200, 1, 6, 6)
    images[:, :, 2, 1] = 1.0
    moved = augment(images, torch.Generator().manual_seed(0), 2)
    assert moved.shape == images.shape
    places = {tuple(place.tolist()) for place in moved[:, 0].nonzero()[:, 1:]}
    rows, columns = {row for row, _ in places}, {column for _, column in places}
    assert rows == {0, 1, 2, 3, 4}
    # column 1, or 4 when flipped, up to two pixels to either side
    assert columns == {0, 1, 2, 3, 4, 5}


def test_without_shift_an_image_is_itself_or_its_mirror() -> None:
    images = torch.rand(50, 1, 4, 4)
    moved = augment(images, torch.Generator().manual_seed(0), 0)
    same = (moved == images).flatten(1).all(1)
    mirrored = (moved == images.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 10 < same.sum() < 40


def test_learning_rate_warms_up_and_falls_to_one_hundredth() -> None:
    schedule = Schedule(epochs=3, learning_rate=1.0, warmup_epochs=1.0)
    rates = [rate(schedule, step, 10) for step in range(31)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[20] == pytest.approx(0.505)
    assert rates[30] == pytest.approx(0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_steps_epochs_and_the_odd_batch_are_counted(split: ImageSplit) -> None:
    model = linear()
    steps = list(fit(model, split, Schedule(2, batch_size=20), torch.Generator(), classification(model)))
    assert [(step.index, step.total, step.epoch, step.ends_epoch) for step in steps] == [
        (1, 4, 0, False),
        (2, 4, 0, True),
        (3, 4, 1, False),
        (4, 4, 1, True),
    ]
    assert not model.training


def test_loss_is_told_which_images_it_gets_and_how_far_training_is(split: ImageSplit) -> None:
    model, seen, progressed = linear(), [], []

    def loss(images: Tensor, labels: Tensor, places: Tensor, progress: float) -> Tensor:
        assert model.training
        assert torch.equal(labels, split.labels[places])
        seen.append(places)
        progressed.append(progress)
        return F.cross_entropy(model(images), labels)

    list(fit(model, split, Schedule(2, batch_size=15), torch.Generator().manual_seed(0), loss))
    assert progressed == [0.0, 0.25, 0.5, 0.75]
    first, second = torch.cat(seen[:2]), torch.cat(seen[2:])
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(30))
    assert torch.equal(second.sort().values, torch.arange(30))


def test_only_the_chosen_images_of_an_epoch_are_used(split: ImageSplit) -> None:
    model, seen = linear(), []

    def loss(images: Tensor, labels: Tensor, places: Tensor, progress: float) -> Tensor:
        seen.append(sorted(places.tolist()))
        return F.cross_entropy(model(images), labels)

    parts = [torch.tensor([1, 5, 9]), torch.tensor([0, 2, 29])]
    list(fit(model, split, Schedule(2), torch.Generator(), loss, chosen=parts.__getitem__))
    assert seen == [[1, 5, 9], [0, 2, 29]]


def test_equal_generators_train_equal_networks(split: ImageSplit) -> None:
    def trained(seed: int) -> list[FitStep]:
        model = linear()
        generator = torch.Generator().manual_seed(seed)
        return list(fit(model, split, Schedule(1, batch_size=10), generator, classification(model)))

    assert trained(0) == trained(0)
    assert trained(0) != trained(1)


def test_a_loss_that_is_not_finite_stops_the_training(split: ImageSplit) -> None:
    model = linear()

    def loss(images: Tensor, labels: Tensor, places: Tensor, progress: float) -> Tensor:
        return model(images).sum() * float("nan")

    with pytest.raises(ReproError, match="lower learning_rate"):
        list(fit(model, split, Schedule(1), torch.Generator(), loss))
