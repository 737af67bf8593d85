"""Quantized networks as ONNX, for what ONNX Runtime computes with integers: eight bits.

Each quantizer becomes a QuantizeLinear and a DequantizeLinear, each weight its bytes and a DequantizeLinear;
the runtime merges them with the layer between into an integer kernel. ONNX rounds halves to the even
neighbour, this project upwards, so values exactly between two levels may differ by one of them.
"""

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from lib.cnn.quant_graph import QuantLayer, QuantNetwork, SumPool
from lib.cnn.quantizers import ActivationQuantizer
from lib.errors import ReproError
from lib.lab.export import onnx_session
from lib.lab.measure import latencies

_OPSET, _IR_VERSION, _BITS = 17, 9, 8


class _Writer:
    """Collects the nodes and constants of one ONNX graph."""

    def __init__(self) -> None:
        import onnx

        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: Any) -> str:
        """The name of a new constant."""
        name = f"constant{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, **options: Any) -> str:
        """The name of the result of a new node."""
        name = f"value{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], **options))
        return name

    def unit(self, graph: fx.GraphModule, value: str) -> str:
        """Appends one unit that reads `value`; the name of its result."""
        names: dict[fx.Node, str] = {}
        for node in graph.graph.nodes:
            given = [names[argument] for argument in node.args if isinstance(argument, fx.Node)]
            if node.op == "placeholder":
                names[node] = value
            elif node.op == "output":
                return given[0]
            elif node.target is operator.add:
                names[node] = self.add("Add", *given)
            else:
                names[node] = self.module(graph.get_submodule(str(node.target)), given[0])
        raise AssertionError("a traced graph ends with its output")

    def module(self, module: nn.Module, value: str) -> str:
        match module:
            case QuantLayer():
                return self.layer(module, value)
            case ActivationQuantizer():
                return self.quantizer(module, value)
            case nn.ReLU6():
                return self.add("Clip", value, self.constant(np.float32(0)), self.constant(np.float32(6)))
            case nn.ReLU():
                return self.add("Relu", value)
            case SumPool():
                return self.add("ReduceSum", value, self.constant(np.array([2, 3])), keepdims=0)
            case nn.MaxPool2d():
                kernel, stride, pad = (
                    [size] * 2 if isinstance(size, int) else list(size)
                    for size in (module.kernel_size, module.stride, module.padding)
                )
                return self.add("MaxPool", value, kernel_shape=kernel, strides=stride, pads=pad * 2)
        raise ReproError(f"no ONNX form of a {type(module).__name__} is known")

    def quantizer(self, quantizer: ActivationQuantizer, value: str) -> str:
        if quantizer.t is None or quantizer.bits != _BITS:
            raise ReproError(
                f"activations at {quantizer.name} have {quantizer.bits} bits: ONNX Runtime computes with "
                "integers of 8 bits only, so export a network quantized to w8a8"
            )
        scale, zero = (self.constant(each) for each in _numbers(*quantizer.values()))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", value, scale, zero), scale, zero)

    def layer(self, layer: QuantLayer, value: str) -> str:
        quantizer, frozen = layer.quantizer, layer.frozen
        if quantizer is None or frozen is None or quantizer.bits != _BITS:
            raise ReproError(
                f"the weights of {layer.name} are not quantized to 8 bits: ONNX Runtime computes with "
                "integers of 8 bits only, so export a network quantized to w8a8"
            )
        scale, zero = quantizer.scale.values()
        levels = (frozen[0] / scale + zero).round().detach().cpu().numpy().astype(np.uint8)
        each = [self.constant(numbers) for numbers in _numbers(scale.flatten(), zero.flatten())]
        weight = self.add("DequantizeLinear", self.constant(levels), *each, axis=0)
        bias = [] if frozen[1] is None else [self.constant(frozen[1].detach().cpu().numpy())]
        inner = layer.layer
        if isinstance(inner, nn.Linear):
            return self.add("Gemm", value, weight, *bias, transB=1)
        same = type(inner).__name__ == "Conv2dSame"
        assert not isinstance(inner.padding, str)
        pads = {"auto_pad": "SAME_UPPER"} if same else {"pads": list(inner.padding) * 2}
        options = {"strides": list(inner.stride), "dilations": list(inner.dilation), "group": inner.groups}
        return self.add("Conv", value, weight, *bias, **options, **pads)


def to_onnx(network: QuantNetwork, image: Tensor) -> bytes:
    """An ONNX model of a reconstructed `network` for batches of images like `image (1, ...)`.

    Raises ReproError if the network is not quantized to 8 bits.
    """
    writer = _Writer()
    helper, numbers = writer.onnx.helper, writer.onnx.TensorProto.FLOAT
    value = "images"
    for unit in network.units():
        value = writer.unit(unit.graph, value)
    graph = helper.make_graph(
        writer.nodes,
        "network",
        [helper.make_tensor_value_info("images", numbers, ["batch", *image.shape[1:]])],
        [helper.make_tensor_value_info(value, numbers, ["batch", "classes"])],
        writer.constants,
    )
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
    writer.onnx.checker.check_model(model)
    result: bytes = model.SerializeToString()
    return result


def _numbers(scale: Tensor, zero: Tensor) -> tuple[Any, Any]:
    return scale.detach().cpu().numpy().astype(np.float32), zero.detach().cpu().numpy().astype(np.uint8)


def agreement(model: bytes, network: nn.Module, images: Tensor) -> float:
    """Percent of `images` that ONNX Runtime and `network` give the same class."""
    (found,) = onnx_session(model).run(None, {"images": images.cpu().numpy()})
    with torch.no_grad():
        wanted = network(images).argmax(1).cpu().numpy()
    return 100 * float((found.argmax(1) == wanted).mean())


def latencies_ms(model: bytes, image: Tensor, batches: Sequence[int] = (1, 32)) -> dict[str, float]:
    """Milliseconds an image of `model` in ONNX Runtime on one thread, at each of `batches`."""
    run = onnx_session(model)
    given = {f"batch {size}": image.cpu().expand(size, *image.shape[1:]).numpy().copy() for size in batches}
    contenders = {name: partial(run.run, None, {"images": images}) for name, images in given.items()}
    found = latencies(contenders, rounds=3, burst_s=0.1)
    return {name: 1e3 * found[name].minimum_s / size for name, size in zip(found, batches, strict=True)}
