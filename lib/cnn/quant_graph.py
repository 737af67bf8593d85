"""A trained network made ready for quantization: BN folded, quantizers put in, cut into reconstruction units.

The network is traced by torch.fx. What its graph may hold is listed here; anything else is an error that
names it, since a layer that nobody quantizes would make every later number wrong in silence.

Activations are quantized wherever a layer, an addition or a pooling reads them, after the activation function
that belongs to the layer before. What only an addition reads stays a wide sum. Network outputs are not
quantized.
"""

import contextlib
import copy
import operator
import re
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.split_module import split_module
from torch.nn import functional as F

from lib.cnn.quantizers import FLOAT, ActivationQuantizer, ScaleKind, WeightQuantizer, Widths
from lib.errors import ReproError

_BLOCK = re.compile(r"^(?:blocks\.\d+(?:\.\d+)?|layer\d+\.\d+|s\d+\.b\d+)(?=\.|$)")
"""Paths of residual and inverted residual blocks, in timm's networks and in this project's."""
_ACTIVATIONS = (nn.ReLU, nn.ReLU6)
_NOTHING = (nn.Identity, nn.Dropout)
_POOLS = ("SelectAdaptivePool2d", "AdaptiveAvgPool2d", "FastAdaptiveAvgPool2d")
_BIAS_BITS = 16


