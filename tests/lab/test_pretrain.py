"""The training of the committed weights: augmentation, learning rate, going on after a kill."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from lib.errors import ReproError
from lib.lab import pretrain
from lib.lab.pretrain import Recipe, augment, rate, train
from lib.samples import sample

SHORT = Recipe(epochs=2, batch_size=16)


@pytest.fixture
def _no_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained networks are compared by their weights; scoring two thousand images would only take time."""
    monkeypatch.setattr(pretrain, "accuracy", lambda model, split: 0.0)


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
    recipe = Recipe(epochs=3, learning_rate=1.0, warmup_epochs=1.0)
    rates = [rate(recipe, step, 10) for step in range(31)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[20] == pytest.approx(0.505)
    assert rates[30] == pytest.approx(0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.usefixtures("_no_scoring")
def test_killed_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = train(SHORT, tmp_path / "whole", limit=40)
    save = pretrain.save_state

    def save_and_die(*args: object) -> None:
        save(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "save_state", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(SHORT, tmp_path / "killed", limit=40)
    monkeypatch.setattr(pretrain, "save_state", save)
    resumed, _ = train(SHORT, tmp_path / "killed", limit=40)
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


@pytest.mark.usefixtures("_no_scoring")
def test_state_of_another_recipe_is_not_continued(tmp_path: Path) -> None:
    train(Recipe(epochs=1, batch_size=20), tmp_path, limit=20)
    with pytest.raises(ReproError, match="another recipe"):
        train(Recipe(epochs=1, batch_size=20, seed=1), tmp_path, limit=20)


def test_committed_weights_were_made_by_the_default_recipe() -> None:
    with safe_open(sample("vit_fashion"), framework="pt") as file:
        facts = file.metadata()
    assert Recipe(**json.loads(facts["recipe"])) == Recipe()
