"""The structures that DARB is compared with: equal rates, known names."""

import pytest
import torch

from lib.errors import WrongUse
from lib.rnn.darb_arms import structures, train_structure, train_structures, with_masks
from lib.rnn.experiment import Bench, prepare
from lib.rnn.networks import gate_matrices
from lib.rnn.structure import measured_rate
from lib.rnn.training import Recipe


@pytest.fixture(scope="module")
def bench() -> Bench:
    return prepare("japanese_vowels", hidden=16, recipe=Recipe(epochs=1, rounds=1, retrain_epochs=1))


def test_a_rate_of_one_keeps_all() -> None:
    assert all(structure.mask(torch.randn(8, 8), 1).all() for structure in structures(0).values())


def test_all_structures_keep_equally_many_weights() -> None:
    weight = torch.randn(96, 64, generator=torch.Generator().manual_seed(0))
    for structure in structures(0).values():
        assert measured_rate(structure.mask(weight, 8)) == pytest.approx(8, rel=0.03)


def test_masks_are_applied_to_a_copy(bench: Bench) -> None:
    before = {name: weight.detach().clone() for name, weight in gate_matrices(bench.dense).items()}
    everything = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in before.items()}
    assert with_masks(bench, everything) == bench.accuracy
    with_masks(bench, {name: ~mask for name, mask in everything.items()})
    assert all(torch.equal(weight, before[name]) for name, weight in gate_matrices(bench.dense).items())


def test_an_arm_has_the_rate_that_was_asked_for(bench: Bench) -> None:
    assert train_structure("darb", bench, 4.0, seed=0).kept == pytest.approx(1 / 4, rel=0.05)


def test_names_are_checked_before_any_training(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.rnn.darb_arms.prune_arm", None)
    with pytest.raises(WrongUse, match="no structure 'brad'; known: darb"):
        train_structures(["darb", "brad"], bench, 4.0, seed=0)
    with pytest.raises(WrongUse, match="must hold 'darb'"):
        train_structures([], bench, 4.0, seed=0)