class QuantLayer(nn.Module):
    """A convolution or linear layer with its BN folded in, and a quantizer for its weight.

    `gamma (outputs,)` is the scale vector of that BN, None where there was none. `prescale` multiplies the
    input's share of the weight: a classifier after a sum over positions gets one over their number.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, name: str) -> None:
        super().__init__()
        self.layer, self.name = layer, name
        self.gamma: Tensor | None = None
        self.quantizer: WeightQuantizer | None = None
        self.frozen: tuple[Tensor, Tensor | None] | None = None

    def fold(self, norm: nn.BatchNorm2d) -> None:
        """Takes the normalisation after this layer into its weight and bias; keeps its scale vector."""
        assert norm.running_var is not None
        assert norm.running_mean is not None
        self.gamma = norm.weight.detach().clone()
        factor = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        weight, bias = self.layer.weight, self.layer.bias
        shift = norm.bias.detach() - norm.running_mean * factor
        self.layer.weight = nn.Parameter(weight.detach() * factor.view(-1, *(1,) * (weight.dim() - 1)))
        self.layer.bias = nn.Parameter(shift if bias is None else shift + bias.detach() * factor)

    def quantize(self, bits: int, kind: ScaleKind) -> None:
        """Puts in the quantizer of the weight; 32 bits put in none."""
        if not torch.isfinite(self.layer.weight).all():
            raise ReproError(f"the weights of {self.name} are not finite: load the network's weights again")
        if bits != FLOAT:
            self.quantizer = WeightQuantizer(self.layer.weight.detach(), bits, kind)

    @torch.no_grad()
    def freeze(self) -> None:
        """Fixes scale and rounding for good; with a power-of-two scale the bias becomes a fixed-point
        number.
        """
        if self.quantizer is None:
            return
        self.quantizer.scale.harden()
        self.quantizer.fix_rounding()
        bias = self.layer.bias
        if bias is not None and self.quantizer.scale.exponent is not None:
            scale = torch.exp2(bias_exponent(bias))
            bias = torch.floor(bias / scale + 0.5) * scale
        self.frozen = (self.quantizer(self.layer.weight), bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.frozen is not None:
            weight, bias = self.frozen
        else:
            weight = self.layer.weight if self.quantizer is None else self.quantizer(self.layer.weight)
            bias = self.layer.bias
        return apply_layer(self.layer, x, weight, bias)


def apply_layer(layer: nn.Conv2d | nn.Linear, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`layer` with other weights, of any number type; zeros are padded as the layer does."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    padding: Any = layer.padding
    if type(layer).__name__ == "Conv2dSame":
        x, padding = _pad_same(x, layer), 0
    return F.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)


def _pad_same(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """TensorFlow's padding: outputs = ceil(inputs / stride), the odd zero at the far end."""
    sides = []
    for size, kernel, stride in zip(
        reversed(x.shape[-2:]), reversed(layer.kernel_size), layer.stride, strict=True
    ):
        missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [missing // 2, missing - missing // 2]
    return F.pad(x, sides)


def bias_exponent(bias: Tensor) -> Tensor:
    """The exponent at which 16 bits hold every entry of `bias`; a scalar."""
    largest = bias.abs().max().clamp(min=2.0**-40)
    return torch.floor(torch.log2(largest)) + 2 - _BIAS_BITS


class SumPool(nn.Module):
    """Sum over all positions, `(batch, channels, height, width)` to `(batch, channels)`.

    An average divides by their number, which is rarely a power of two; the next layer's weights do that
    instead.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3))


class Unit(nn.Module):
    """One reconstruction unit: a residual block, or a single layer with what follows it."""

    def __init__(self, name: str, graph: fx.GraphModule) -> None:
        super().__init__()
        self.name, self.graph = name, graph

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.graph(x)
        return result

    @property
    def layers(self) -> list[QuantLayer]:
        return [module for module in self.modules() if isinstance(module, QuantLayer)]

    @property
    def activations(self) -> list[ActivationQuantizer]:
        return [module for module in self.modules() if isinstance(module, ActivationQuantizer)]

    @property
    def closing_gamma(self) -> Tensor | None:
        """The BN scales that close the unit's main path: those of its last layer that is no shortcut."""
        main = [
            layer for layer in self.layers if "downsample" not in layer.name and "shortcut" not in layer.name
        ]
        return main[-1].gamma if main else None


class QuantNetwork(nn.Sequential):
    """The units of a network, one after the other."""

    def units(self) -> Iterator[Unit]:
        for unit in self:
            assert isinstance(unit, Unit)
            yield unit

    @property
    def layers(self) -> list[QuantLayer]:
        return [layer for unit in self.units() for layer in unit.layers]

    @property
    def activations(self) -> list[ActivationQuantizer]:
        return [quantizer for unit in self.units() for quantizer in unit.activations]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return (
            isinstance(module, nn.Conv2d | nn.BatchNorm2d)
            or type(module).__name__ in _POOLS
            or (super().is_leaf_module(module, name))
        )


def prepare_network(model: nn.Module, widths: Widths, kind: ScaleKind, example: Tensor) -> QuantNetwork:
    """A copy of `model` in evaluation mode, folded, with quantizers, as units that follow each other.

    Args:
        kind: of all scales.
        example: images `(n, ...)` of the size to be used; the sum of the last pooling depends on it.

    Raises:
        ReproError: the network holds an operation that this code cannot quantize, or has no BN.
    """
    model = copy.deepcopy(model).eval()
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        raise ReproError(
            f"{type(model).__name__} has no batch normalisation: the reconstruction exponent is read off its "
            "scales; quantize a network with BatchNorm2d after its convolutions"
        )
    try:
        graph = _Tracer().trace(model)
    except (fx.proxy.TraceError, TypeError) as error:
        raise ReproError(
            f"{type(model).__name__} cannot be traced ({error}); its forward pass may not depend on "
            "its values"
        ) from error
    traced = fx.GraphModule(model, graph)
    _clean(traced)
    _fold(traced)
    _sum_pools(traced, example)
    _insert_quantizers(traced, widths, kind)
    return _split(traced)


def _clean(traced: fx.GraphModule) -> None:
    """One form for each operation: modules for layers and activations, `operator.add` for additions."""
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op in ("placeholder", "output"):
            continue
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d | nn.Linear):
            _replace(traced, node, QuantLayer(module, str(node.target)))
        elif isinstance(module, _ACTIVATIONS):
            module.inplace = False
        elif isinstance(module, _NOTHING) or node.target is F.dropout:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
        elif node.target in (F.relu, F.relu6, torch.relu, "relu"):
            kind = nn.ReLU6 if node.target is F.relu6 else nn.ReLU
            _replace(traced, node, kind(), f"{node.name}_activation")
        elif node.target in (operator.add, operator.iadd, torch.add, "add", "add_"):
            node.op, node.target, node.kwargs = "call_function", operator.add, {}
        elif (node.target == "mean" or node.target is torch.mean) and _axes(node) in ((2, 3), (-2, -1)):
            _replace(traced, node, nn.AdaptiveAvgPool2d(1), f"{node.name}_pool")
        elif node.target == "flatten" or node.target is torch.flatten or isinstance(module, nn.Flatten):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
        elif not isinstance(module, nn.BatchNorm2d | nn.MaxPool2d) and type(module).__name__ not in _POOLS:
            what = (
                type(module).__name__ if module is not None else getattr(node.target, "__name__", node.target)
            )
            raise ReproError(
                f"layer {node.target if module is not None else node.name} is of an unknown type, {what}: "
                "only Conv2d, Linear, BatchNorm2d, ReLU, ReLU6, additions, maximum and average pooling can "
                "be quantized"
            )


