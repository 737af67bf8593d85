"""The structures that CSB-RNN is compared with: equal rates, known names, a control that does not look."""

import pytest
import torch

from lib.errors import WrongUse
from lib.rnn.csb_arms import masked_structures, train_structure
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


def test_an_unknown_structure_is_named(bench: Bench) -> None:
    with pytest.raises(WrongUse, match="no structure 'csd'; known: csb"):
        train_structure("csd", bench, 8, 4.0, seed=0)
