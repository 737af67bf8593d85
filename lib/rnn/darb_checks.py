"""What follows from DARB's equations alone: index bits, retained energy, rates (AAAI 2020, arXiv:1911.08020).

Survivor: a weight that is kept. Energy of a mask: ||W * mask||^2 / ||W||^2. k: weights in a block, one of
which survives. b_w: bits of a weight. Rows of irregularly pruned matrices differ in density; to have such
rows without training, `uneven_rows` scales rows of Gaussian weights by log-normal factors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2, sqrt
from typing import Literal

import torch
from torch import Tensor

from hw_models.darb_decoder import DecodeCycles, csr_cycles, fixed_block_cycles, relative_index_cycles
from lib.errors import WrongUse
from lib.rnn.baselines import Unstructured
from lib.rnn.darb import DensityAdaptive, block_max_mask
from lib.rnn.structure import measured_rate

Distribution = Literal["gaussian", "laplace"]
Rounding = Literal["nearest", "down", "up"]

BLOCKS = (4, 8, 16, 32)
WEIGHT_BITS, CSR_COLUMN_BITS, RELATIVE_BITS = 16, 10, 4
"""Bits of a weight; of a column of a matrix with 1024 of them; of a relative index."""
SIDE = 1024
REFERENCE = 16.0
"""Rate of the irregular pruning from which densities of uneven rows are taken."""
LARGEST = 64
SPREAD = 0.3
"""Standard deviation of the logarithm of a row's scale."""


def index_bits(k: int) -> dict[str, float]:
    """Bits of position for each survivor at rate k; CSR without its row pointers."""
    return {"bmwm": log2(k), "csr": CSR_COLUMN_BITS, "relative": RELATIVE_BITS}


def stored_bits(k: int) -> dict[str, float]:
    """Bits stored for each weight of the unpruned matrix at rate k; relative index before padding."""
    return {name: (WEIGHT_BITS + bits) / k for name, bits in index_bits(k).items()}


def draw(distribution: Distribution, generator: torch.Generator, side: int = SIDE) -> Tensor:
    """Independent weights (side, side) of unit scale."""
    if distribution == "gaussian":
        return torch.randn(side, side, generator=generator)
    if distribution != "laplace":
        raise WrongUse(f"no distribution {distribution!r}; known: gaussian, laplace")
    signs = torch.randint(0, 2, (side, side), generator=generator) * 2 - 1
    return signs * torch.empty(side, side).exponential_(generator=generator)


def energy(weight: Tensor, mask: Tensor) -> float:
    """||W * mask||^2 / ||W||^2; 1 for a matrix of zeros."""
    squares = weight.detach().double().square()
    whole = float(squares.sum())
    return float((squares * mask).sum()) / whole if whole else 1.0


def energies(distribution: Distribution, generator: torch.Generator) -> dict[int, dict[str, float]]:
    """By k, the energy that block maxima keep, and the largest weights anywhere at the same rate."""
    weight = draw(distribution, generator)
    return {
        k: {
            "bmwm": energy(weight, block_max_mask(weight, k)),
            "unstructured": energy(weight, Unstructured().mask(weight, k)),
        }
        for k in BLOCKS
    }


def uneven_rows(generator: torch.Generator, side: int = SIDE) -> Tensor:
    """Gaussian weights (side, side) with a log-normal scale for each row."""
    scale = torch.randn(side, 1, generator=generator).mul(SPREAD).exp()
    return torch.randn(side, side, generator=generator) * scale


def rounded_sizes(density: Tensor, rounding: Rounding, smallest: int = 1, largest: int = LARGEST) -> Tensor:
    """k_i = 2^round(log2(1/d_i)) of the densities d_i (rows,), clipped; an empty row gets the largest."""
    exponent = -density.double().log2()
    ways = {"nearest": torch.round, "down": torch.floor, "up": torch.ceil}
    if rounding not in ways:
        raise WrongUse(f"no rounding {rounding!r}; known: {', '.join(ways)}")
    exponent = ways[rounding](exponent).clamp(log2(smallest), log2(largest))
    sizes: Tensor = (2**exponent).long()
    return sizes


def rate_of(block_sizes: Sequence[int] | Tensor) -> float:
    """m / sum_i(1/k_i): weights per survivor of m rows whose widths their blocks divide."""
    sizes = torch.as_tensor(block_sizes).double()
    if len(sizes) == 0 or float(sizes.min()) < 1:
        raise WrongUse("block sizes must be one whole number of at least 1 a row")
    return float(len(sizes) / (1 / sizes).sum())


