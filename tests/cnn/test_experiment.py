"""Schedules and benches of the pruning experiments."""

import pytest
import torch

from lib.cnn.experiment import PUBLISHED_PULL, Bench, SgdSchedule, matched_strength, prepare, train
from lib.errors import WrongUse
from lib.lab.fit import classification, rate


def bench(images: int = 40) -> Bench:
    return prepare(
        "resnet_small",
        "fashion_mnist",
        "",
        torch.device("cpu"),
        images=images,
        held_out=10,
        test_images=20,
        generator=torch.Generator().manual_seed(0),
    )


def test_published_pull_by_hand() -> None:
    assert pytest.approx(0.1 * (80 + 4 + 0.4) * 196 * 1e-4, rel=0.04) == PUBLISHED_PULL


@pytest.mark.parametrize(("epochs", "images"), [(1, 65), (7, 640)])
def test_strength_makes_up_for_the_length_of_the_training(epochs: int, images: int) -> None:
    schedule = SgdSchedule(epochs)
    steps = -(-images // 64)
    total = sum(rate(schedule, step, steps) for step in range(epochs * steps))
    assert total * matched_strength(schedule, images) == pytest.approx(PUBLISHED_PULL)


def test_bench_has_the_images_asked_for() -> None:
    made = bench()
    assert (len(made.train), len(made.held_out), len(made.test)) == (30, 10, 20)
    assert made.image.shape == (1, 1, 28, 28)
    assert [len(b) for b in made.batches(2, torch.Generator().manual_seed(0), 8)] == [8, 8]


def test_training_calls_back_after_every_epoch_and_ends_in_evaluation_mode() -> None:
    made, epochs = bench(), list[int]()
    model = made.build()
    losses = train(
        "test",
        model,
        made,
        SgdSchedule(2),
        torch.Generator().manual_seed(0),
        classification(model),
        at_epoch=epochs.append,
    )
    assert len(losses) == 2
    assert epochs == [1, 2]
    assert not model.training


def test_other_data_are_refused() -> None:
    with pytest.raises(WrongUse, match="no experiment on 'imagenet'"):
        prepare(
            "resnet_small",
            "imagenet",
            "",
            torch.device("cpu"),
            images=2,
            held_out=1,
            test_images=1,
            generator=torch.Generator(),
        )
