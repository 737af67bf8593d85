"""The tasks: what their features and labels are, and that no sample is in two parts."""

import math

import pytest
import torch

from lib.errors import WrongUse
from lib.quantum.data import Samples, load


@pytest.mark.parametrize(
    "name", ["synthetic-16", "xor-4", "mnist-3-6", "mnist-3-5-8-9", "fashion-pullover-coat"]
)
def test_parts_have_their_shares_and_every_class(name: str) -> None:
    splits = load(name, 0, samples=400)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [200, 80, 120]
    for part in (splits.train, splits.validation, splits.test):
        assert set(part.labels.tolist()) == set(range(len(splits.classes)))
        assert part.inputs.dtype == torch.float64


@pytest.mark.parametrize("name", ["synthetic-16", "mnist-3-5"])
def test_parts_share_no_sample(name: str) -> None:
    splits = load(name, 1)
    every = torch.cat([splits.train.inputs, splits.validation.inputs, splits.test.inputs])
    assert len(every.unique(dim=0)) == len(every)


def test_seed_decides() -> None:
    same, again, other = (load("mnist-3-6", seed).train.inputs for seed in (0, 0, 1))
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_digits_are_all_there_at_four_by_four_between_zero_and_pi() -> None:
    splits = load("mnist-3-5", 0)
    inputs = torch.cat([splits.train.inputs, splits.validation.inputs, splits.test.inputs])
    assert inputs.shape == (1000, 16)
    assert splits.classes == ("3", "5")
    assert 0 <= inputs.min() < inputs.max() <= math.pi


def test_classes_are_numbered_in_the_order_asked_for() -> None:
    assert load("fashion-coat-pullover", 0, samples=40).classes == ("Coat", "Pullover")


def test_synthetic_label_is_the_weighted_sum() -> None:
    train = load("synthetic-4", 0).train
    x = train.inputs
    score = (x[:, 0] + x[:, 1] + 3 * x[:, 2] + 3 * x[:, 3]) / 4
    assert torch.equal(train.labels, (score >= 2 * math.pi).long())


def test_xor_label_is_whether_the_halves_differ() -> None:
    train = load("xor-4", 0).train
    high = train.inputs.unflatten(1, (2, 2)).mean(2) > math.pi
    assert (train.labels == (high[:, 0] ^ high[:, 1]).long()).double().mean() > 0.99


@pytest.mark.parametrize("name", ["synthetic", "synthetic-x", "mnist", "mnist-3", "letters-3-5", ""])
def test_unknown_tasks_are_refused(name: str) -> None:
    with pytest.raises(WrongUse, match="tasks are named like synthetic-16"):
        load(name, 0)


def test_other_misuse_is_refused() -> None:
    with pytest.raises(WrongUse, match="even number of features, not 3"):
        load("synthetic-3", 0)
    with pytest.raises(WrongUse, match="at least 10 samples"):
        load("synthetic-4", 0, samples=3)
    with pytest.raises(WrongUse, match="has no class 'x'"):
        load("mnist-3-x", 0)
    with pytest.raises(WrongUse, match="one label each"):
        Samples(torch.zeros(2, 3), torch.zeros(3))
