"""ADMM, the alternating direction method of multipliers, with any projection; masked retraining.

Minimise f(W) with W in a set S that has an easy projection: W is copied to Z in S, and the two are drawn
together by a penalty and a running sum of their disagreement, U (scaled form: Boyd et al., "Distributed
Optimization and Statistical Learning via the Alternating Direction Method of Multipliers", section 3.1.1,
https://web.stanford.edu/~boyd/papers/pdf/admm_distr_stats.pdf):

    W <- a few steps of gradient descent on f(W) + rho/2 ||W - Z + U||^2
    Z <- projection of W + U onto S
    U <- U + W - Z

    admm = Admm(parameters, projections, rho=3.0e-3)
    for round in admm_rounds(admm, epoch, optimizer, rounds=10): ...
    held = admm.harden()
    for loss in train_epochs(epoch, optimizer, 5, held=held): ...
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from lib.errors import ReproError, WrongUse
from lib.lab.descent import descend

Projection = Callable[[Tensor], Tensor]
"""The nearest point of the feasible set, of the same shape."""

Difference = Callable[[Tensor, Tensor], Tensor]
"""Signed difference of the first tensor from the second, elementwise; the penalty is its squared length."""

REMEDY = "lower the learning rate or rho"
"""What to do about a loss that is not finite."""

Epoch = Callable[[], Iterable[Tensor]]
"""One pass through the data: the loss of each batch, computed only when it is asked for."""


class Masks:
    """Entries that stay at a value while the rest is retrained.

    `held[name]` is True where `values[name]` stands; without `values` those are the present ones.

    Raises WrongUse if names or shapes do not fit the parameters.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        held: Mapping[str, Tensor],
        values: Mapping[str, Tensor] | None = None,
    ) -> None:
        _same_names(parameters, held, "masks")
        self.parameters = dict(parameters)
        self.held = {name: mask.detach().bool().clone() for name, mask in held.items()}
        chosen: Mapping[str, Tensor] = parameters if values is None else values
        self.values = {name: chosen[name].detach().clone() for name in parameters}
        for name, parameter in self.parameters.items():
            for tensor in (self.held[name], self.values[name]):
                if tensor.shape != parameter.shape:
                    raise WrongUse(
                        f"mask of {name} has shape {tuple(tensor.shape)}, "
                        f"the parameter {tuple(parameter.shape)}"
                    )

    @torch.no_grad()
    def apply(self) -> None:
        """Put the held entries back to their values; to be called after every step of an optimizer."""
        for name, parameter in self.parameters.items():
            parameter.copy_(torch.where(self.held[name], self.values[name], parameter))

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Zero the gradients of held entries: they neither move nor count when gradients are clipped."""
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(self.held[name], 0.0)

    @property
    def kept(self) -> float:
        """Share of entries that are free to move, from 0 to 1."""
        held = sum(int(mask.sum()) for mask in self.held.values())
        return 1.0 - held / sum(mask.numel() for mask in self.held.values())


class Reprojection:
    """Keeps parameters in a set that is no mask, such as circulant blocks, by projecting after every step."""

    def __init__(self, parameters: Mapping[str, Parameter], projections: Mapping[str, Projection]) -> None:
        _same_names(parameters, projections, "projections")
        self.parameters, self.projections = dict(parameters), dict(projections)

    def apply(self) -> None:
        """Project every parameter; to be called after every step of an optimizer."""
        for name, parameter in self.parameters.items():
            _assign(parameter, _project(name, self.projections[name], parameter.detach()))

    def mask_gradients(self) -> None:
        """Nothing: no entry of its own is held."""


class Admm:
    """State of the method: `z` (in the set) and `u` (scaled dual variable), one tensor per parameter.

    At the start Z is the projection of W, and U is zero. `rho` is one number or one per parameter, at least
    0. `difference` replaces W - Z where values lie on a circle (angles); it must leave gradients intact.

    Raises:
        WrongUse: the names of parameters, projections and rho differ, or rho is negative or not finite.
        ReproError: a projection gives another shape or values that are not finite.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        projections: Mapping[str, Projection],
        rho: float | Mapping[str, float],
        *,
        difference: Difference = torch.sub,
    ) -> None:
        _same_names(parameters, projections, "projections")
        self.parameters, self.projections = dict(parameters), dict(projections)
        self.rho = dict(rho) if isinstance(rho, Mapping) else dict.fromkeys(parameters, float(rho))
        _same_names(parameters, self.rho, "rho")
        for name, value in self.rho.items():
            if not (math.isfinite(value) and value >= 0):
                raise WrongUse(f"rho of {name} must be a number of at least 0, not {value}")
        self.difference = difference
        self.z = {name: _project(name, projections[name], p.detach()) for name, p in parameters.items()}
        self.u = {name: torch.zeros_like(p) for name, p in parameters.items()}

    def penalty(self) -> Tensor:
        """Sum over parameters of rho/2 ||W - Z + U||^2, to be added to the loss; differentiable in W."""
        terms = [
            0.5 * self.rho[name] * self.difference(parameter, self.z[name] - self.u[name]).square().sum()
            for name, parameter in self.parameters.items()
        ]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def update(self) -> None:
        """The Z step, then the U step."""
        for name, parameter in self.parameters.items():
            self.z[name] = _project(name, self.projections[name], parameter + self.u[name])
            self.u[name] += self.difference(parameter, self.z[name])

    @torch.no_grad()
    def residual(self) -> float:
        """Relative primal residual ||W - Z|| / ||W|| over all parameters; ||W - Z|| if all of W is zero."""
        gap = sum(
            float(self.difference(p, self.z[name]).square().sum()) for name, p in self.parameters.items()
        )
        size = sum(float(parameter.square().sum()) for parameter in self.parameters.values())
        return math.sqrt(gap / size) if size else math.sqrt(gap)

    def project(self) -> None:
        """Hard step: replace every parameter by its own projection (U plays no part)."""
        for name, parameter in self.parameters.items():
            _assign(parameter, _project(name, self.projections[name], parameter.detach()))

    def harden(self, held: Callable[[str, Tensor], Tensor] | None = None) -> Masks:
        """Project the parameters and hold the entries for which `held(name, projected)` is True.

        Without `held`, zeros are held: the projection prunes. A projection to other values than zero says
        itself which entries it fixed.
        """
        self.project()
        chosen = {
            name: p.detach() == 0 if held is None else held(name, p.detach())
            for name, p in self.parameters.items()
        }
        return Masks(self.parameters, chosen)


