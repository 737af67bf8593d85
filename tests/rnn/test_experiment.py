"""The recurrent experiment on a few steps of JapaneseVowels: what is shared, held out, kept and repeated."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.lab.sequence_splits import SequenceSplit
from lib.lab.sequences import load_sequences
from lib.rnn.experiment import SETTINGS, Bench, dense_arm, hold_out, prepare, prune_arm, tie_arm
from lib.rnn.networks import SequenceClassifier, gate_matrices
from lib.rnn.training import LabelledSequences, Recipe

QUICK = Recipe(epochs=2, rounds=1, retrain_epochs=1, batch_size=64)


@dataclass(frozen=True)
class Leading:
    """Keeps the first P/rate rows."""

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        rows = max(1, round(len(weight) / rate))
        return (torch.arange(len(weight)) < rows)[:, None].expand(weight.shape)


@dataclass(frozen=True)
class RowMeans:
    """Ties the weights of each row to their mean."""

    def project(self, weight: Tensor) -> Tensor:
        return weight.mean(dim=1, keepdim=True).expand(weight.shape)

    def rate(self, weight: Tensor) -> float:
        return float(weight.shape[1])


@pytest.fixture(scope="module")
def bench() -> Bench:
    return prepare("japanese_vowels", hidden=6, recipe=QUICK)


def split_of(bench: Bench, part: str) -> SequenceSplit:
    task = getattr(bench, part)
    assert isinstance(task, LabelledSequences)
    return task.split


def test_validation_is_held_out_of_training_and_never_of_the_test_split(bench: Bench) -> None:
    whole = load_sequences("japanese_vowels", "train")
    fitting, validation = split_of(bench, "train"), split_of(bench, "validation")
    assert (len(fitting), len(validation)) == (216, 54)
    assert torch.bincount(validation.labels).tolist() == [6] * 9
    both = torch.cat([fitting.frames, validation.frames]).flatten(1).sum(1).sort().values
    assert torch.equal(both, whole.frames.flatten(1).sum(1).sort().values)
    assert torch.equal(split_of(bench, "test").frames, load_sequences("japanese_vowels", "test").frames)


def test_holding_out_takes_the_last_of_every_few_of_each_class() -> None:
    fitting, validation = hold_out(torch.tensor([0, 1, 0, 0, 1, 1, 0, 2]), every=2)
    assert validation.tolist() == [2, 4, 6]
    assert fitting.tolist() == [0, 1, 3, 5, 7]


def test_a_seed_gives_the_same_network_again(bench: Bench) -> None:
    again, other = (prepare("japanese_vowels", hidden=6, recipe=QUICK, seed=seed) for seed in (0, 1))
    own = bench.dense.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in again.dense.state_dict().items())
    assert again.accuracy == bench.accuracy
    assert not torch.equal(
        gate_matrices(other.dense)["recurrent.weight_hh_l0"], own["recurrent.weight_hh_l0"]
    )


def test_an_arm_is_pruned_and_the_dense_network_is_not_touched(bench: Bench) -> None:
    before = {name: value.clone() for name, value in bench.dense.state_dict().items()}
    arm = prune_arm("leading", bench, Leading(), 3.0)
    assert all(torch.equal(value, before[name]) for name, value in bench.dense.state_dict().items())
    assert arm.kept == pytest.approx(1 / 3)
    for name, matrix in gate_matrices(arm.network).items():
        assert arm.masks[name].sum(dim=1).tolist() == [matrix.shape[1]] * 6 + [0] * 12
        assert not matrix[6:].any()
        assert matrix[:6].all()
    assert arm.accuracy == arm.score.accuracy == bench.test.score(arm.network).accuracy
    assert arm.validation == bench.validation.score(arm.network).accuracy


def test_rate_one_without_training_is_the_dense_network(bench: Bench) -> None:
    arm = prune_arm("same", bench, Leading(), 1.0, Recipe(epochs=0, rounds=0, retrain_epochs=0))
    assert (arm.kept, arm.score) == (1.0, bench.score)
    own = bench.dense.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in arm.network.state_dict().items())


def test_an_arm_repeats_itself_with_its_seed(bench: Bench) -> None:
    first, second, other = (prune_arm("x", bench, Leading(), 3.0, seed=seed) for seed in (0, 0, 1))
    assert first.score == second.score
    assert first.score.loss != other.score.loss


def test_tied_weights_stay_tied(bench: Bench) -> None:
    arm = tie_arm("means", bench, RowMeans())
    for matrix in gate_matrices(arm.network).values():
        assert torch.equal(matrix, matrix[:, :1].expand(matrix.shape))
    # 18 parameters stand for 18 x 12 and 18 x 6 weights
    assert arm.kept == pytest.approx(36 / (18 * 18))
    assert all(mask.all() for mask in arm.masks.values())


def test_other_cells_are_prepared(bench: Bench) -> None:
    net = prepare("japanese_vowels", cell="ligru", hidden=4, layers=2, recipe=QUICK).dense
    assert isinstance(net, SequenceClassifier)
    assert [tuple(matrix.shape) for matrix in gate_matrices(net).values()] == [
        (8, 12),
        (8, 4),
        (8, 4),
        (8, 4),
    ]


def test_unknown_data_and_unfit_cells_are_refused() -> None:
    with pytest.raises(WrongUse, match="no recurrent experiment on 'cifar10'; known: japanese_vowels"):
        prepare("cifar10")
    with pytest.raises(WrongUse, match="pass data_root"):
        prepare("spoken_digits")
    with pytest.raises(WrongUse, match="made of gru or lstm, not ligru"):
        prepare("ptb", cell="ligru")
    assert set(SETTINGS) == {"japanese_vowels", "spoken_digits", "timit", "ptb"}


def test_the_dense_arm_trains_on_and_loses_nothing(bench: Bench) -> None:
    arm = dense_arm(bench)
    assert arm.kept == 1
    name = "recurrent.weight_hh_l0"
    assert not torch.equal(arm.network.get_parameter(name), bench.dense.get_parameter(name))
