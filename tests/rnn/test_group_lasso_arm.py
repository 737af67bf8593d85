"""The lasso's arm of the experiment, on a few utterances."""

from dataclasses import replace

import pytest
import torch

from lib.rnn.experiment import prepare
from lib.rnn.group_lasso_arm import lasso_arm
from lib.rnn.row_groups import outside_blocks
from lib.rnn.training import Recipe

QUICK = Recipe(epochs=1, rounds=1, retrain_epochs=1)


def test_an_arm_keeps_its_rate_and_its_pattern_through_retraining() -> None:
    bench = prepare("japanese_vowels", hidden=16, layers=1, recipe=QUICK)
    before = {name: value.clone() for name, value in bench.dense.state_dict().items()}
    arm = lasso_arm("lasso", bench, (4, 4), 5, strength=1.0e-5)
    assert arm.kept == pytest.approx(0.2, rel=0.1)
    for name, mask in arm.masks.items():
        weight = dict(arm.network.named_parameters())[name]
        assert not weight[~mask].any()
        assert outside_blocks(mask, (4, 4)) == 0
    assert all(torch.equal(before[name], value) for name, value in bench.dense.state_dict().items())


def test_equal_seeds_give_equal_arms() -> None:
    bench = prepare("japanese_vowels", hidden=8, layers=1, recipe=replace(QUICK, epochs=0))
    first, second = (lasso_arm("lasso", bench, (4, 4), 2, 1.0e-5, seed=3) for _ in range(2))
    assert first.score == second.score
    assert all(torch.equal(first.masks[name], second.masks[name]) for name in first.masks)