@dataclass(frozen=True)
class Round:
    """One ADMM round: its number of `total` (from 1), mean loss (without penalty), mean penalty, residual."""

    index: int
    total: int
    loss: float
    penalty: float
    residual: float


def admm_rounds(
    admm: Admm,
    epoch: Epoch,
    optimizer: torch.optim.Optimizer,
    rounds: int,
    *,
    epochs_a_round: int = 1,
    clip: float | None = None,
) -> Iterator[Round]:
    """Run ADMM, yielding after every round of `epochs_a_round` epochs and one update of Z and U.

    `clip` bounds the norm of the gradient over all that the optimizer holds.

    Raises ReproError when the loss is not finite, WrongUse for an epoch without a batch.
    """
    _at_least("rounds", rounds, 0)
    _at_least("epochs_a_round", epochs_a_round, 1)
    for index in range(1, rounds + 1):
        losses: list[float] = []
        penalties: list[float] = []
        for _ in range(epochs_a_round):
            for loss in epoch():
                penalty = admm.penalty()
                when = f"in ADMM round {index} of {rounds}"
                descend(loss + penalty, optimizer, when=when, remedy=REMEDY, clip=clip)
                losses.append(loss.item())
                penalties.append(penalty.item())
        admm.update()
        yield Round(index, rounds, _mean(losses), _mean(penalties), admm.residual())


def train_epochs(
    epoch: Epoch,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    *,
    held: Masks | Reprojection | None = None,
    clip: float | None = None,
    remedy: str = REMEDY,
) -> Iterator[float]:
    """Train what `held` leaves free (everything without it), yielding the mean loss of every epoch.

    The learning rate may be changed between two epochs.

    Raises ReproError, with `remedy`, when the loss is not finite, WrongUse for an epoch without a batch.
    """
    _at_least("epochs", epochs, 0)
    if held is not None:
        held.apply()
    for index in range(1, epochs + 1):
        losses = []
        for loss in epoch():
            when = f"in epoch {index} of {epochs}"
            descend(loss, optimizer, when=when, remedy=remedy, clip=clip, held=held)
            losses.append(loss.item())
        yield _mean(losses)


def progressive_rates(first: float, last: float, stages: int) -> tuple[float, ...]:
    """`stages` pruning rates from `first` to `last` in equal ratios; one stage is `last` alone."""
    _at_least("stages", stages, 1)
    if not 1 <= first <= last < math.inf:
        raise WrongUse(f"pruning rates rise from at least 1, not from {first} to {last}")
    if stages == 1:
        return (last,)
    ratio = last / first
    return (*(first * ratio ** (stage / (stages - 1)) for stage in range(stages - 1)), last)


def _project(name: str, projection: Projection, value: Tensor) -> Tensor:
    projected = projection(value.clone()).detach()
    if projected.shape != value.shape:
        raise ReproError(
            f"the projection of {name} made shape {tuple(projected.shape)} out of {tuple(value.shape)}"
        )
    if not torch.isfinite(projected).all():
        raise ReproError(
            f"the projection of {name} holds values that are not finite: lower the learning rate"
        )
    return projected.clone()


@torch.no_grad()
def _assign(parameter: Parameter, value: Tensor) -> None:
    parameter.copy_(value)


def _same_names(parameters: Mapping[str, Parameter], others: Mapping[str, object], what: str) -> None:
    if not parameters:
        raise WrongUse("there is no parameter to project")
    if differing := sorted(parameters.keys() ^ others.keys()):
        raise WrongUse(
            f"parameters and {what} must name the same tensors; only one of them has {differing[0]}"
        )


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise WrongUse(f"{name} must be at least {least}, not {value}")


def _mean(values: list[float]) -> float:
    if not values:
        raise WrongUse("the epoch holds no batch")
    return sum(values) / len(values)
