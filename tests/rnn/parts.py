"""Weights that the tests of structures share."""

import torch
from torch import Tensor


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uneven(rows: int, columns: int, seed: int = 0, spread: float = 0.5) -> Tensor:
    """Gaussian rows whose scales are log-normal: some rows hold much more than others."""
    return gaussian(rows, columns, seed=seed) * torch.exp(spread * gaussian(rows, 1, seed=seed + 1))
