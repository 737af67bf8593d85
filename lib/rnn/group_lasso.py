"""Reweighted group lasso for block-based column-row pruning, GRIM's alternative to ADMM (TPAMI 2022).

Every row h and every column w of a block b of a weight matrix W is a group that pays for its size, weak
groups more than strong ones:

    min f(W) + lambda * sum_b ( sum_h ||alpha_h o W_b[h, :]||_F^2 + sum_w ||beta_w o W_b[:, w]||_F^2 )
    alpha_h = 1 / (||W_b[h, :]||_F^2 + eps),   beta_w = 1 / (||W_b[:, w]||_F^2 + eps)

with alpha and beta taken anew every few epochs. A threshold then decides which groups stay. No rate is set:
what each layer and block keeps comes out of the training; only lambda (`strength`) is chosen. The form is
that of YOLObile (arXiv:2009.05697) with its groups replaced by rows and columns.

    lasso = ReweightedGroupLasso(parameters, (8, 8), strength=1.0e-6)
    for each round: minimise loss + lasso.penalty() for an epoch; lasso.reweight()
    masks = lasso.masks(rate=10)
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

from lib.errors import ReproError, WrongUse
from lib.rnn.partition import blocks_of, matrix_of

_HALVINGS = 60


class ReweightedGroupLasso:
    """Penalty and pattern of `parameters`, each taken as a matrix (first dimension, all others).

    `block` is the height and width of a block; `strength` is lambda, 0 for no penalty; `eps` keeps weights
    finite and is compared with squared norms. Raises WrongUse for numbers that make no sense.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        block: tuple[int, int],
        strength: float,
        eps: float = 1.0e-3,
    ) -> None:
        if not parameters:
            raise WrongUse("there is no parameter to prune")
        if min(block) < 1:
            raise WrongUse(f"a block must have at least one row and one column, not {block[0]} x {block[1]}")
        if not 0 <= strength < math.inf:
            raise WrongUse(f"strength must be a number of at least 0, not {strength}")
        if not 0 < eps < math.inf:
            raise WrongUse(f"eps must be a positive number, not {eps}")
        self.parameters = dict(parameters)
        self.block, self.strength, self.eps = block, strength, eps
        self.alpha: dict[str, Tensor] = {}
        self.beta: dict[str, Tensor] = {}
        self.reweight()

    @torch.no_grad()
    def reweight(self) -> None:
        """Take alpha (block row, block column, p, 1) and beta (..., 1, q) anew from the parameters."""
        for name, parameter in self.parameters.items():
            squares = self._squares(parameter)
            self.alpha[name] = 1 / (squares.sum(3, keepdim=True) + self.eps)
            self.beta[name] = 1 / (squares.sum(2, keepdim=True) + self.eps)

    def penalty(self) -> Tensor:
        """lambda times the sum over all groups, to be added to the loss; differentiable in the parameters."""
        terms = [
            (self._squares(parameter) * (self.alpha[name].square() + self.beta[name].square())).sum()
            for name, parameter in self.parameters.items()
        ]
        return self.strength * torch.stack(terms).sum()

    @torch.no_grad()
    def masks(self, rate: float) -> dict[str, Tensor]:
        """Kept rows times kept columns of every block, bool in the shape of each parameter.

        One threshold on the root mean square of a group, the same for rows, columns, blocks and parameters,
        so placed that all parameters together have `rate` weights per kept one as nearly as groups allow;
        rate 1 keeps everything. Raises WrongUse for a rate below 1, ReproError if nothing of a parameter is
        left.
        """
        if not 1 <= rate < math.inf:
            raise WrongUse(
                f"rate must be a finite number of at least 1 (weights per kept weight), got {rate}"
            )
        total = sum(parameter.numel() for parameter in self.parameters.values())
        best = self._above(0.0)
        low, high = 0.0, max(float(parameter.abs().max()) for parameter in self.parameters.values()) or 1.0
        for _ in range(_HALVINGS if rate > 1 else 0):
            middle = (low + high) / 2
            found = self._above(middle)
            if abs(_count(found) - total / rate) < abs(_count(best) - total / rate):
                best = found
            low, high = (middle, high) if _count(found) > total / rate else (low, middle)
        for name, mask in best.items():
            if not mask.any():
                raise ReproError(
                    f"nothing of {name} is left at rate {rate:g}: lower the rate or the strength"
                )
        return best

    def _above(self, threshold: float) -> dict[str, Tensor]:
        """Groups whose root mean square is at least `threshold`, as masks."""
        found = {}
        for name, parameter in self.parameters.items():
            rows, columns = parameter.flatten(1).shape
            squares = self._squares(parameter)
            inside = blocks_of(torch.ones_like(parameter.flatten(1)), *self._sides(parameter))
            kept_rows = _mean(squares, inside, 3) >= threshold**2
            kept_columns = _mean(squares, inside, 2) >= threshold**2
            found[name] = matrix_of(kept_rows & kept_columns, rows, columns).view(parameter.shape)
        return found

    def _sides(self, parameter: Tensor) -> tuple[int, int]:
        rows, columns = parameter.flatten(1).shape
        return min(self.block[0], rows), min(self.block[1], columns)

    def _squares(self, parameter: Tensor) -> Tensor:
        """Squared weights in blocks (block row, block column, p, q), padded with zeros."""
        return blocks_of(parameter.flatten(1).square(), *self._sides(parameter))


def _mean(squares: Tensor, inside: Tensor, side: int) -> Tensor:
    """Mean along one side of the blocks over what is no padding."""
    return squares.sum(side, keepdim=True) / inside.sum(side, keepdim=True).clamp(min=1)


def _count(masks: Mapping[str, Tensor]) -> int:
    return sum(int(mask.sum()) for mask in masks.values())