def _axes(node: fx.Node) -> Any:
    return node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")


def _replace(traced: fx.GraphModule, node: fx.Node, module: nn.Module, name: str = "") -> None:
    """Lets `node` call `module`, under the path it had or a new `name`, on its first operand alone."""
    path = name or str(node.target)
    if name:
        node.op, node.target = "call_module", path
    traced.set_submodule(path, module) if not name else traced.add_submodule(path, module)
    node.args, node.kwargs = node.args[:1], {}


def _fold(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        norm = _module(traced, node)
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before = node.args[0]
        layer = _module(traced, before)
        if not isinstance(layer, QuantLayer) or len(before.users) > 1:
            raise ReproError(
                f"batch normalisation {node.target} does not follow a convolution of its own, so it cannot "
                "be folded; only Conv2d-BatchNorm2d pairs are known here"
            )
        layer.fold(norm)
        activation = getattr(norm, "act", nn.Identity())  # timm's BatchNormAct2d brings its activation along
        if isinstance(activation, nn.Identity):
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
        elif isinstance(activation, _ACTIVATIONS):
            activation.inplace = False
            traced.set_submodule(str(node.target), activation)
        else:
            raise ReproError(
                f"activation {type(activation).__name__} of {node.target} is of an unknown type: only ReLU "
                "and ReLU6 can be quantized"
            )


def _sum_pools(traced: fx.GraphModule, example: Tensor) -> None:
    """Average pooling becomes a sum, and the linear layer behind it divides."""
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or type(_module(traced, node)).__name__ not in _POOLS:
            continue
        readers = [_module(traced, user) for user in node.users]
        if len(readers) != 1 or not isinstance(readers[0], QuantLayer):
            raise ReproError(
                f"average pooling {node.target} is not read by one linear layer; cannot quantize that"
            )
        positions = _positions(traced, node.args[0], example)
        readers[0].layer.weight = nn.Parameter(readers[0].layer.weight.detach() / positions)
        traced.set_submodule(str(node.target), SumPool())


@torch.no_grad()
def _positions(traced: fx.GraphModule, node: fx.Node, example: Tensor) -> int:
    """Positions of the feature map that `node` makes of `example`."""
    found = {}

    class Watch(fx.Interpreter):
        def run_node(self, each: fx.Node) -> Any:
            result = super().run_node(each)
            if each is node:
                found["shape"] = result.shape
                raise StopIteration
            return result

    with contextlib.suppress(StopIteration):
        Watch(traced).run(example[:1])
    return int(found["shape"][2] * found["shape"][3])


def _insert_quantizers(traced: fx.GraphModule, widths: Widths, kind: ScaleKind) -> None:
    nodes = list(traced.graph.nodes)
    layers = [node for node in nodes if isinstance(_module(traced, node), QuantLayer)]
    for node in layers:
        layer = _module(traced, node)
        assert isinstance(layer, QuantLayer)
        layer.quantize(widths.ends if node in (layers[0], layers[-1]) else widths.weights, kind)
    ends = _near_the_ends(traced, nodes, layers)
    for node in nodes:
        if not _needs_quantizer(traced, node):
            continue
        bits = widths.ends if node in ends else widths.activations
        name = f"{node.name}_quantizer"
        traced.add_submodule(name, ActivationQuantizer(bits, kind, str(node.target)))
        with traced.graph.inserting_after(node):
            added = traced.graph.call_module(name, (node,))
        added.meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
        node.replace_all_uses_with(added, delete_user_cb=lambda user, added=added: user is not added)


def _needs_quantizer(traced: fx.GraphModule, node: fx.Node) -> bool:
    module = _module(traced, node)
    if node.op == "output" or isinstance(module, nn.MaxPool2d):
        return False  # the greatest of quantized values is one of them
    readers = list(node.users)
    if len(readers) == 1 and isinstance(_module(traced, readers[0]), _ACTIVATIONS):
        return False
    return any(reader.op == "call_module" for reader in readers)


def _near_the_ends(traced: fx.GraphModule, nodes: list[fx.Node], layers: list[fx.Node]) -> set[fx.Node]:
    """Nodes whose activations keep the width of the ends: input, first layer, and what leads to the last."""
    ends = {node for node in nodes if node.op == "placeholder"}
    after = layers[0]
    ends |= {after, *(user for user in after.users if isinstance(_module(traced, user), _ACTIVATIONS))}
    before = layers[-1].args[0]
    while isinstance(before, fx.Node) and before not in ends:
        ends.add(before)
        if not isinstance(_module(traced, before), SumPool | nn.MaxPool2d):
            break
        before = before.args[0]
    return ends


def _split(traced: fx.GraphModule) -> QuantNetwork:
    """The units as modules of a chain."""
    numbers: dict[str, int] = {}
    names: list[str] = []
    place: dict[fx.Node, int] = {}
    key = ""
    for node in traced.graph.nodes:
        if node.op == "output":
            continue
        block = _block_of(node)
        if block:
            key = block
        elif isinstance(_module(traced, node), QuantLayer) or _BLOCK.fullmatch(key):
            key = str(node.target)
        if node.op == "placeholder":
            continue
        key = key or str(node.target)
        if key not in numbers:
            numbers[key] = len(numbers)
            names.append(key)
        place[node] = numbers[key]
    traced.recompile()
    parts = split_module(traced, traced, lambda node: place[node], keep_original_order=True)
    calls = [node for node in parts.graph.nodes if node.op == "call_module"]
    last: Any = next(node for node in parts.graph.nodes if node.op == "placeholder")
    units: list[Unit] = []
    for call in calls:
        if call.args != (last,):
            raise ReproError(
                f"unit {names[len(units)]} reads more than the unit before it: blocks of this network are "
                "not known; its residual blocks must be named blocks.N, layerN.M or sN.bM"
            )
        units.append(Unit(names[len(units)], cast(fx.GraphModule, parts.get_submodule(str(call.target)))))
        last = call
    return QuantNetwork(*units)


def _block_of(node: fx.Node) -> str:
    """Path of the residual block that `node` belongs to, or nothing."""
    paths = [str(node.target)] if node.op == "call_module" else []
    paths += [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    # the innermost module: timm's stages are called blocks.N as well
    return max((found[0] for path in paths if (found := _BLOCK.match(path))), key=len, default="")


def _module(traced: fx.GraphModule, node: Any) -> nn.Module | None:
    if isinstance(node, fx.Node) and node.op == "call_module":
        return traced.get_submodule(str(node.target))
    return None
