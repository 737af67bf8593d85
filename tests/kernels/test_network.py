"""Compiled networks against the networks they were made of."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.kernels.compiler import FallbackWarning
from lib.kernels.layers import CompiledConv2d, CompiledLinear
from lib.kernels.network import compile_network, fold
from lib.kernels.pooling import CompiledMaxPool2d
from lib.kernels.toolchain import Toolchain


class Small(nn.Module):
    """Convolutions with and without normalisation, a shared result, pooling, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()
        self.second, self.depthwise = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.first(x))))
        y = self.second(x)
        x = self.relu(torch.relu(y) + self.depthwise(y))  # y is used twice: no ReLU may be fused into it
        return self.last(x.mean((2, 3)))


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    model = Small().eval()
    for statistic in (model.norm.running_var, model.norm.running_mean):
        assert statistic is not None
        nn.init.uniform_(statistic, 0.5, 1.5)
    with torch.no_grad():
        for layer in (model.first, model.second, model.last):
            layer.weight.mul_(torch.rand(layer.weight.shape) < 0.4)
    return model


@pytest.mark.parametrize("size", [(8, 8), (9, 13)])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_computes_the_same(
    toolchain: Toolchain, small: nn.Module, size: tuple[int, int], batch: int
) -> None:
    x = torch.randn(batch, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(compile_network(small)(x), small(x), rtol=1e-4, atol=1e-5)


def test_pruned_layers_are_compiled_and_the_model_is_left(toolchain: Toolchain, small: nn.Module) -> None:
    before = copy.deepcopy(small.state_dict())
    compiled = dict(compile_network(small).named_modules())
    kinds = {name: type(compiled[name]) for name in ("first", "second", "last", "pool", "depthwise")}
    assert kinds == {
        "first": CompiledConv2d,
        "second": CompiledConv2d,
        "last": CompiledLinear,
        "pool": CompiledMaxPool2d,
        "depthwise": nn.Conv2d,
    }
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    assert isinstance(small.get_submodule("first"), nn.Conv2d)


def test_only_a_relu_that_alone_uses_a_layer_is_fused(toolchain: Toolchain, small: nn.Module) -> None:
    compiled = compile_network(small)
    assert compiled.get_submodule("first").relu is True
    assert compiled.get_submodule("second").relu is False


def test_dense_layers_stay(toolchain: Toolchain, small: nn.Module) -> None:
    compiled = compile_network(small, densest=0.0)
    assert not any(isinstance(layer, CompiledConv2d | CompiledLinear) for layer in compiled.modules())


def test_folding_keeps_the_outputs(small: nn.Module) -> None:
    x = torch.randn(2, 3, 8, 8)
    folded = fold(small)
    assert not any(node.target == "norm" for node in folded.graph.nodes)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), small(x), rtol=1e-4, atol=1e-5)


def test_a_network_in_training_or_without_a_graph_is_refused(small: nn.Module) -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(WrongUse, match="evaluation mode"):
        compile_network(small.train())
    with pytest.raises(WrongUse, match="cannot trace Asks"):
        compile_network(Asks().eval())


def test_without_a_compiler_it_is_slower_and_right(small: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    x = torch.randn(1, 3, 9, 8)
    with pytest.warns(FallbackWarning, match="scipy multiplies"):
        compiled = compile_network(small)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), small(x), rtol=1e-4, atol=1e-5)
