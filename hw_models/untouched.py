"""Leave a module exactly as it was found, whatever its forward pass does to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def untouched(module: "nn.Module") -> Iterator[None]:
    """Restore the attributes of `module` and its submodules on leaving, and the random states of torch.

    A forward pass may count steps, cache masks or append to lists; while tracing it would leave tensors
    without data behind. Attributes are restored by identity, built-in containers held directly by a module
    also in their contents. Values inside tensors are not covered: the tracer hands out copies.
    """
    import torch

    devices = {tensor.get_device() for tensor in module.parameters() if tensor.is_cuda}
    before = [
        (part, {key: (value, _copied(value)) for key, value in vars(part).items()})
        for part in module.modules()
    ]
    with torch.random.fork_rng(devices=sorted(devices)):
        try:
            yield
        finally:
            for part, attributes in before:
                vars(part).clear()
                for key, (value, contents) in attributes.items():
                    _refill(value, contents)
                    vars(part)[key] = value


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, (list, dict, set)) else None


def _refill(value: Any, contents: Any) -> None:
    if isinstance(value, list):
        value[:] = contents
    elif isinstance(value, (dict, set)):
        value.clear()
        value.update(contents)
