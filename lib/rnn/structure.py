"""What a sparsity structure is: a rule that says which weights of a matrix stay at a given pruning rate.

Rate = weights of the matrix per kept weight, so 1 keeps everything. A matrix is (P, Q), outputs by inputs;
a convolution's weight (filters, channels, kernel height, kernel width) is taken as the matrix (filters,
channels * height * width) that its product as GEMM multiplies with.
"""

from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import Protocol

import torch
from torch import Tensor

from lib.errors import WrongUse


class Structure(Protocol):
    """A family of allowed patterns and the choice of one by the weights' magnitudes."""

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q), True = kept, at least one of them.

        The measured rate is the target as nearly as the structure's grain allows. Raises WrongUse for a
        weight that is no finite matrix and a rate below 1."""


def projection(structure: Structure, rate: float) -> Callable[[Tensor], Tensor]:
    """The function that zeroes what `structure` does not keep at `rate`: the projection step of ADMM.

    It takes a weight of two or more dimensions and returns a tensor of the same shape; the first dimension
    holds the matrix's rows and all others its columns."""

    def project(weight: Tensor) -> Tensor:
        return weight * kept(structure, weight, rate)

    return project


def kept(structure: Structure, weight: Tensor, rate: float) -> Tensor:
    """Which weights of a layer stay, in the shape of its weight (two or more dimensions): bool."""
    if weight.ndim < 2:
        raise WrongUse(f"a weight to prune has at least two dimensions, not {tuple(weight.shape)}")
    return structure.mask(weight.flatten(1), rate).reshape(weight.shape)


def measured_rate(mask: Tensor) -> float:
    """Weights per kept weight; infinite when nothing is kept."""
    count = int(mask.sum())
    return mask.numel() / count if count else float("inf")


def retained_norm(weight: Tensor, mask: Tensor) -> float:
    """||W * mask|| / ||W||, 1 for a matrix of zeros: how much of the norm the mask leaves."""
    weight = weight.detach().double()
    whole = float(weight.norm())
    return float((weight * mask).norm()) / whole if whole else 1.0


def checked(weight: Tensor, rate: float) -> Tensor:
    """The matrix in double precision, without gradient. Raises WrongUse as every `mask` must."""
    if weight.ndim != 2 or weight.numel() == 0:
        raise WrongUse(f"a structure prunes filled matrices (P, Q), not {tuple(weight.shape)}")
    if not isfinite(rate) or rate < 1:
        raise WrongUse(f"rate must be a finite number of at least 1 (weights per kept weight), got {rate}")
    weight = weight.detach().double()
    if not torch.isfinite(weight).all():
        raise WrongUse("the weight to prune holds values that are not finite; training has diverged")
    return weight


def check_counts(**counts: int) -> None:
    """Fails with WrongUse unless every named parameter is a whole number of at least 1."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise WrongUse(f"{name} must be a whole number of at least 1, got {value!r}")


def check_names(names: Sequence[str], known: Iterable[str], own: str) -> None:
    """Fails with WrongUse unless all names of structures are known and the method's `own` is among them."""
    known = list(known)
    for name in names:
        if name not in known:
            raise WrongUse(f"no structure {name!r}; known: {', '.join(known)}")
    if own not in names:
        raise WrongUse(f"structures must hold {own!r}, which the others are compared with")


def kept_count(total: int, rate: float) -> int:
    """`total` / `rate` as a whole number, at least 1 and at most `total`."""
    return min(total, max(1, round(total / rate)))


def largest(scores: Tensor, count: int) -> Tensor:
    """Marks the `count` largest along the last dimension: bool, same shape. The first of equals win."""
    order = scores.argsort(dim=-1, descending=True, stable=True)[..., :count]
    return torch.zeros(scores.shape, dtype=torch.bool, device=scores.device).scatter_(-1, order, True)
