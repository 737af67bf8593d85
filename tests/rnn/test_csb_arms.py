"""The structures that CSB-RNN is compared with: equal rates, known names, a control that does not look."""

import pytest
import torch

from lib.errors import WrongUse
from lib.rnn.csb_arms import masked_structures, train_structure, train_structures
from lib.rnn.experiment import Bench, prepare
from lib.rnn.structure import measured_rate
from lib.rnn.training import Recipe

NAMES = ("csb", "unstructured", "row_balanced", "bank_balanced", "columns", "random")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return prepare("japanese_vowels", hidden=16, recipe=Recipe(epochs=1, rounds=1, retrain_epochs=1))


def test_all_structures_keep_equally_many_weights() -> None:
    weight = torch.randn(96, 48, generator=torch.Generator().manual_seed(0))
    known = masked_structures(8, seed=0)
    assert tuple(known) == NAMES
    for structure in known.values():
        assert measured_rate(structure.mask(weight, 4)) == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize("shape", [(384, 12), (384, 128)])
def test_rates_are_equal_on_the_matrices_of_the_experiment(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for structure in masked_structures(8, seed=0).values():
        assert measured_rate(structure.mask(weight, 12)) == pytest.approx(12, rel=0.05)


def test_the_control_ignores_the_weights() -> None:
    weight = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    control = masked_structures(8, seed=1)["random"]
    assert torch.equal(control.mask(weight, 4), control.mask(-3 * weight.flip(0), 4))


def test_circulant_blocks_have_the_rate_as_their_side(bench: Bench) -> None:
    arm = train_structure("circulant", bench, 8, 4.0, seed=0)
    assert arm.kept == pytest.approx(1 / 4, rel=0.05)


def test_an_arm_keeps_its_structure_through_training(bench: Bench) -> None:
    arm = train_structure("csb", bench, 8, 4.0, seed=0)
    assert arm.kept == pytest.approx(1 / 4, rel=0.1)
    assert 0 <= arm.accuracy <= 100


def test_names_are_checked_before_any_training(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.rnn.csb_arms.prune_arm", None)
    with pytest.raises(WrongUse, match="no structure 'csd'; known: csb"):
        train_structures(["csb", "csd"], bench, 8, 4.0, seed=0)
    with pytest.raises(WrongUse, match="must hold 'csb'"):
        train_structures(["unstructured", "circulant"], bench, 8, 4.0, seed=0)


def test_arms_come_by_name(bench: Bench) -> None:
    arms = train_structures(["csb", "circulant"], bench, 8, 4.0, seed=0)
    assert [(name, arm.name) for name, arm in arms.items()] == [("csb", "csb"), ("circulant", "circulant")]
