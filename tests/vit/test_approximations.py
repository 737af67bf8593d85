"""HeatViT's approximated functions: values worked out by hand, bounds, gradients, networks made of them."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import WrongUse
from lib.vit import approximations as approx
from lib.vit import function_checks, spvit
from lib.vit.approximations import (
    ApproximateCore,
    CoredAttention,
    PlanSigmoid,
    PolynomialGELU,
    ShiftSoftmax,
    approximate,
)
from lib.vit.function_checks import gap, grid, jump, slope
from lib.vit.host import TokenHost, blocks_of
from tests.vit.parts import network, pictures


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_gelu_by_hand() -> None:
    # x = sqrt 2: u = 1; L = 1 - 0.2888 (1 - 1.769)^2 = 0.829215
    x = math.sqrt(2)
    by_hand = x / 2 * (1 + 0.5 * (1 - 0.2888 * 0.769**2))
    assert approx.gelu(double(x), 0.5).item() == pytest.approx(by_hand)
    # beyond u = 1.769 the polynomial rests at delta_1
    assert approx.gelu(double(8.0, -8.0), 0.5).tolist() == pytest.approx([6.0, -2.0])


def test_gelu_with_delta_1_of_one_is_a_gelu_and_with_one_half_is_none() -> None:
    x = grid(-8, 8, 4001)
    assert gap(partial(approx.gelu, delta_1=1.0), F.gelu, x).largest < 0.02
    assert gap(partial(approx.gelu, delta_1=0.5), F.gelu, x).largest == pytest.approx(2.0, abs=1e-3)


def test_exp_by_hand() -> None:
    # -1: one ln 2 fits, p = -0.306853
    p = -1 + math.log(2)
    by_hand = (0.3585 * (p + 1.353) ** 2 + 0.344) / 2
    assert approx.exp(double(-1.0)).item() == pytest.approx(by_hand)


def test_exp_is_halved_by_every_ln_2() -> None:
    x = grid(-0.69, 0, 101)
    for z in (1, 2, 5):
        torch.testing.assert_close(approx.exp(x - z * math.log(2)), approx.exp(x) / 2**z)


@pytest.mark.parametrize("delta_2", [1.0, 0.5])
def test_softmax_rows_sum_to_delta_2(delta_2: float) -> None:
    rows = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(approx.softmax(rows, delta_2).sum(-1), torch.full((5,), delta_2))


def test_softmax_of_what_is_seen_is_that_of_the_rest_alone() -> None:
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows[:, 2] = 9.0  # the hidden one is the largest: the maximum must not be its
    seen = torch.ones(4, 6, dtype=torch.float64)
    seen[:, 2] = 0
    kept = [0, 1, 3, 4, 5]
    masked = approx.softmax(rows, seen=seen)
    assert torch.equal(masked[:, kept], approx.softmax(rows[:, kept]))
    assert (masked[:, 2] == 0).all()


def test_softmax_depends_on_what_is_subtracted() -> None:
    # the parabola's relative error is not the same everywhere: the ratio of two exponentials moves
    x = double(-0.1, -0.6)
    first, second = approx.exp(x), approx.exp(x - 0.3)
    assert abs((first[0] / first[1] - second[0] / second[1]).item()) > 1e-3


def test_sigmoid_by_hand_and_its_symmetry() -> None:
    values = approx.sigmoid(double(0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 9.0, -5.0, -0.5))
    by_hand = [0.5, 0.625, 0.75, 0.875, 3 / 32 + 27 / 32, 1.0, 1.0, 0.0, 0.375]
    assert values.tolist() == pytest.approx(by_hand)


def test_sigmoid_steps_down_once_and_is_level_at_its_other_joints() -> None:
    assert jump(approx.sigmoid, 2.375) == pytest.approx(-1 / 256, abs=1e-6)
    assert [jump(approx.sigmoid, at) for at in (0.0, 1.0, 5.0)] == pytest.approx([0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("delta_1", [0.3, 0.5, 0.75])
def test_delta_1_holds_the_slope_below_one(delta_1: float) -> None:
    assert slope(partial(approx.gelu, delta_1=delta_1), grid(-8, 8, 20_001)).abs().max() < 1
    assert slope(F.gelu, grid(-8, 8, 20_001)).max() > 1


def test_largest_delta_1_is_where_the_exact_form_reaches_a_slope_of_one() -> None:
    delta = approx.largest_delta_1()
    steepest = slope(partial(approx.regularised_gelu, delta_1=delta), grid(0, 4, 40_001)).max()
    assert steepest.item() == pytest.approx(1, abs=1e-6)
    assert slope(partial(approx.gelu, delta_1=delta), grid(0, 4, 40_001)).max() > 1.01


def test_softmax_slopes_of_two_logits_by_hand() -> None:
    # s = 1/2 each: delta_2 s (1 - s)
    steepest = function_checks.largest_softmax_slope(lambda row: 0.5 * row.softmax(-1), double(0, 0)[None])
    assert steepest == pytest.approx(0.125)


def test_figures_do_not_depend_on_what_was_drawn_before() -> None:
    torch.manual_seed(1)
    first = function_checks.softmax_rows()
    torch.manual_seed(2)
    assert torch.equal(function_checks.softmax_rows(), first)
    assert not torch.equal(function_checks.softmax_rows(seed=1), first)
    assert first.std().item() == pytest.approx(2, rel=0.02)


def test_gap_names_the_largest_difference_and_where() -> None:
    found = gap(lambda x: x * 0, lambda x: x, double(1.0, -4.0, 2.0))
    assert (found.largest, found.where, found.mean) == (4.0, -4.0, pytest.approx(7 / 3))
    assert gap(lambda x: x * 0, lambda x: x, double(1.0, -4.0), relative=True).largest == 1


@pytest.mark.parametrize("layer", [PolynomialGELU(), ShiftSoftmax(), PlanSigmoid()])
def test_gradients_pass_every_layer(layer: nn.Module) -> None:
    x = torch.tensor([[-2.0, -0.3, 0.4, 1.5]], requires_grad=True)
    (layer(x) * torch.arange(1.0, 5.0)).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


@pytest.mark.parametrize("delta", [0.0, -0.5, 1.5])
def test_factors_that_do_not_shrink_are_refused(delta: float) -> None:
    for make in (PolynomialGELU, ShiftSoftmax, partial(ApproximateCore, 0.25)):
        with pytest.raises(WrongUse, match="delta"):
            make(delta)


def test_another_core_with_the_exact_arithmetic_changes_nothing_but_rounding() -> None:
    class Exact:
        def __init__(self, scale: float) -> None:
            self.scale = scale

        def __call__(
            self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, eps: float
        ) -> tuple[Tensor, Tensor]:
            weights = (q * self.scale @ k.transpose(-2, -1)).softmax(-1)
            return weights @ v, weights

    backbone = network()
    attention = blocks_of(backbone)[0].attn
    x = torch.randn(2, 50, 64, generator=torch.Generator().manual_seed(0))
    cored = CoredAttention(attention, Exact(attention.scale))
    torch.testing.assert_close(cored(x), attention(x), atol=1e-5, rtol=1e-5)
    assert cored.state_dict().keys() == attention.state_dict().keys()
    with pytest.raises(WrongUse, match="host"):
        cored(x, is_causal=True)


def test_approximate_leaves_the_network_alone_and_changes_all_of_the_copy() -> None:
    backbone = network()
    images = pictures(2, backbone)
    before = backbone(images)
    host = approximate(spvit.prune(backbone, (0.7, 0.5, 0.3)))
    kinds = {type(part) for part in host.modules()}
    assert not kinds & {nn.GELU, nn.Sigmoid, nn.Softmax}
    assert {PolynomialGELU, PlanSigmoid, ShiftSoftmax, CoredAttention} <= kinds
    assert {part.delta_2 for part in host.modules() if isinstance(part, ShiftSoftmax)} == {1.0}
    assert torch.equal(backbone(images), before)


def test_the_copy_can_be_trained() -> None:
    host = approximate(TokenHost(network(), {})).train()
    host(pictures(2, host.backbone), execution="masked").logits.square().sum().backward()
    frozen = [name for name, p in host.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert frozen == []
