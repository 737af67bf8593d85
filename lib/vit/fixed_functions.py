"""Arithmetic of HeatViT's function units on whole numbers: shifts, additions and multiplications.

A number n with f fraction bits stands for n 2^-f; all scales are powers of two, so that rescaling is a shift.
Numbers are held as int64, or, to simulate that, as floats without fraction: the same lines run on both, and
give the same as long as no number passes what the float holds exactly (2^53 in float64).
"""

import math
from typing import Any

import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.vit import approximations as smooth

BITS = 8
"""Of weights and of all operands of products."""
RESULT, RESULT_LIMIT = 8, 2**15 - 1
"""Fraction bits of what leaves the engine, and the largest such number (16 bits)."""
SCORE = 10
"""Fraction bits of attention scores, where the integer softmax takes them."""
PROBABILITY = 12
"""Fraction bits of the selectors' two-class probabilities."""
SIGMOID = 13
"""Fraction bits of the sigmoid: enough for its steps of 1/32 of an input with RESULT bits to be exact."""
LN_2, FARTHEST = round(math.log(2) * 2**SCORE), 18 * round(math.log(2) * 2**SCORE)
"""ln 2 with SCORE bits; scores that lie farther below the largest give 0 anyway."""
EXACT_BITS = 53
"""Whole numbers up to two to this power are exact in float64."""


def to_float(n: Tensor, fraction: int, like: Tensor) -> Tensor:
    """What numbers `n` with `fraction` bits stand for, in the type of `like`."""
    return n.to(like.dtype) * 2.0**-fraction


def to_numbers(x: Tensor, fraction: int) -> Tensor:
    """`x` as numbers with `fraction` bits, held in floats: to the nearest, halves up."""
    return (x.detach() * 2.0**fraction).add_(0.5).floor_()


def shifted(n: Tensor, bits: int) -> Tensor:
    """`n` 2^-bits, rounded down; `bits` may be negative."""
    if n.is_floating_point():
        return (n * 2.0**-bits).floor_()
    return n >> bits if bits >= 0 else n << -bits


def rounded(n: Tensor, bits: int) -> Tensor:
    """`n` 2^-bits, rounded to the nearest, halves up."""
    return shifted(n + 2 ** (bits - 1), bits) if bits > 0 else shifted(n, bits)


def divided(n: Tensor, by: Any) -> Tensor:
    """`n` / `by`, rounded down."""
    return torch.floor(n / by) if n.is_floating_point() else torch.div(n, by, rounding_mode="floor")


def gelu(n: Tensor, delta_1: float) -> Tensor:
    """The polynomial GELU of numbers with RESULT fraction bits, to the same."""
    factor = round(delta_1 * 2**8)
    u = shifted(n.abs() * round(2**10 / math.sqrt(2)), RESULT)  # |x| / sqrt 2, 10 fraction bits
    bent = u.clamp(max=round(-smooth.ERF_B * 2**10)) - round(-smooth.ERF_B * 2**10)
    size = 2**12 - shifted(shifted(bent * bent, 8) * round(-smooth.ERF_A * 2**12), 12)
    size = shifted(size * factor, 8)  # |L_erf|, 12 fraction bits
    return rounded(n * (2**12 + n.sign() * size), 13)


def exp(below: Tensor) -> Tensor:
    """exp(-x) of numbers `below` >= 0 with SCORE fraction bits, to 16 fraction bits."""
    below = below.clamp(max=FARTHEST)
    z = divided(below, LN_2)
    q = z * LN_2 - below + round(smooth.EXP_SHIFT * 2**SCORE)
    e = shifted(shifted(q * q, 8) * round(smooth.EXP_SCALE * 2**12), 8) + round(smooth.EXP_OFFSET * 2**16)
    if not e.is_floating_point():
        return e >> z
    return (e * torch.exp2(-z)).floor_()  # exact, the exponent being whole


def softmax(scores: Tensor, delta_2: float, fraction: int, seen: Tensor | None = None) -> Tensor:
    """The polynomial softmax of `scores` with SCORE fraction bits, to the nearest with `fraction` bits.

    `seen`, 1 or 0, like `scores`. Every row must see something.
    """
    if seen is None:
        e = exp(scores.amax(-1, keepdim=True) - scores)
    else:
        hidden = -(2.0**40) if scores.is_floating_point() else -(2**40)
        highest = scores.masked_fill(seen == 0, hidden).amax(-1, keepdim=True)
        e = exp((highest - scores).clamp(min=0)).masked_fill(seen == 0, 0)
    wide = e.double() if e.is_floating_point() else e  # a quotient of two wide numbers
    total = wide.sum(-1, keepdim=True)
    share = divided(wide * round(delta_2 * 2**8) * 2 ** (fraction + 1) + total * 2**8, total * 2**9)
    return share.to(scores)


def sigmoid(n: Tensor) -> Tensor:
    """PLAN of numbers with RESULT fraction bits, to SIGMOID fraction bits; nothing is rounded."""
    size = n.abs()
    y = torch.zeros_like(n)
    for start, slope, offset in smooth.PLAN_PIECES:
        line = size * round(slope * 2 ** (SIGMOID - RESULT)) + round(offset * 2**SIGMOID)
        y = torch.where(size >= round(start * 2**RESULT), line, y)
    return torch.where(n < 0, 2**SIGMOID - y, y)


def exact_matmul(a: Tensor, b: Tensor, *, bits: int = 2 * BITS) -> Tensor:
    """Product of two int64 tensors whose entries have `bits` bits together, by way of float64, exactly.

    Raises WrongUse if a sum could pass 2^53, where float64 begins to round.
    """
    if a.shape[-1] * 2**bits > 2**EXACT_BITS:
        raise WrongUse(f"a sum of {a.shape[-1]} products of {bits} bits does not fit in float64")
    return (a.double() @ b.double()).long()
