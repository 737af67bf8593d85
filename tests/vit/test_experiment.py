"""The experiment's bench and arms."""

import pytest
import torch

from lib.errors import WrongUse
from lib.vit import spvit
from lib.vit.experiment import Bench, prepare, soft_accuracies, train_arm
from lib.vit.finetune import Recipe

RECIPE = Recipe(epochs=1, batch_size=20)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return prepare("small_vit", "fashion_mnist", "", CPU, images=40, test_images=50)


def test_bench_has_as_many_images_as_asked_for(bench: Bench) -> None:
    assert (len(bench.train), len(bench.test), len(bench.probe)) == (40, 50, 50)
    assert not bench.dense.training


def test_copies_of_the_dense_network_are_independent(bench: Bench) -> None:
    copy = bench.copy()
    with torch.no_grad():
        next(copy.parameters()).add_(1)
    assert not torch.equal(next(copy.parameters()), next(bench.dense.parameters()))


@pytest.mark.parametrize(("backbone", "dataset"), [("deit_s", "fashion_mnist"), ("small_vit", "imagenet")])
def test_backbone_without_weights_for_the_data_is_refused(backbone: str, dataset: str) -> None:
    with pytest.raises(WrongUse, match=f"{backbone} for {dataset}"):
        prepare(backbone, dataset, "", CPU, images=40, test_images=50)


def test_arm_is_trained_tested_and_repeatable(bench: Bench) -> None:
    arms = []
    for _ in range(2):
        host = spvit.prune_randomly(bench.copy(), (34, 24, 16))
        arms.append(train_arm("random", host, bench, spvit.objective((0.7, 0.49, 0.343)), RECIPE, seed=3))
    first, second = arms
    assert first.accuracy == second.accuracy
    assert 0 <= first.accuracy <= 100
    assert [step.loss for step in first.history] == [step.loss for step in second.history]
    assert len(first.history) == 2


def test_sweep_gives_an_accuracy_for_every_keep_ratio_also_one(bench: Bench) -> None:
    scores = soft_accuracies(bench, (1.0, 0.5), RECIPE, seed=0)
    assert list(scores) == [1.0, 0.5]
    assert soft_accuracies(bench, (), RECIPE, seed=0) == {}
