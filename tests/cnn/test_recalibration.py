"""Batch statistics estimated anew."""

import copy

import pytest
import torch
from torch import nn

from lib.cnn.recalibration import check_statistics, recalibrate
from lib.errors import ReproError, WrongUse
from tests.cnn.parts import network, pictures


def test_statistics_are_means_over_batches_by_hand() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1)).eval()
    batches = [torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[4.0, 10.0]]]])]
    recalibrate(model, batches)
    norm = model[0]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # means 1 and 7, unbiased variances 2 and 18
    assert norm.running_mean.tolist() == pytest.approx([4.0])
    assert norm.running_var.tolist() == pytest.approx([10.0])


def test_weights_mode_and_momentum_stay_and_the_result_is_deterministic() -> None:
    model = network()
    weights = {name: value.clone() for name, value in model.named_parameters()}
    other = copy.deepcopy(model)
    for each in (model, other):
        recalibrate(each, [pictures(8), pictures(5)])
    assert not model.training
    assert all(torch.equal(weights[name], value) for name, value in model.named_parameters())
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), other.buffers(), strict=True))


def test_no_batches_are_refused() -> None:
    with pytest.raises(WrongUse, match="at least one batch"):
        recalibrate(network(), [])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_named(bad: float) -> None:
    images = pictures(4)
    images[0, 0, 3, 3] = bad
    with pytest.raises(ReproError, match=r"activations before stem\.0\.1 are not finite"):
        recalibrate(network(), [images])


def test_finite_statistics_pass() -> None:
    check_statistics({"a.running_mean": torch.zeros(3)})
