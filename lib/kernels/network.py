"""A pruned network as compiled layers: batch normalisation folded, ReLUs fused, convolutions and linear
layers compiled.

What is not compiled (depthwise convolutions, pooling, additions) stays torch's.
"""

from contextlib import suppress

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lib.errors import WrongUse
from lib.kernels.layers import Block, CompiledConv2d, CompiledLinear
from lib.kernels.pooling import CompiledMaxPool2d, can_compile
from lib.kernels.toolchain import NoCompiler, Toolchain, find_toolchain


def compile_network(
    model: nn.Module,
    *,
    block: Block | None = None,
    precision: str = "fp32",
    threads: int = 1,
    densest: float = 1.0,
    toolchain: Toolchain | None = None,
) -> fx.GraphModule:
    """`model`, which is left as it is, for inference with its pruned layers compiled.

    Layers that keep more than the fraction `densest` of their weights stay torch's.
    Raises WrongUse if the model is in training mode or its code cannot be traced by torch.fx."""
    folded = fold(model)
    if toolchain is None:
        with suppress(NoCompiler):  # the layers then say that they fall back
            toolchain = find_toolchain()
    modules = dict(folded.named_modules())
    for node in list(folded.graph.nodes):
        layer = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, nn.MaxPool2d) and toolchain is not None and can_compile(layer):
            folded.set_submodule(str(node.target), CompiledMaxPool2d(layer, toolchain))
        if not isinstance(layer, nn.Conv2d | nn.Linear) or _kept(layer) > densest:
            continue
        if isinstance(layer, nn.Conv2d) and (layer.groups != 1 or layer.padding_mode != "zeros"):
            continue
        activation = _only_user(node, modules)
        kind = CompiledConv2d if isinstance(layer, nn.Conv2d) else CompiledLinear
        compiled = kind(
            layer,  # type: ignore[arg-type]
            block=block,
            precision=precision,
            threads=threads,
            relu=activation is not None,
            toolchain=toolchain,
        )
        folded.set_submodule(str(node.target), compiled)
        if activation is not None:
            activation.replace_all_uses_with(node)
            folded.graph.erase_node(activation)
    folded.graph.lint()
    folded.recompile()
    return folded


def fold(model: nn.Module) -> fx.GraphModule:
    """A traced copy of `model` in which every batch normalisation after a convolution is part of it."""
    if any(module.training for module in model.modules()):
        raise WrongUse("only a network in evaluation mode is compiled: call .eval() on it first")
    try:
        traced = fx.symbolic_trace(model)
    except (fx.proxy.TraceError, TypeError) as error:
        raise WrongUse(f"torch.fx cannot trace {type(model).__name__}: {error}") from error
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[str(node.target)], nn.BatchNorm2d):
            continue
        source = node.args[0]
        layer = modules.get(str(source.target)) if source.op == "call_module" else None
        if isinstance(layer, nn.Conv2d) and len(source.users) == 1:
            traced.set_submodule(str(source.target), fuse_conv_bn_eval(layer, modules[str(node.target)]))
            node.replace_all_uses_with(source)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _kept(layer: nn.Conv2d | nn.Linear) -> float:
    return int(torch.count_nonzero(layer.weight)) / layer.weight.numel()


def _only_user(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The ReLU that alone uses the result of `node`, if there is one."""
    users = list(node.users)
    if len(users) != 1:
        return None
    (user,) = users
    if user.op == "call_module" and isinstance(modules[str(user.target)], nn.ReLU):
        return user
    relus = (torch.relu, nn.functional.relu)
    return user if user.op == "call_function" and user.target in relus else None
