"""One step down the gradient of a loss, the same in every training here."""

from typing import Protocol

import torch
from torch import Tensor, nn

from lib.errors import ReproError


class Held(Protocol):
    """What must not move: it masks gradients before a step and puts values back after it."""

    def mask_gradients(self) -> None: ...

    def apply(self) -> None: ...


def descend(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    when: str,
    remedy: str,
    clip: float | None = 1.0,
    held: Held | None = None,
) -> None:
    """One step of `optimizer`, the gradient clipped to norm `clip` over all that the optimizer holds.

    Raises ReproError, with `when` and `remedy`, if the loss is not finite.
    """
    if not torch.isfinite(loss):
        raise ReproError(f"the loss is {loss.item()} {when}: {remedy}")
    optimizer.zero_grad()
    loss.backward()
    if held is not None:
        held.mask_gradients()
    if clip is not None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
    optimizer.step()
    if held is not None:
        held.apply()
