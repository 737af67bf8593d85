"""A trace leaves no mark: on the module, on torch's settings, on random numbers."""

from typing import Any

import pytest
import torch
from torch import nn

from hw_models import TraceError, trace


class Remembering(nn.Module):
    """Changes itself in every way a forward pass can."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.calls = 0
        self.seen: list[torch.Tensor] = []
        self.last: torch.Tensor | None = None
        self.steps: torch.Tensor
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.steps += 1
        self.seen.append(x)
        self.last = x
        self.fresh = x
        self.register_buffer("cache", x)
        return torch.nn.functional.dropout(self.norm(self.layer(x)), 0.5)


class DataDependent(Remembering):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum() == x.sum().item() else x


def state(module: nn.Module) -> dict[str, Any]:
    return {
        f"{name}:{key}": value for name, part in module.named_modules() for key, value in vars(part).items()
    }


@pytest.mark.parametrize("kind", [Remembering, DataDependent])
def test_module_is_as_it_was(kind: type[Remembering]) -> None:
    module = kind()
    module.norm.eval()  # one part in another mode than the rest
    module.layer(torch.randn(2, 4)).sum().backward()
    values = {name: value.clone() for name, value in module.state_dict().items()}
    gradient = module.layer.weight.grad
    before = state(module)
    trace(module, torch.randn(3, 4))
    after = state(module)
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before)
    assert module.seen == []
    assert list(module._buffers) == ["steps"]
    assert module.training
    assert not module.norm.training
    assert module.layer.weight.grad is gradient
    assert all(torch.equal(value, values[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("kind", [Remembering, DataDependent])
def test_random_state_and_inputs_are_as_they_were(kind: type[Remembering]) -> None:
    module, example = kind(), torch.randn(3, 4)
    numbers, copy = torch.get_rng_state(), example.clone()
    trace(module, example)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.equal(example, copy)


def settings() -> tuple[object, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.backends.mkldnn.enabled,
        torch.backends.cudnn.enabled,
        torch.backends.mha.get_fastpath_enabled(),
    )


def test_settings_and_global_hooks_are_as_they_were_also_after_a_failure() -> None:
    hooks = torch.nn.modules.module._global_forward_hooks, torch.nn.modules.module._global_forward_pre_hooks
    module, before = Remembering(), settings()
    trace(module, torch.randn(3, 4))
    with pytest.raises(TraceError):
        trace(module, torch.randn(3, 5))
    assert settings() == before
    assert [len(hook) for hook in hooks] == [0, 0]
    assert (module.calls, module.training) == (0, True)


def test_gradients_still_flow_after_a_trace() -> None:
    module = Remembering()
    trace(module, torch.randn(3, 4))
    module.layer(torch.randn(2, 4)).sum().backward()
    assert module.layer.weight.grad is not None
