"""The training of the committed weights, going on after a kill."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from lib.errors import ReproError
from lib.lab import pretrain
from lib.lab.pretrain import Recipe, train
from lib.samples import sample

SHORT = Recipe(epochs=2, batch_size=16)


@pytest.fixture
def _no_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained networks are compared by their weights; scoring two thousand images would only take time."""
    monkeypatch.setattr(pretrain, "accuracy", lambda model, split: 0.0)


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


@pytest.mark.parametrize(("name", "recipe"), [("vit_fashion", Recipe()), ("vit_cifar10", Recipe(epochs=12))])
def test_committed_weights_were_made_by_the_recipe_that_is_stated(name: str, recipe: Recipe) -> None:
    with safe_open(sample(name), framework="pt") as file:
        facts = file.metadata()
    assert Recipe(**json.loads(facts["recipe"])) == recipe
