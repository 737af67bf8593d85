"""`trace`: from any torch module and example inputs to its workload."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hw_models.errors import TraceError, UncountedWarning, check_count
from hw_models.untouched import untouched
from hw_models.workload import Workload

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hw_models.recorder import Recorder


def trace(module: "nn.Module", *example_inputs: Any, bits: int = 32) -> Workload:
    """The workload of one inference of `module` on `example_inputs`, with numbers of `bits` bits.

    Shapes alone are propagated (torch's fake tensors) where the module allows it, which is quick and takes
    no memory; a module whose course depends on values is computed instead. `execution` and `fallback` of the
    result say which. The module runs in evaluation mode without gradients, on copies of its parameters and
    buffers, and is left as it was found. Its own forward hooks run as in any forward pass.

    Multiply-accumulates are those of matrix products, convolutions and attention, fused attention counting as
    much as its two products. Operations whose arithmetic is unknown are listed in `uncounted` and raise an
    UncountedWarning. Operations that torch takes apart before they can be seen, such as RMSNorm and nearest
    upsampling, are recorded as their parts. A weight that the run computes from parameters alone, such as a
    normalised or quantised one, is read as a weight.

    Not supported: a ScriptModule, whose operations cannot be seen (trace the module it was made from), a
    DataParallel (trace its `module`), and keyword arguments of `forward` (wrap the module in one that sets
    them).

    Raises TraceError if the module cannot run on the inputs.
    """
    import torch
    from torch.nn.parameter import is_lazy

    if not isinstance(module, torch.nn.Module):
        raise TraceError(f"only a torch.nn.Module can be traced, not {type(module).__name__}")
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise TraceError(
                f"{name or type(module).__name__} is a ScriptModule, whose operations cannot be seen; "
                "trace the module that it was made from"
            )
    check_count("bits", bits)
    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise TraceError(f"{type(module).__name__} has lazy parameters: run it once before tracing it")

    try:
        recorder, fallback = _propagate(module, example_inputs, bits), None
    except (
        Exception
    ) as error:  # fake tensors fail in many ways; what is wrong with the module fails below again
        fallback = _first_line(error)
        try:
            recorder = _compute(module, example_inputs, bits)
        except Exception as real_error:
            raise TraceError(
                f"{type(module).__name__} cannot run on the example inputs: {_first_line(real_error)}"
            ) from real_error

    workload = Workload(
        network=type(module).__name__,
        layers=tuple(recorder.layers),
        params=sum(parameter.numel() for parameter in module.parameters()),
        unread_params=recorder.unread,
        uncounted=recorder.uncounted,
        execution="real" if fallback else "fake",
        fallback=fallback,
    )
    if workload.uncounted:
        names = ", ".join(map(str, workload.uncounted))
        warnings.warn(f"multiply-accumulates not counted: {names}", UncountedWarning, stacklevel=2)
    return workload


def _propagate(module: "nn.Module", inputs: tuple[Any, ...], bits: int) -> "Recorder":
    """Run the module on tensors that have a shape but no data."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    def fake(tensor: "torch.Tensor") -> "torch.Tensor":
        # On the CPU whatever the device was: the operations are the same, and no accelerator is needed.
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")

    with FakeTensorMode(allow_non_fake_inputs=True):
        return _run(module, inputs, bits, fake)


def _compute(module: "nn.Module", inputs: tuple[Any, ...], bits: int) -> "Recorder":
    """Run the module on copies of its own data."""
    return _run(module, inputs, bits, lambda tensor: tensor.detach().clone())


def _run(
    module: "nn.Module", inputs: tuple[Any, ...], bits: int, copy: Callable[["torch.Tensor"], "torch.Tensor"]
) -> "Recorder":
    import torch

    from hw_models.recorder import Recorder

    with untouched(module), torch.inference_mode(False), torch.no_grad(), _plain_operations():
        module.eval()
        parameters = {name: copy(tensor) for name, tensor in module.named_parameters()}
        buffers = {name: copy(tensor) for name, tensor in module.named_buffers()}
        weights = {**parameters, **buffers}
        recorder = Recorder(module, weights, frozenset(parameters), bits)
        arguments = tuple(_mapped(value, copy) for value in inputs)
        with recorder.watching():
            torch.func.functional_call(module, weights, arguments)
    return recorder


@contextmanager
def _plain_operations() -> Iterator[None]:
    """Switch off the library calls in which torch hides a whole recurrent layer or encoder block."""
    import torch

    mkldnn: Any = torch.backends.mkldnn
    cudnn: Any = torch.backends.cudnn
    fastpath = torch.backends.mha
    before = mkldnn.enabled, cudnn.enabled, fastpath.get_fastpath_enabled()
    try:
        mkldnn.enabled = cudnn.enabled = False
        fastpath.set_fastpath_enabled(False)
        yield
    finally:
        mkldnn.enabled, cudnn.enabled = before[:2]
        fastpath.set_fastpath_enabled(before[2])


def _mapped(value: Any, copy: Callable[["torch.Tensor"], "torch.Tensor"]) -> Any:
    """`value` with `copy` applied to the tensors in nested lists, tuples and dictionaries."""
    import torch

    if isinstance(value, torch.Tensor):
        return copy(value)
    if isinstance(value, dict):
        return type(value)((key, _mapped(item, copy)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        items = [_mapped(item, copy) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
