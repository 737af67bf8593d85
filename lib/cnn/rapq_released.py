"""What the released code of RAPQ does in three places where it departs from its own description.

Each function repeats the released behaviour on one tensor, for tests and figures to hold against
`lib.cnn.quantizers`; nothing is quantized with them.

1. The step that should round a scale writes into a copy made by masked indexing, so scales stay what they
were.
2. The zero point is left fractional, so that clipped and unclipped values lie on two grids: five levels at
two bits.
3. The trainable log2 of an activation scale is made anew in each forward pass; the optimizer holds the first
one.
"""

import torch
from torch import Tensor, nn

from lib.cnn.quantizers import search_scale


def scale_after_rounding(scale: Tensor) -> Tensor:
    """`scale (rows,)` after the released rounding to powers of two: unchanged."""
    result = scale.clone()
    chosen = result[result > 0]  # a copy: masked indexing does not give a view
    chosen.copy_(torch.round(chosen))
    return result


def values_with_fractional_zero(rows: Tensor, bits: int) -> Tensor:
    """x_hat of `rows (rows, values)` at the nearest power of two, with z rescaled but not rounded."""
    scale, zero = search_scale(rows, bits)
    power = torch.exp2(torch.floor(torch.log2(scale) + 0.5))[:, None]
    moved = zero[:, None] * scale[:, None] / power
    q = (torch.floor(rows / power + 0.5) + moved).clamp(0, 2**bits - 1)
    return (q - moved) * power


class RecreatedScale(nn.Module):
    """A quantizer that makes its trainable parameter `t` in every forward pass."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start
        self.t = nn.Parameter(torch.tensor(start))

    def forward(self, x: Tensor) -> Tensor:
        self.t = nn.Parameter(torch.tensor(self.start))
        scale = torch.exp2(self.t)
        return x / scale * scale * scale


def gradient_of_stale_parameter(x: Tensor) -> bool:
    """Whether the parameter that an optimizer was given gets a gradient from a loss on `x`."""
    quantizer = RecreatedScale(-2.0)
    held = quantizer.t
    quantizer(x).square().mean().backward()
    return held.grad is not None


def most_levels(values: Tensor) -> int:
    """The most distinct values in a row of `values (rows, values)`."""
    return max(len(torch.unique(row)) for row in values)
