"""Quantizers: levels, zero points, exponents, rounding; and the identities they start from."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.cnn.quantizers import (
    ActivationQuantizer,
    Scale,
    ScaleKind,
    WeightQuantizer,
    Widths,
    better_exponent,
    dequantized,
    inverse_stretched,
    power_of_two_exponent,
    round_half_up,
    search_scale,
    stretched_sigmoid,
)
from lib.errors import ReproError, WrongUse


def weights(rows: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, 3, 3, generator=generator) * torch.rand(rows, 1, 1, 1, generator=generator)


@pytest.mark.parametrize("kind", ["float", "nearest", "local", "learned"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_at_most_two_to_the_b_levels(kind: ScaleKind, bits: int) -> None:
    quantizer = WeightQuantizer(weights(), bits, kind)
    quantizer.scale.harden()
    values = quantizer(weights()).detach()
    assert max(len(torch.unique(channel)) for channel in values) <= 2**bits


@pytest.mark.parametrize("kind", ["nearest", "local", "learned"])
def test_scales_are_exact_powers_of_two_and_zero_points_integers(kind: ScaleKind) -> None:
    quantizer = WeightQuantizer(weights(), 2, kind)
    quantizer.scale.harden()
    scale, zero = quantizer.scale.values()
    assert bool((torch.frexp(scale).mantissa == 0.5).all())
    assert torch.equal(zero, torch.round(zero))


def test_a_channel_of_one_sign_keeps_zero_among_its_values() -> None:
    weight = -torch.linspace(0.1, 1.0, 9)[None]
    for share in (0.9, 1.0, 1.1, 1.3):
        quantizer = WeightQuantizer(share * weight, 4, "nearest")
        zero = quantizer.scale.values()[1]
        assert 0 <= zero.item() <= 15


def test_nearest_rounds_the_logarithm() -> None:
    # log2 1.4 = 0.485 goes down, log2 1.42 = 0.506 up, although 1.42 is nearer to 1 than to 2
    scale = Scale("nearest", 4, torch.tensor([1.4, 1.42]), torch.zeros(2))
    assert scale.values()[0].tolist() == [1.0, 2.0]


def test_a_learned_exponent_starts_at_the_scale_and_ends_beside_it() -> None:
    start = torch.tensor([0.3, 1.0, 1.9, 5.0])
    scale = Scale("learned", 4, start, torch.tensor([1.0, 0.0, 3.0, 2.0]))
    assert torch.allclose(scale.values()[0], start, rtol=1e-5)
    assert scale.a is not None
    scale.a.data = torch.tensor([-5.0, 5.0, -5.0, 5.0])
    scale.harden()
    assert scale.values()[0].tolist() == [0.25, 2.0, 1.0, 8.0]
    # z_0 s_0 / s, rounded: 1.2, 0, 5.7, 1.25
    assert scale.values()[1].tolist() == [1.0, 0.0, 6.0, 1.0]


def test_the_gradient_of_an_exponent_is_ln2_s_times_the_slope_of_h() -> None:
    scale = Scale("learned", 4, torch.tensor([1.3]), torch.zeros(1))
    assert scale.a is not None
    scale.values()[0].sum().backward()
    a = scale.a.detach().clone().requires_grad_(True)
    stretched_sigmoid(a).sum().backward()
    assert a.grad is not None
    assert scale.a.grad is not None
    expected = torch.log(torch.tensor(2.0)) * scale.values()[0].detach() * a.grad
    assert torch.allclose(scale.a.grad, expected, rtol=1e-4)


@given(st.floats(0, 0.999))
def test_h_is_inverted(share: float) -> None:
    wanted = torch.tensor(share)
    assert stretched_sigmoid(inverse_stretched(wanted)).item() == pytest.approx(share, abs=1e-5)


def test_soft_rounding_starts_as_the_clipped_float_weight() -> None:
    weight = weights()
    quantizer = WeightQuantizer(weight, 4, "float")
    scale, zero = quantizer.scale.values()
    quantizer.learn_rounding(weight)
    clipped = ((weight / scale + zero).clamp(0, 15) - zero) * scale
    assert torch.allclose(quantizer(weight), clipped, atol=1e-6)


def test_fixed_rounding_goes_up_where_v_says_so() -> None:
    weight = torch.tensor([[0.2, 0.4, 2.9]])
    quantizer = WeightQuantizer(weight, 2, "nearest")
    quantizer.learn_rounding(weight)
    assert quantizer.v is not None
    assert quantizer.scale.values()[0].item() == 1.0
    quantizer.v.data = torch.tensor([[1.0, -1.0, 1.0]])
    quantizer.fix_rounding()
    assert quantizer(weight).tolist() == [[1.0, 0.0, 3.0]]


def test_quantization_by_hand() -> None:
    # step 1/2, zero point 1, four levels: -1/2, 0, 1/2, 1; halves round up
    x = torch.tensor([-9.0, -0.25, 0.25, 0.3, 9.0])
    found = dequantized(x, torch.tensor(0.5), torch.tensor(1.0), 4)
    assert found.tolist() == [-0.5, 0.0, 0.5, 0.5, 1.0]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(2, 8), st.integers(0, 1000))
def test_the_search_is_no_worse_than_the_whole_range(values: int, bits: int, seed: int) -> None:
    rows = torch.randn(3, values, generator=torch.Generator().manual_seed(seed))
    scale, zero = search_scale(rows, bits)
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    wide = (high - low) / (2**bits - 1)
    whole = dequantized(rows, wide[:, None], torch.floor(-low / wide + 0.5)[:, None], 2**bits)
    found = dequantized(rows, scale[:, None], zero[:, None], 2**bits)
    assert bool(((found - rows).abs().pow(2.4).mean(1) <= (whole - rows).abs().pow(2.4).mean(1) + 1e-6).all())


def test_zeros_stay_zeros() -> None:
    quantizer = WeightQuantizer(torch.zeros(2, 4), 2, "nearest")
    assert quantizer(torch.zeros(2, 4)).abs().sum() == 0


def test_the_better_neighbour_has_the_smaller_error() -> None:
    rows = weights().flatten(1)
    scale, zero = search_scale(rows, 2)
    chosen = better_exponent(rows, scale, zero, 2)

    def error(exponent: torch.Tensor) -> torch.Tensor:
        power = torch.exp2(exponent)[:, None]
        moved = round_half_up(zero[:, None] * scale[:, None] / power)
        return (dequantized(rows, power, moved, 4) - rows).square().mean(1)

    below = torch.floor(torch.log2(scale))
    other = torch.where(chosen == below, below + 1, below)
    assert bool((error(chosen) <= error(other)).all())
    assert bool((chosen != torch.floor(torch.log2(scale) + 0.5)).any())


def test_activations_after_relu_have_zero_point_zero() -> None:
    quantizer = ActivationQuantizer(4, "learned", "here")
    quantizer.observe(torch.rand(100))
    scale, zero = quantizer.values()
    assert zero == 0
    assert torch.frexp(scale).mantissa == 0.5
    assert len(torch.unique(quantizer(torch.rand(500)))) <= 16


def test_an_activation_scale_gets_a_gradient() -> None:
    quantizer = ActivationQuantizer(4, "learned", "here")
    x = torch.rand(100)
    quantizer.observe(x)
    assert quantizer.t is not None
    quantizer.t.requires_grad_(True)
    (quantizer(x) - x).square().mean().backward()
    assert quantizer.t.grad is not None
    assert quantizer.t.grad != 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ReproError, match="not finite"):
        ActivationQuantizer(4, "nearest", "block 3").observe(torch.tensor([1.0, value]))


def test_32_bits_do_nothing() -> None:
    quantizer = ActivationQuantizer(32, "nearest", "here")
    x = torch.randn(9)
    quantizer.observe(x)
    assert torch.equal(quantizer(x), x)


@pytest.mark.parametrize("name", ["w1a4", "w9a4", "w2a16", "4", "w4", "a4w4", ""])
def test_unknown_widths_are_refused(name: str) -> None:
    with pytest.raises(WrongUse, match="bit"):
        Widths.named(name)


def test_widths_by_name() -> None:
    assert Widths.named("W2A4") == Widths(2, 4, 8)
    assert str(Widths.named("w2a4")) == "w2a4"
    assert Widths.named("w32a32") == Widths(32, 32, 32)


def test_a_scale_of_any_size_has_no_exponent() -> None:
    with pytest.raises(ReproError, match="no power of two"):
        power_of_two_exponent(Scale("float", 4, torch.tensor([0.3]), torch.zeros(1)), "it")
