"""ADMM: cases worked out by hand, masks that hold, rates that rise, and input that makes no sense."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from lib.errors import ReproError, WrongUse
from lib.lab.admm import (
    Admm,
    Masks,
    Reprojection,
    admm_rounds,
    progressive_rates,
    train_epochs,
)


def parameter(*values: float) -> dict[str, Parameter]:
    return {"w": Parameter(torch.tensor(values))}


def largest(count: int) -> Callable[[Tensor], Tensor]:
    """Keeps the `count` entries of largest magnitude."""

    def project(weight: Tensor) -> Tensor:
        chosen = weight.abs().flatten().argsort(descending=True)[:count]
        return (
            torch.zeros_like(weight).flatten().index_copy(0, chosen, weight.flatten()[chosen]).view_as(weight)
        )

    return project


def to_ones(weight: Tensor) -> Tensor:
    return torch.ones_like(weight)


def unchanged(weight: Tensor) -> Tensor:
    return weight


def circular(a: Tensor, b: Tensor) -> Tensor:
    """Difference of angles that repeat after 4 pi, in [-2 pi, 2 pi)."""
    return torch.remainder(a - b + 2 * math.pi, 4 * math.pi) - 2 * math.pi


def test_a_round_worked_out_by_hand() -> None:
    weights = parameter(3.0, -1.0, 2.0)
    admm = Admm(weights, {"w": largest(1)}, rho=0.5)
    assert admm.z["w"].tolist() == [3.0, 0.0, 0.0]
    assert admm.penalty().item() == pytest.approx(0.25 * (0 + 1 + 4))
    admm.update()
    assert admm.u["w"].tolist() == [0.0, -1.0, 2.0]
    admm.penalty().backward()
    # rho (W - Z + U) with W - Z = (0, -1, 2)
    assert weights["w"].grad is not None
    assert weights["w"].grad.tolist() == [0.0, -1.0, 2.0]
    admm.update()
    # W + U = (3, -2, 4): the third entry has overtaken the first
    assert admm.z["w"].tolist() == [0.0, 0.0, 4.0]
    assert admm.u["w"].tolist() == [3.0, -2.0, 0.0]
    assert admm.residual() == pytest.approx(math.sqrt((9 + 1 + 4) / 14))


def test_the_identity_projection_costs_nothing_and_holds_nothing() -> None:
    weights = parameter(3.0, -1.0, 2.0)
    admm = Admm(weights, {"w": unchanged}, rho=1.0)
    admm.update()
    assert (admm.penalty().item(), admm.residual()) == (0.0, 0.0)
    assert admm.harden().kept == 1.0
    assert weights["w"].tolist() == [3.0, -1.0, 2.0]


def test_a_convex_problem_is_solved() -> None:
    """min (w1 - 1)^2 + (w2 - 3)^2 with w1 = w2 has its minimum at (2, 2)."""
    weights = parameter(0.0, 0.0)
    target = torch.tensor([1.0, 3.0])
    admm = Admm(weights, {"w": lambda w: w.mean().expand(2)}, rho=1.0)

    def epoch() -> Iterator[Tensor]:
        for _ in range(40):
            yield (weights["w"] - target).square().sum()

    rounds = list(admm_rounds(admm, epoch, torch.optim.SGD(weights.values(), lr=0.1), 60))
    assert weights["w"].tolist() == pytest.approx([2.0, 2.0], abs=1e-3)
    assert [step.index for step in rounds] == list(range(1, 61))
    assert rounds[-1].residual < 1e-3 < rounds[0].residual
    assert rounds[-1].loss == pytest.approx(2.0, abs=0.01)


def test_without_rho_the_training_is_the_ordinary_one() -> None:
    ordinary, weights = parameter(1.0, 2.0), parameter(1.0, 2.0)
    admm = Admm(weights, {"w": largest(1)}, rho=0.0)
    sgd = torch.optim.SGD(weights.values(), lr=0.1)
    list(admm_rounds(admm, lambda: [weights["w"].square().sum()], sgd, 2))
    sgd = torch.optim.SGD(ordinary.values(), lr=0.1)
    list(train_epochs(lambda: [ordinary["w"].square().sum()], sgd, 2))
    assert torch.equal(weights["w"], ordinary["w"])
    assert weights["w"].tolist() == pytest.approx([0.64, 1.28])


def test_rho_may_differ_from_parameter_to_parameter() -> None:
    weights = {**parameter(2.0, 1.0), "v": Parameter(torch.tensor([[3.0]]))}
    projections = {"w": largest(1), "v": torch.zeros_like}
    admm = Admm(weights, projections, rho={"w": 4.0, "v": 2.0})
    assert admm.penalty().item() == pytest.approx(4.0 / 2 * 1 + 2.0 / 2 * 9)


def test_angles_are_compared_on_the_circle() -> None:
    """An angle just below 4 pi is a hair from the level 0; on the line it would be far from it."""
    weights = parameter(4 * math.pi - 0.1, 1.0)
    admm = Admm(weights, {"w": lambda w: torch.tensor([0.0, 1.0])}, rho=2.0, difference=circular)
    assert admm.penalty().item() == pytest.approx(0.01, rel=1e-3)
    admm.penalty().backward()
    assert weights["w"].grad is not None
    assert weights["w"].grad.tolist() == pytest.approx([-0.2, 0.0], abs=1e-4)
    admm.update()
    assert admm.u["w"].tolist() == pytest.approx([-0.1, 0.0], abs=1e-5)


def test_hardening_holds_zeros_unless_told_otherwise() -> None:
    held = Admm(parameter(3.0, -1.0, 2.0), {"w": largest(1)}, rho=1.0).harden()
    assert held.held["w"].tolist() == [False, True, True]
    assert held.kept == pytest.approx(1 / 3)
    weights = parameter(0.9, -1.0)
    levels = Admm(weights, {"w": lambda w: torch.where(w > 0, 1.0, w)}, rho=1.0)
    held = levels.harden(lambda name, projected: projected == 1.0)
    assert weights["w"].tolist() == [1.0, -1.0]
    assert held.held["w"].tolist() == [True, False]


def test_held_entries_stay_while_the_rest_is_trained() -> None:
    weights = parameter(3.0, -1.0, 2.0)
    held = Admm(weights, {"w": largest(2)}, rho=1.0).harden()
    # momentum and weight decay would both move a zero that is not held
    optimizer = torch.optim.AdamW(weights.values(), lr=0.1, weight_decay=0.1)
    losses = list(train_epochs(lambda: [(weights["w"] - 5).square().sum()], optimizer, 20, held=held))
    assert weights["w"][1].item() == 0.0
    assert weights["w"][2].item() > 2.0
    assert len(losses) == 20


def test_gradients_of_held_entries_do_not_count_when_clipped() -> None:
    weights = parameter(0.0, 1.0)
    held = Masks(weights, {"w": torch.tensor([True, False])})
    sgd = torch.optim.SGD(weights.values(), lr=1.0)
    # with the first entry of the gradient (1000, 0.5) counted, clipping to 1 would leave 0.0005 of the second
    list(
        train_epochs(
            lambda: [(weights["w"] * torch.tensor([1000.0, 0.5])).sum()], sgd, 1, held=held, clip=1.0
        )
    )
    assert weights["w"].tolist() == [0.0, 0.5]


def test_everything_pruned_stays_zero() -> None:
    weights = parameter(3.0, -1.0)
    admm = Admm(weights, {"w": torch.zeros_like}, rho=1.0)
    held = admm.harden()
    assert held.kept == 0.0
    list(
        train_epochs(
            lambda: [(weights["w"] - 1).square().sum()],
            torch.optim.SGD(weights.values(), lr=0.1),
            3,
            held=held,
        )
    )
    assert weights["w"].tolist() == [0.0, 0.0]


def test_parameters_that_are_all_zero_have_a_residual() -> None:
    assert Admm(parameter(0.0, 0.0), {"w": to_ones}, rho=1.0).residual() == pytest.approx(math.sqrt(2))


def test_a_set_without_a_mask_is_kept_by_projecting_again() -> None:
    weights = parameter(1.0, 3.0)
    held = Reprojection(weights, {"w": lambda w: w.mean().expand(2)})
    sgd = torch.optim.SGD(weights.values(), lr=0.1)
    list(train_epochs(lambda: [(weights["w"] - torch.tensor([0.0, 8.0])).square().sum()], sgd, 50, held=held))
    assert weights["w"].tolist() == pytest.approx([4.0, 4.0], abs=1e-3)


def test_masks_outlive_changes_of_what_they_were_made_from() -> None:
    weights = parameter(1.0, 2.0)
    mask = torch.tensor([True, False])
    held = Masks(weights, {"w": mask})
    mask[1] = True
    with torch.no_grad():
        weights["w"].fill_(9.0)
    held.apply()
    assert weights["w"].tolist() == [1.0, 9.0]


@given(st.floats(1, 50), st.floats(1, 50), st.integers(1, 9))
def test_rates_rise_to_the_last(first: float, factor: float, stages: int) -> None:
    rates = progressive_rates(first, first * factor, stages)
    assert len(rates) == stages
    assert rates[-1] == first * factor
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(rates))
    assert stages == 1 or rates[0] == pytest.approx(first)


def test_rates_rise_in_equal_ratios() -> None:
    assert progressive_rates(2.0, 16.0, 4) == pytest.approx((2.0, 4.0, 8.0, 16.0))


@pytest.mark.parametrize(("first", "last"), [(0.5, 4.0), (4.0, 2.0), (2.0, math.inf), (math.nan, 4.0)])
def test_impossible_rates_are_refused(first: float, last: float) -> None:
    with pytest.raises(WrongUse, match="pruning rates rise from at least 1"):
        progressive_rates(first, last, 3)


@pytest.mark.parametrize("rho", [-1.0, math.nan, math.inf])
def test_an_impossible_rho_is_refused(rho: float) -> None:
    with pytest.raises(WrongUse, match="rho of w must be a number of at least 0"):
        Admm(parameter(1.0), {"w": unchanged}, rho)


def test_names_must_agree() -> None:
    with pytest.raises(WrongUse, match="only one of them has v"):
        Admm(parameter(1.0), {"w": unchanged, "v": unchanged}, 1.0)
    with pytest.raises(WrongUse, match="rho must name the same tensors"):
        Admm(parameter(1.0), {"w": unchanged}, {"v": 1.0})
    with pytest.raises(WrongUse, match="no parameter to project"):
        Admm({}, {}, 1.0)
    with pytest.raises(WrongUse, match=r"mask of w has shape \(3,\), the parameter \(1,\)"):
        Masks(parameter(1.0), {"w": torch.ones(3)})


def test_a_projection_that_breaks_is_named() -> None:
    with pytest.raises(ReproError, match=r"projection of w made shape \(1,\) out of \(2,\)"):
        Admm(parameter(1.0, 2.0), {"w": lambda w: w[:1]}, 1.0)
    with pytest.raises(ReproError, match="projection of w holds values that are not finite"):
        Admm(parameter(1.0), {"w": lambda w: w / 0}, 1.0)


def test_a_projection_in_place_does_not_touch_the_weights() -> None:
    weights = parameter(1.0, 2.0)
    Admm(weights, {"w": lambda w: w.clamp_(max=1.0)}, 1.0).update()
    assert weights["w"].tolist() == [1.0, 2.0]


def test_a_diverging_loss_and_an_empty_epoch_stop_the_training() -> None:
    weights = parameter(1.0)
    admm = Admm(weights, {"w": unchanged}, 1.0)
    sgd = torch.optim.SGD(weights.values(), lr=0.1)
    with pytest.raises(ReproError, match="loss is inf in ADMM round 1 of 2: lower"):
        list(admm_rounds(admm, lambda: [weights["w"].sum() / 0], sgd, 2))
    with pytest.raises(WrongUse, match="the epoch holds no batch"):
        list(train_epochs(lambda: [], sgd, 1))
    with pytest.raises(WrongUse, match="rounds must be at least 0"):
        list(admm_rounds(admm, lambda: [], sgd, -1))
