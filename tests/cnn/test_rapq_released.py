"""The three defects of the released code: each test fails for a quantizer that has the defect."""

import torch

from lib.cnn import rapq_released as released
from lib.cnn.quantizers import ActivationQuantizer, Scale, WeightQuantizer, search_scale
from lib.cnn.rapq_checks import channels, power_of_two_share

WEIGHTS = channels(torch.Generator().manual_seed(0))


def share(scale: torch.Tensor) -> float:
    return float((torch.frexp(scale).mantissa == 0.5).double().mean())


def test_a_scale_that_is_rounded_in_a_copy_stays_what_it_was() -> None:
    scale, zero = search_scale(WEIGHTS, 2)
    assert torch.equal(released.scale_after_rounding(scale), scale)
    assert share(released.scale_after_rounding(scale)) < 0.05
    group = Scale("learned", 2, scale, zero)
    assert share(group.values()[0].detach()) < 0.05  # while it is learned
    group.harden()
    assert share(group.values()[0]) == 1.0
    assert power_of_two_share(WEIGHTS)["ours"] == 100


def test_a_fractional_zero_point_gives_a_fifth_level() -> None:
    values = released.values_with_fractional_zero(WEIGHTS, 2)
    assert released.most_levels(values) == 5
    assert released.most_levels(WeightQuantizer(WEIGHTS, 2, "nearest")(WEIGHTS)) == 4


def test_a_parameter_made_anew_gets_no_gradient_where_the_optimizer_looks() -> None:
    x = torch.rand(50)
    assert not released.gradient_of_stale_parameter(x)
    quantizer = ActivationQuantizer(4, "learned", "here")
    quantizer.observe(x)
    held = quantizer.t
    assert held is not None
    held.requires_grad_(True)
    quantizer(x).square().mean().backward()
    assert held.grad is not None
    assert quantizer.t is held
