"""The classifier and its training."""

import math

import pytest
import torch

from lib.errors import WrongUse
from lib.lab.admm import Masks
from lib.quantum.circuits import Circuit, Gate, build
from lib.quantum.model import Model, Recipe, accuracy, fit, margin, train
from tests.quantum.parts import splits


def model(seed: int = 0) -> Model:
    return Model(build("A", 2, features=4), 2, torch.Generator().manual_seed(seed))


def test_angles_are_double_precision_and_within_pi() -> None:
    angles = model().angles
    assert angles.dtype == torch.float64
    assert angles.abs().max() <= math.pi
    assert torch.equal(angles, model().angles)
    assert not torch.equal(angles, model(1).angles)


def test_accuracy_and_margin_by_hand() -> None:
    scores = torch.tensor([[1.0, 0.5], [0.0, 2.0], [3.0, 1.0]])
    labels = torch.tensor([0, 1, 1])
    assert float(accuracy(scores, labels)) == pytest.approx(200 / 3)
    assert margin(scores, labels) == pytest.approx((0.5 + 2 - 2) / 3)


def test_accuracies_of_several_sets_of_angles() -> None:
    trained, task = model(), splits()
    other = trained.angles.detach() + 1
    several = trained.accuracies(task.test, torch.stack([trained.angles.detach(), other]))
    assert float(several[0]) == trained.accuracy(task.test)


def test_training_lowers_the_loss_and_learns_an_easy_task() -> None:
    trained = model()
    history = train(trained, splits(), Recipe(epochs=20, batch=8), torch.Generator().manual_seed(0))
    assert history.losses[-1] < history.losses[0]
    assert trained.accuracy(splits().test) >= 90


def test_best_epoch_is_kept() -> None:
    trained = model()
    scores = iter([0.0, 1.0, 5.0, 2.0])
    seen = []

    def score() -> float:
        seen.append(trained.angles.detach().clone())
        return next(scores)

    history = fit(trained, splits(), Recipe(3), torch.Generator().manual_seed(0), score=score)
    assert history.kept == 2
    assert torch.equal(trained.angles, seen[2])


def test_no_epochs_leave_the_angles() -> None:
    trained = model()
    before = trained.angles.detach().clone()
    assert train(trained, splits(), Recipe(0), torch.Generator()).losses == ()
    assert torch.equal(trained.angles, before)


def test_held_angles_do_not_move() -> None:
    trained = model()
    before = trained.angles.detach().clone()
    held = torch.arange(len(before)) % 2 == 0
    masks = Masks({"angles": trained.angles}, {"angles": held})
    fit(trained, splits(), Recipe(2), torch.Generator().manual_seed(0), score=lambda: 0.0, held=masks)
    assert torch.equal(trained.angles[held], before[held])
    assert not torch.equal(trained.angles[~held], before[~held])


def test_copies_have_angles_of_their_own() -> None:
    first = model()
    second = first.copy()
    with torch.no_grad():
        second.angles.zero_()
    assert first.angles.abs().sum() > 0


def test_what_cannot_be_trained_is_refused() -> None:
    bare = Circuit(2, "angle", 1, (Gate("ry", (0,), input=0),))
    with pytest.raises(WrongUse, match="no trained angle"):
        Model(bare, 2, torch.Generator())
    with pytest.raises(WrongUse, match="shared evenly among 3"):
        Model(build("A"), 3, torch.Generator())
    with pytest.raises(WrongUse, match="learning rate > 0"):
        Recipe(learning_rate=0)
