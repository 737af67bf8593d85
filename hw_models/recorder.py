"""Record the tensor operations of one forward pass, each with the module that ran it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from hw_models.operations import ADDING_FIRST, OVERWRITING, SELECTING, SHAPES, base_name, is_free, kind_of
from hw_models.shapes import Shape, depth_of
from hw_models.workload import Kind, Layer, Uncounted

ROOT = "(root)"


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def distinct_elements(tensor: torch.Tensor) -> int:
    """Elements that exist in memory: an axis made by `expand` holds one."""
    if tensor.layout != torch.strided:
        return tensor.numel()
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    return prod(1 if stride == 0 and size else size for size, stride in axes)


def _share_storage(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.layout != torch.strided or b.layout != torch.strided:
        return a is b
    return a.untyped_storage() is b.untyped_storage()


class Recorder(TorchDispatchMode):
    """Collects one `Layer` per executed operation. `weights` are the tensors the module stores, by name."""

    def __init__(
        self, module: nn.Module, weights: Mapping[str, torch.Tensor], parameters: frozenset[str], bits: int
    ) -> None:
        super().__init__()
        self._names = {id(part): name or ROOT for name, part in module.named_modules()}
        self._stack = [ROOT]
        self._weights = dict(weights)  # keeps the storages alive, so that their ids stay theirs
        self._name_of = {
            id(tensor.untyped_storage()): name
            for name, tensor in self._weights.items()
            if tensor.layout == torch.strided
        }
        self._unread = {name: self._weights[name].numel() for name in sorted(parameters)}
        self._bits = bits
        self._uncounted: Counter[tuple[str, str]] = Counter()
        self.layers: list[Layer] = []

    @property
    def unread(self) -> tuple[str, ...]:
        """Names of the parameters that no operation has read."""
        return tuple(self._unread)

    @property
    def uncounted(self) -> tuple[Uncounted, ...]:
        return tuple(
            Uncounted(name=name, operation=operation, calls=calls)
            for (name, operation), calls in self._uncounted.items()
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record what runs inside. Hooks are global ones, so that no module is written to."""
        with ExitStack() as stack:
            for handle in (
                register_module_forward_pre_hook(self._enter),
                register_module_forward_hook(self._leave, always_call=True),
            ):
                stack.callback(handle.remove)
            stack.enter_context(self)
            yield

    def _enter(self, module: nn.Module, _inputs: Any) -> None:
        # A module made during the forward pass has no path: its work belongs to the module that called it.
        self._stack.append(self._names.get(id(module), self._stack[-1]))

    def _leave(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self._stack.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # questions about a tensor, such as its device
            return func(*args, **kwargs)
        name = base_name(func)
        if name not in SHAPES:
            with self:  # inside inference mode composite operations arrive whole: take them apart
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if not is_free(func):
            self._record(func, name, args, kwargs, result)
        return result

    def _record(self, func: Any, name: str, args: Any, kwargs: Any, result: Any) -> None:
        inputs = list({id(tensor): tensor for tensor in tensors_in((args, kwargs))}.values())
        outputs = list(tensors_in(result))
        mutable = func._schema.is_mutable
        if outputs and not mutable and all(any(_share_storage(o, i) for i in inputs) for o in outputs):
            return  # a view
        kind: Kind
        if name in SHAPES and all(tensor.layout == torch.strided for tensor in inputs):
            kind, shape_of = SHAPES[name]
            shape = shape_of(*args, **kwargs)
        else:  # the work of a product with a sparse operand is not that of its dimensions
            kind, shape = ("uncounted" if name in SHAPES else kind_of(func)), None
        if kind == "uncounted":
            self._uncounted[self._stack[-1], str(func.overloadpacket)] += 1

        written = sum(distinct_elements(tensor) for tensor in outputs)
        read = inputs[1:] if mutable and name in OVERWRITING else inputs
        weights = {id(tensor): self._weight_name(tensor) for tensor in read}
        limit = written if name in SELECTING else None
        weight, matrix = self._multiplied(args[1:3] if name in ADDING_FIRST else args[:2], shape)
        layer = Layer(
            name=self._stack[-1],
            operation=str(func.overloadpacket),
            kind=kind,
            shape=shape,
            weight_params=self._unread.get(weight, 0) if weight else 0,
            params=sum(self._unread.pop(weight, 0) for weight in weights.values() if weight),
            input_elements=_elements([tensor for tensor in read if not weights[id(tensor)]], limit),
            output_elements=written,
            weight_elements=_elements([tensor for tensor in read if weights[id(tensor)]], limit),
            weight=weight,
            matrix=matrix,
            weight_bits=self._bits,
            activation_bits=self._bits,
        )
        if layer.input_elements or layer.output_elements or layer.weight_elements:
            self.layers.append(layer)

    def _multiplied(
        self, operands: Iterable[Any], shape: Shape | None
    ) -> tuple[str | None, tuple[int, int] | None]:
        """Name of the stored operand of a product, the larger of two, and its (outputs, inputs)."""
        stored = [(self._weight_name(tensor), tensor) for tensor in tensors_in(list(operands))]
        named = [(distinct_elements(tensor), name) for name, tensor in stored if name]
        if shape is None or not named:
            return None, None
        elements, name = max(named)
        columns = depth_of(shape)
        return name, (elements // columns, columns) if columns else (0, 0)

    def _weight_name(self, tensor: torch.Tensor) -> str | None:
        return self._name_of.get(id(tensor.untyped_storage())) if tensor.layout == torch.strided else None


def _elements(tensors: list[torch.Tensor], limit: int | None) -> int:
    counts = (distinct_elements(tensor) for tensor in tensors)
    return sum(count if limit is None else min(count, limit) for count in counts)
