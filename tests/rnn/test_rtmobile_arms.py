"""Arms of RTMobile's experiment: equal training, equal rates, and controls that are what they are called."""

import pytest
import torch

from lib.rnn.experiment import Bench, prepare
from lib.rnn.rtmobile import BlockStructured
from lib.rnn.rtmobile_arms import one_shot, structure_arms
from lib.rnn.training import Recipe

QUICK = Recipe(epochs=1, rounds=1, retrain_epochs=1)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return prepare("japanese_vowels", hidden=16, layers=1, recipe=QUICK)


def test_one_shot_retrains_for_all_epochs_of_admm() -> None:
    found = one_shot(Recipe(epochs=9, rounds=3, retrain_epochs=4, epochs_a_round=2, stages=5))
    assert (found.rounds, found.retrain_epochs, found.epochs) == (0, 4 + 30, 9)


def test_all_arms_reach_the_rate_and_the_blind_one_chooses_otherwise(bench: Bench) -> None:
    arms = structure_arms(bench, BlockStructured(4, 2, 1.25), 4, seed=0)
    assert set(arms) == {"bsp", "one_shot", "unstructured", "columns", "random"}
    for arm in arms.values():
        assert arm.kept == pytest.approx(0.25, rel=0.1)
    name = "recurrent.weight_hh_l0"
    assert not torch.equal(arms["random"].masks[name], arms["bsp"].masks[name])
