"""Record the tensor operations of one forward pass, each with the module that ran it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from hw_models.operations import (
    LIFTING,
    OVERWRITING,
    SELECTING,
    SHAPES,
    base_name,
    factors_of,
    is_free,
    kind_of,
)
from hw_models.shapes import Attention, Gemm, Shape, depth_of
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


@dataclass
class _Data:
    """What is known of the numbers in one storage."""

    storage: StorageWeakRef | None = None
    """Keeps the storage's address from being given to another one, and its numbers not."""
    writer: int | None = None
    """Index of the layer that wrote here last."""
    weight: str | None = None
    """The stored tensor that this is, or that it was computed from and from nothing but stored ones."""
    constant: bool = False
    """Whether it was made during the run out of nothing, as by `torch.zeros`."""


class Recorder(TorchDispatchMode):
    """Collects one `Layer` per executed operation. `weights` are the tensors the module stores, by name."""

    def __init__(
        self, module: nn.Module, weights: Mapping[str, torch.Tensor], parameters: frozenset[str], bits: int
    ) -> None:
        super().__init__()
        self._names = {id(part): name or ROOT for name, part in module.named_modules()}
        self._stack = [ROOT]
        self._data: dict[int, _Data] = {}
        self._sizes = {name: tensor.numel() for name, tensor in weights.items()}
        for name, tensor in weights.items():
            self._data_of(tensor).weight = name
        self._parameters = parameters
        self._unread = {name: self._sizes[name] for name in sorted(parameters)}
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
        inputs = list({id(tensor): tensor for tensor in tensors_in((args, kwargs))}.values())
        outputs = list(tensors_in(result))
        new = [tensor for tensor in outputs if not any(_share_storage(tensor, other) for other in inputs)]
        if is_free(func):  # a new tensor is not filled yet, and what is lifted was made of Python numbers
            for tensor in outputs if name in LIFTING else new:
                self._data_of(tensor).constant = True
        elif new or not outputs or func._schema.is_mutable:  # else a view
            self._record(func, args, kwargs, inputs, outputs, new)
        return result

    def _record(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        inputs: list[torch.Tensor],
        outputs: list[torch.Tensor],
        new: list[torch.Tensor],
    ) -> None:
        name, mutable = base_name(func), func._schema.is_mutable
        kind: Kind
        if name in SHAPES and all(tensor.layout == torch.strided for tensor in inputs):
            kind, shape_of = SHAPES[name]
            shape = shape_of(*args, **kwargs)
        else:  # the work of a product with a sparse operand is not that of its dimensions
            kind, shape = ("uncounted" if name in SHAPES else kind_of(func)), None
        if kind == "uncounted":
            self._uncounted[self._stack[-1], str(func.overloadpacket)] += 1

        overwritten = inputs[:1] if mutable and name in OVERWRITING else []
        read = inputs[len(overwritten) :]
        factors = list(tensors_in(factors_of(name, args)))
        weight, matrix, shape = self._multiplied(factors, shape)
        origin = self._origin(read, overwritten, is_product=shape is not None)
        names = {self._data_of(tensor).weight for tensor in read}
        sources = {self._data_of(tensor).writer for tensor in read}
        # Fused attention reads its operands again for every image, also those that are the same for all.
        apart = {id(tensor) for tensor in factors} if isinstance(shape, Attention) else set()
        stored = [tensor for tensor in read if self._data_of(tensor).weight and id(tensor) not in apart]
        computed = [tensor for tensor in read if not any(tensor is other for other in stored)]
        written = sum(distinct_elements(tensor) for tensor in outputs)
        limit = written if name in SELECTING else None
        layer = Layer(
            name=self._stack[-1],
            operation=str(func.overloadpacket),
            kind=kind,
            shape=shape,
            weight_params=self._unread.get(weight, 0) if weight else 0,
            params=sum(self._unread.pop(each, 0) for each in names if each),
            input_elements=_elements(computed, limit),
            output_elements=0 if origin else written,
            weight_elements=_elements(stored, limit),
            weight_outputs=written if origin else 0,
            weight=weight,
            matrix=matrix,
            sources=tuple(sorted(source for source in sources if source is not None)),
            weight_bits=self._bits,
            activation_bits=self._bits,
        )
        if not (layer.input_elements or written or layer.weight_elements):
            return
        constant = not origin and all(self._data_of(tensor).constant for tensor in (*read, *overwritten))
        for tensor in outputs if mutable else new:
            data = self._data_of(tensor)
            data.writer, data.weight, data.constant = len(self.layers), origin, constant
        self.layers.append(layer)

    def _multiplied(
        self, factors: Sequence[torch.Tensor], shape: Shape | None
    ) -> tuple[str | None, tuple[int, int] | None, Shape | None]:
        """Name of the stored operand of a product, the larger of two, its (outputs, inputs), and the shape.

        If it is the first operand, that is the shape of the transposed product: the same work, weight second.
        """
        sizes = {
            place: distinct_elements(tensor)
            for place, tensor in enumerate(factors)
            if self._data_of(tensor).weight
        }
        if shape is None or isinstance(shape, Attention) or not sizes:
            return None, None, shape
        place = max(sizes, key=lambda place: (sizes[place], place))
        columns = depth_of(shape)
        if isinstance(shape, Gemm) and place == 0 and len(factors) > 1:
            shape = shape.model_copy(update={"m": shape.n, "n": shape.m})
        matrix = (sizes[place] // columns, columns) if columns else (0, 0)
        return self._data_of(factors[place]).weight, matrix, shape

    def _origin(
        self, read: list[torch.Tensor], overwritten: list[torch.Tensor], is_product: bool
    ) -> str | None:
        """The largest parameter that results come from, if only stored tensors went into them.

        A constant made on the way, such as a zero point, may have gone into them too, but not as a factor of
        a product or one as large as the weight: that may be the first state of a recurrent layer, of which
        every image has its own."""
        stored = [tensor for tensor in (*read, *overwritten) if self._data_of(tensor).weight]
        others = [tensor for tensor in (*read, *overwritten) if not self._data_of(tensor).weight]
        if not stored or not all(self._data_of(tensor).constant for tensor in others):
            return None
        size = max(2, *(distinct_elements(tensor) for tensor in stored))
        constants = [tensor for tensor in read if not self._data_of(tensor).weight]
        if constants and (is_product or max(distinct_elements(tensor) for tensor in constants) >= size):
            return None
        names = filter(None, (self._data_of(tensor).weight for tensor in stored))
        return max(names, key=lambda name: (name in self._parameters, self._sizes[name]))

    def _data_of(self, tensor: torch.Tensor) -> _Data:
        """What is known of a tensor's storage; of a sparse tensor, which has none, nothing."""
        if tensor.layout != torch.strided:
            return _Data()
        storage = tensor.untyped_storage()
        if storage._cdata not in self._data:
            self._data[storage._cdata] = _Data(StorageWeakRef(storage))
        return self._data[storage._cdata]


def _elements(tensors: list[torch.Tensor], limit: int | None) -> int:
    counts = (distinct_elements(tensor) for tensor in tensors)
    return sum(count if limit is None else min(count, limit) for count in counts)
