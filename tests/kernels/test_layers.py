"""Compiled layers against torch's, on pruned weights."""

import pytest
import torch
from torch import nn

from lib.errors import WrongUse
from lib.kernels.compiler import FallbackWarning
from lib.kernels.convolution import Geometry
from lib.kernels.errors import KernelError
from lib.kernels.layers import CompiledConv2d, CompiledGRU, CompiledLinear, CompiledLSTM
from lib.kernels.toolchain import Toolchain


def assert_close(actual: object, expected: object) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def prune(module: nn.Module, keep: float = 0.3) -> nn.Module:
    """Zeros in all weights, not in biases."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "weight" in name:
                parameter.mul_(torch.rand(parameter.shape, generator=rng) < keep)
    return module.eval()


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(20,), (1, 20), (3, 20), (2, 5, 20), (0, 20)])
def test_linear(toolchain: Toolchain, shape: tuple[int, ...]) -> None:
    linear = prune(nn.Linear(20, 13))
    assert isinstance(linear, nn.Linear)
    x = inputs(*shape)
    assert_close(CompiledLinear(linear)(x), linear(x).detach())
    assert_close(CompiledLinear(linear, relu=True)(x), linear(x).relu().detach())


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 1, "bias": False},
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": (5, 2), "padding": (2, 1), "stride": (1, 3), "dilation": (2, 1)},
        {"kernel_size": 2, "padding": 3, "stride": 3},
    ],
)
@pytest.mark.parametrize("size", [(9, 11), (14, 14), (23, 40)])
def test_convolution(toolchain: Toolchain, options: dict[str, int], size: tuple[int, int]) -> None:
    conv = prune(nn.Conv2d(5, 19, **options))  # type: ignore[arg-type]
    assert isinstance(conv, nn.Conv2d)
    x = inputs(2, 5, *size)
    for threads in (1, 2):
        result = CompiledConv2d(conv, threads=threads, relu=True)(x)
        assert_close(result, conv(x).relu().detach())


def test_one_picture_without_a_batch(toolchain: Toolchain) -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    x = inputs(3, 8, 8)
    assert_close(CompiledConv2d(conv)(x), conv(x).detach())


def test_a_filter_without_weights_gives_its_bias(toolchain: Toolchain) -> None:
    conv = nn.Conv2d(2, 3, 3)
    with torch.no_grad():
        conv.weight[1] = 0
    result = CompiledConv2d(conv)(inputs(1, 2, 6, 6))
    assert conv.bias is not None
    assert (result[:, 1] == conv.bias[1]).all()


def test_where_a_strided_weight_finds_its_inputs() -> None:
    geometry = Geometry(1, 4, 4, (2, 2), stride=(2, 2))
    assert geometry.output == (2, 2)
    assert geometry.plane == (2, 2)
    assert geometry.offsets().tolist() == [0, 4, 8, 12]  # one plane of the image for each weight


@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True, "bias": False}]
)
@pytest.mark.parametrize(("plain", "compiled"), [(nn.GRU, CompiledGRU), (nn.LSTM, CompiledLSTM)])
@pytest.mark.parametrize("shape", [(1, 1, 7), (4, 3, 7), (2, 20, 7), (5, 7)])
def test_recurrent(
    toolchain: Toolchain,
    plain: type[nn.GRU],
    compiled: type[CompiledGRU],
    options: dict[str, int],
    shape: tuple[int, ...],
) -> None:
    module = prune(plain(7, 21, **options))
    assert isinstance(module, (nn.GRU, nn.LSTM))
    x = inputs(*shape)
    with torch.no_grad():
        expected, state = module(x)
        assert_close(compiled(module)(x), (expected, state))
        again = module(x, state)
        assert_close(compiled(module)(x, state), again)


def test_given_states_are_not_changed(toolchain: Toolchain) -> None:
    gru = nn.GRU(3, 4)
    state = torch.zeros(1, 2, 4)
    CompiledGRU(gru)(inputs(5, 2, 3), state)
    assert (state == 0).all()


def test_large_gates_saturate(toolchain: Toolchain) -> None:
    lstm = nn.LSTM(2, 3)
    x = 1e4 * inputs(3, 1, 2)
    with torch.no_grad():
        assert_close(CompiledLSTM(lstm)(x), lstm(x))


def test_layers_work_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    conv, gru, lstm = nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.GRU(4, 6), nn.LSTM(4, 6)
    with pytest.warns(FallbackWarning):
        layers = CompiledConv2d(conv), CompiledGRU(gru), CompiledLSTM(lstm)
    picture, sequence = inputs(2, 3, 9, 9), inputs(3, 2, 4)
    with torch.no_grad():
        assert_close(layers[0](picture), conv(picture))
        assert_close(layers[1](sequence), gru(sequence))
        assert_close(layers[2](sequence), lstm(sequence))


def test_what_is_not_compiled_is_refused(toolchain: Toolchain) -> None:
    with pytest.raises(WrongUse, match="groups"):
        CompiledConv2d(nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(WrongUse, match="zero padding"):
        CompiledConv2d(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(WrongUse, match="same"):
        CompiledConv2d(nn.Conv2d(4, 4, 2, padding="same"))
    with pytest.raises(WrongUse, match="proj_size"):
        CompiledLSTM(nn.LSTM(4, 6, proj_size=2))
    with pytest.raises(WrongUse, match="eval"):
        CompiledGRU(nn.GRU(4, 6, num_layers=2, dropout=0.5))


def test_wrong_inputs_are_refused(toolchain: Toolchain) -> None:
    conv, gru = CompiledConv2d(nn.Conv2d(3, 4, 3)), CompiledGRU(nn.GRU(3, 4))
    with pytest.raises(KernelError, match="smaller than the kernel"):
        conv(inputs(1, 3, 2, 9))
    with pytest.raises(KernelError, match="must be"):
        conv(inputs(1, 4, 9, 9))
    with pytest.raises(KernelError, match="float32"):
        conv(inputs(1, 3, 9, 9).double())
    with pytest.raises(KernelError, match="must be"):
        gru(inputs(2, 2, 5))
    with pytest.raises(KernelError, match="a state must be"):
        gru(inputs(2, 2, 3), inputs(1, 3, 4))
    with pytest.raises(KernelError, match="no steps"):
        gru(inputs(0, 2, 3))