@dataclass(frozen=True)
class UnevenRows:
    """Rows of differing density, given blocks of their own: rates, energies and bits a survivor."""

    rates: Mapping[Rounding, float]
    energy_adaptive: float
    energy_unstructured: float
    """At the rate that the blocks reach, not at the reference rate."""
    energy_uniform: float
    bits: float
    """Mean index bits of a survivor with blocks rounded to the nearest, rows' classes left out."""
    tuned_rate: float
    """With the rounding point tuned to the reference rate."""


def uneven_study(generator: torch.Generator) -> UnevenRows:
    """DARB on one matrix of uneven rows, densities taken at 16x, k from 1 to 64."""
    weight = uneven_rows(generator)
    reference = Unstructured().mask(weight, REFERENCE)
    ways: tuple[Rounding, ...] = ("nearest", "down", "up")
    sizes = {how: rounded_sizes(reference.double().mean(dim=1), how) for how in ways}
    nearest = sizes["nearest"].double()
    adaptive = block_max_mask(weight, sizes["nearest"])
    rate = measured_rate(adaptive)
    tuned = DensityAdaptive(k_max=LARGEST).mask(weight, REFERENCE)
    return UnevenRows(
        rates={how: rate_of(size) for how, size in sizes.items()},
        energy_adaptive=energy(weight, adaptive),
        energy_unstructured=energy(weight, Unstructured().mask(weight, rate)),
        energy_uniform=energy(weight, block_max_mask(weight, round(REFERENCE))),
        bits=float((nearest.log2() / nearest).sum() / (1 / nearest).sum()),
        tuned_rate=measured_rate(tuned),
    )


def rate_bound_violations(generator: torch.Generator, matrices: int = 50, rows: int = 64) -> int:
    """How many random sets of row densities break the bounds on the rate r by rounding (must be none).

    With mean density 1/R and no row clipped: R/2 < r <= R rounded down, R <= r < 2R up, R/sqrt(2) <= r <=
    sqrt(2)*R to the nearest; and always min(k) <= r <= max(k)."""
    broken = 0
    for _ in range(matrices):
        density = 2 ** (-5 * torch.rand(rows, generator=generator, dtype=torch.float64) - 0.5)
        wanted = float(1 / density.mean())
        for how, (low, high) in {
            "down": (0.5, 1.0),
            "up": (1.0, 2.0),
            "nearest": (1 / sqrt(2), sqrt(2)),
        }.items():
            sizes = rounded_sizes(density, how)  # type: ignore[arg-type]
            rate = rate_of(sizes)
            inside = low * wanted * (1 - 1e-9) <= rate <= high * wanted * (1 + 1e-9)
            broken += not (inside and int(sizes.min()) <= rate <= int(sizes.max()))
    return broken


def network_weights() -> dict[str, int]:
    """Weights of the evaluated networks by network and part, counted from their shapes."""
    lstm = 2 * 4 * 1500 * (1500 + 1500)
    vocabulary = 10_000
    vgg = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    return {
        "ptb_lstm": lstm,
        # embedding, one bias vector a gate, classifier with bias
        "ptb_total": lstm + vocabulary * 1500 + 2 * 4 * 1500 + (1500 + 1) * vocabulary,
        "alexnet_fc": 9216 * 4096 + 4096 * 4096 + 4096 * 1000,
        "vgg16_conv": sum(9 * inputs * outputs for inputs, outputs in pairwise(vgg)),
    }


def decoder_study(decoders: int, generator: torch.Generator) -> dict[str, DecodeCycles]:
    """DARB, relative indices and CSR on one matrix of uneven rows at 16x, by scheme.

    The other two decode the unstructured mask of the same rate."""
    weight = uneven_rows(generator)
    sizes = DensityAdaptive(k_max=LARGEST).block_sizes(weight, REFERENCE)
    loose = Unstructured().mask(weight, rate_of(sizes)).numpy()
    return {
        "fixed": fixed_block_cycles(sizes.tolist(), weight.shape[1], decoders),
        "relative": relative_index_cycles(loose, decoders, RELATIVE_BITS),
        "csr": csr_cycles(loose, decoders),
    }
