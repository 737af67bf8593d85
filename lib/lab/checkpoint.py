"""Training that can be killed: the whole state in one safetensors file, replaced atomically."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from lib.errors import ReproError


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    facts: dict[str, Any],
) -> None:
    """Write weights, optimiser moments and generator to `path`; `facts` (JSON) say how far training is."""
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    tensors["generator"] = generator.get_state()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, partial, metadata={"facts": json.dumps(facts, sort_keys=True)})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> dict[str, Any]:
    """Restore what `save_state` wrote and return its facts.

    Raises:
        ReproError: the file is truncated or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        weights = {
            name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")
        }
        model.load_state_dict(weights)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, moment = name.split(".")
                state.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        generator.set_state(tensors["generator"])
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ReproError(
            f"training state {path} is truncated or of another model; delete it to start over"
        ) from error
    return facts
