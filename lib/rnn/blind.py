"""The control of every structure: its own pattern, chosen without a look at the weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.rnn.structure import Structure

STREAM = 1000
"""Added to the seed: a run's own seed draws the initial weights, which a blind mask may not know."""


@dataclass(frozen=True)
class Blind:
    """`structure` applied to random numbers in place of the weights.

    The same `seed` gives a shape the same mask at every call, so that training can settle under it.
    """

    structure: Structure
    seed: int

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`."""
        numbers = torch.randn(weight.shape, generator=torch.Generator().manual_seed(self.seed + STREAM))
        return self.structure.mask(numbers, rate).to(weight.device)
