"""The exponent rule, the loss and its penalties, by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.cnn.rapq import Recipe, beta_at, bn_exponent, decision_penalty, reconstruction_loss
from lib.errors import WrongUse


def test_the_exponent_by_hand() -> None:
    # 512 scales of 1: (512 - 1) / 512 = 0.998, sigmoid 0.731, 1 + 0.9 x 0.731 = 1.658
    assert bn_exponent(torch.ones(512), 0.9) == 1.7
    assert bn_exponent(torch.ones(512), 0.1) == 1.1


@given(st.integers(8, 512), st.floats(0.2, 5))
def test_small_c_says_nothing_of_a_unit(size: int, mean: float) -> None:
    assert bn_exponent(torch.full((size,), mean), 0.1) == 1.1
    assert 1.5 <= bn_exponent(torch.full((size,), mean), 0.9) <= 1.9


def test_without_bn_or_c_the_exponent_is_two() -> None:
    assert bn_exponent(None, 0.9) == 2.0
    assert bn_exponent(torch.ones(4), 0.0) == 2.0


def test_the_loss_sums_channels_and_averages_the_rest() -> None:
    output = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])  # one image, two channels, two positions
    assert reconstruction_loss(output, torch.zeros_like(output), 2.0).item() == 2.5
    found = reconstruction_loss(output, torch.zeros_like(output), 1.5).item()
    assert found == pytest.approx((1 + 2**1.5) / 2)


def test_the_gradient_is_finite_where_nothing_is_wrong() -> None:
    output = torch.zeros(1, 2, 2, requires_grad=True)
    reconstruction_loss(output, torch.zeros(1, 2, 2), 1.1).backward()
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()


def test_the_penalty_is_nothing_at_the_ends_and_one_in_the_middle() -> None:
    assert decision_penalty([torch.tensor([9.0, -9.0])], 20).item() == 0
    assert decision_penalty([torch.zeros(3)], 20).item() == 3


def test_beta_falls_after_the_warm_up() -> None:
    recipe = Recipe(100, 0, warmup=0.2)
    assert beta_at(0, recipe) == beta_at(20, recipe) == 20
    assert beta_at(60, recipe) == 11
    assert beta_at(100, recipe) == 2


def test_exponents_are_learned_in_a_share_of_the_iterations() -> None:
    assert Recipe(100, 0, scale_share=0.2).scale_iterations == 20
    assert Recipe(1, 0).scale_iterations == 1
    assert Recipe(0, 0).scale_iterations == 0


@pytest.mark.parametrize(
    "wrong", [{"iterations": -1}, {"batch_size": 0}, {"scale_share": 1.0}, {"warmup": math.inf}]
)
def test_impossible_recipes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(WrongUse):
        Recipe(**{"iterations": 1, "activation_iterations": 1, **wrong})  # type: ignore[arg-type]
