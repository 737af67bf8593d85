"""8-bit fixed point: integers against their simulation bit for bit, exact products, whole networks."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from lib.errors import WrongUse
from lib.lab.backbones import small_vit
from lib.vit import approximations as approx
from lib.vit import fixed_functions as fixed
from lib.vit import heatvit
from lib.vit.fixed_functions import RESULT, SCORE, exact_matmul
from lib.vit.fixed_point import (
    FixedCore,
    FixedLayer,
    Functions,
    IntegerLayer,
    Quantiser,
    fold_batch_norms,
    quantise,
    straight,
    to_integers,
)
from lib.vit.host import TokenHost
from tests.vit.parts import network, pictures

COUNTS = (22, 11, 8)
RATIOS = (0.45, 0.51, 0.71)
EVERY_16_BIT = torch.arange(-(2**15), 2**15)


@pytest.mark.parametrize("bits", [-2, 0, 1, 5])
def test_shifts_and_rounding_are_the_same_on_integers_and_floats(bits: int) -> None:
    n = torch.arange(-100, 100)
    for function in (fixed.shifted, fixed.rounded):
        assert torch.equal(function(n, bits), function(n.double(), bits).long())
    assert fixed.rounded(torch.tensor([-3, -1, 1, 3]), 1).tolist() == [-1, 0, 1, 2]  # halves go up


@pytest.mark.parametrize("delta_1", [1.0, 0.5])
def test_gelu_of_every_16_bit_number(delta_1: float) -> None:
    n = EVERY_16_BIT
    whole = fixed.gelu(n, delta_1)
    assert torch.equal(whole, fixed.gelu(n.double(), delta_1).long())
    smooth = approx.gelu(n.double() * 2.0**-RESULT, delta_1)
    apart = (whole * 2.0**-RESULT - smooth).abs()
    # half a step of the result, and constants of 12 bits in proportion to the input
    assert (apart <= 2.0 ** -(RESULT + 1) + smooth.abs().clamp(min=1) * 2.0**-9).all()


def test_sigmoid_of_every_16_bit_number_is_exact() -> None:
    n = EVERY_16_BIT
    whole = fixed.sigmoid(n)
    assert torch.equal(whole, fixed.sigmoid(n.double()).long())
    assert torch.equal(whole * 2.0**-fixed.SIGMOID, approx.sigmoid(n.double() * 2.0**-RESULT))


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_exp_is_the_same_in_floats_and_close_to_the_smooth_one(kind: torch.dtype) -> None:
    n = torch.arange(0, 2**15)
    whole = fixed.exp(n)
    assert torch.equal(whole, fixed.exp(n.to(kind)).long())
    apart = whole * 2.0**-16 - approx.exp(-n.double() * 2.0**-SCORE)
    assert apart.abs().max() < 1.5e-3
    assert whole[-1] == 0


@pytest.mark.parametrize("delta_2", [1.0, 0.5])
def test_softmax_is_the_same_in_floats_and_close_to_the_smooth_one(delta_2: float) -> None:
    scores = torch.randint(-3000, 3000, (50, 61), generator=torch.Generator().manual_seed(0))
    whole = fixed.softmax(scores, delta_2, 9)
    for kind in (torch.float64, torch.float32):
        assert torch.equal(whole, fixed.softmax(scores.to(kind), delta_2, 9).long())
    smooth = approx.softmax(scores.double() * 2.0**-SCORE, delta_2)
    assert (whole * 2.0**-9 - smooth).abs().max() < 2.0**-10 + 2e-3


def test_softmax_ignores_what_is_hidden() -> None:
    scores = torch.tensor([[100, 9000, -300, 40]])
    seen = torch.tensor([[True, False, True, True]])
    masked = fixed.softmax(scores, 1.0, 12, seen)
    assert masked[0, [0, 2, 3]].tolist() == fixed.softmax(scores[:, [0, 2, 3]], 1.0, 12)[0].tolist()
    assert masked[0, 1] == 0


def test_product_by_way_of_float64_is_the_product_of_integers() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-128, 128, (3, 7, 3072), generator=generator)
    b = torch.randint(-128, 128, (3, 3072, 5), generator=generator)
    assert torch.equal(exact_matmul(a, b), torch.matmul(a, b))
    extreme = torch.full((1, 3072), -128)
    assert exact_matmul(extreme, extreme.t()).item() == 3072 * 2**14


def test_sum_that_float64_could_round_is_refused() -> None:
    with pytest.raises(WrongUse, match="float64"):
        exact_matmul(torch.zeros(1, 4, dtype=torch.long), torch.zeros(4, 1, dtype=torch.long), bits=52)


def test_quantiser_by_hand() -> None:
    part = Quantiser()
    part.fraction = 6
    x = torch.tensor([0.5, 1 / 128, -1 / 128, 5.0, -5.0])
    assert (part(x) * 64).tolist() == [32, 1, 0, 127, -128]
    unsigned = Quantiser(signed=False)
    unsigned.fraction = 8
    assert (unsigned(torch.tensor([-1.0, 0.5, 2.0])) * 256).tolist() == [0, 128, 255]


def test_gradient_passes_rounding_and_stops_at_the_ends() -> None:
    part = Quantiser()
    part.fraction = 6
    x = torch.tensor([0.507, 5.0], requires_grad=True)
    part(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 0]


def test_straight_gives_the_hard_value_and_the_soft_gradient() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    y = straight(x * 2, torch.tensor(10.0))
    y.backward()
    assert (y.item(), x.grad) == (10.0, torch.tensor(2.0))


def test_calibration_takes_the_fraction_of_the_least_squared_error() -> None:
    part = Quantiser()
    part.calibrating = True
    assert part.look(torch.tensor([1.9, -0.3])) == 6  # 1.9 x 64 = 121.6 fits in 127; x 128 would not
    assert (
        part.look(torch.cat((torch.full((1000,), 0.013), torch.tensor([2.1])))) > 5
    )  # one outlier is clipped
    assert part.look(torch.zeros(3)) >= 0


def test_network_that_was_never_calibrated_says_so() -> None:
    with pytest.raises(WrongUse, match="calibrate"):
        FixedLayer(nn.Linear(4, 2))(torch.zeros(1, 4))


def test_layer_by_hand() -> None:
    linear = nn.Linear(2, 1)
    linear.weight.data = torch.tensor([[0.5, -1.0]])
    linear.bias.data = torch.tensor([0.26])
    layer = FixedLayer(linear)
    layer.inputs.fraction = 4
    # 1.03 -> 16/16, 0.51 -> 8/16; 0.5 - 0.5 + 0.26, to the nearest 1/256: 67/256
    for each in (layer, IntegerLayer(layer)):
        assert each(torch.tensor([[1.03, 0.51]])).item() == round(0.26 * 256) / 256


def test_integer_layers_hold_8_bit_weights() -> None:
    model = to_integers(quantise(network(), pictures(2, network())))
    layers = [part for part in model.modules() if isinstance(part, IntegerLayer)]
    assert len(layers) == 2 + 12 * 4 + 1  # two convolutions, four products a block, the head
    assert {part.weight.dtype for part in layers} == {torch.int8}
    assert not any(p.requires_grad and p.device.type != "meta" and p.dim() > 1 for p in _inside(layers))


def _inside(layers: list[IntegerLayer]) -> list[nn.Parameter]:
    return [parameter for layer in layers for parameter in layer.parameters()]


@pytest.mark.parametrize("functions", [None, Functions(1.0, 1.0), Functions()])
@pytest.mark.parametrize("name", ["small", "lv"])
def test_integers_and_simulation_give_the_same_bits(name: str, functions: Functions | None) -> None:
    backbone = network(name)
    images = pictures(2, backbone)
    simulated = quantise(backbone, images, functions).double()
    with torch.inference_mode():
        right = to_integers(simulated)(images.double())
        assert torch.equal(simulated(images.double()), right)


@pytest.mark.parametrize("execution", ["masked", "gathered"])
@pytest.mark.parametrize("batch", [1, 3])
def test_so_they_do_pruned(batch: int, execution: str) -> None:
    torch.manual_seed(0)
    host = heatvit.prune(network(), RATIOS, counts=COUNTS).eval()
    images = pictures(batch, host.backbone).double()
    simulated = quantise(host, images.float(), Functions()).double()
    with torch.inference_mode():
        left, right = (each(images, execution=execution) for each in (simulated, to_integers(simulated)))
    assert torch.equal(left.logits, right.logits)
    assert all(torch.equal(a.keep, b.keep) for a, b in zip(left.stages, right.stages, strict=True))


def test_simulation_in_float32_is_that_in_float64_up_to_the_normalisations_rounding() -> None:
    backbone = small_vit().eval()
    images = pictures(4, backbone)
    simulated = quantise(backbone, images, Functions())
    with torch.inference_mode():
        single, whole = simulated(images), to_integers(simulated)(images)
    assert torch.equal(single, whole)


def test_8_bits_change_little_with_exact_functions() -> None:
    backbone = small_vit().eval()
    images = pictures(8, backbone)
    with torch.inference_mode():
        dense, rounded = backbone(images), quantise(backbone, images)(images)
    assert (dense - rounded).abs().max() < 0.1 * dense.abs().max()


def test_the_network_is_left_as_it_was() -> None:
    backbone = network()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    quantise(backbone, pictures(2, backbone), Functions())
    assert before.keys() == backbone.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_batch_normalisation_is_folded_into_the_convolution() -> None:
    layers = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.GELU()).eval()
    layers[1].running_mean.normal_()  # type: ignore[operator]
    x = torch.randn(1, 2, 8, 8)
    before = layers(x)
    fold_batch_norms(layers)
    assert isinstance(layers[1], nn.Identity)
    torch.testing.assert_close(layers(x), before)


def test_training_through_the_rounding_reaches_every_learnable_part() -> None:
    torch.manual_seed(0)
    host = quantise(heatvit.prune(network(), RATIOS, counts=COUNTS), pictures(4, network()), Functions())
    host.train()
    output = host(pictures(4, network()), execution="masked", generator=torch.Generator().manual_seed(0))
    (output.logits.square().sum() + sum(trace.scores.sum() for trace in output.stages)).backward()
    still = [name for name, p in host.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert still == []
    assert sum(p.grad.abs().sum() > 0 for p in host.parameters() if p.grad is not None) > 150


def test_scores_are_scaled_in_integers_also_where_the_scale_is_no_power_of_two() -> None:
    core = FixedCore(1 / math.sqrt(8), 0.5)
    for part in (core.q, core.k, core.v):
        part.fraction = 5
    core.a.fraction = 9
    q, k, v = (torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(i)).double() for i in range(3))
    with torch.inference_mode():
        left = core(q, k, v, None, 0.0)
        core.integer = True
        right = core(q, k, v, None, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
    smooth = approx.ApproximateCore(1 / math.sqrt(8))(q, k, v, None, 0.0)
    assert (left[1] - smooth[1]).abs().max() < 0.01


def test_only_quantised_networks_turn_to_integers() -> None:
    with pytest.raises(WrongUse, match="quantise"):
        to_integers(TokenHost(network(), {}))


def test_functions_of_wrong_factors_are_refused() -> None:
    with pytest.raises(WrongUse, match="delta_1"):
        quantise(network(), pictures(1, network()), Functions(2.0, 0.5))


def test_rounded_gelu_keeps_the_slope_below_one() -> None:
    n = torch.arange(-2048, 2049)
    steps = fixed.gelu(n, 0.5).diff()
    assert steps.abs().max() <= 1
    assert partial(fixed.gelu, delta_1=1.0)(n).diff().max() == 2
