"""Aims of a measurement: how many of its rows reach one, which is the worst, and whether the machine
allows more."""

from collections.abc import Sequence
from dataclasses import dataclass

from lib.errors import WrongUse


@dataclass(frozen=True)
class Trial:
    """One row's figure: what it is called, the value, and the most that the machine's limits allow (None:
    unknown)."""

    name: str
    value: float
    most: float | None = None


@dataclass(frozen=True)
class Aim:
    """A figure that every one of `trials` should reach: `at_least`."""

    what: str
    at_least: float
    trials: Sequence[Trial]

    def __post_init__(self) -> None:
        if not self.trials:
            raise WrongUse(f"nothing was measured for the aim {self.what!r}")

    @property
    def reached(self) -> int:
        """Trials that reach it."""
        return sum(trial.value >= self.at_least for trial in self.trials)

    @property
    def forbidden(self) -> int:
        """Trials that no program could bring there: the limits of the machine allow less."""
        return sum(trial.most is not None and trial.most < self.at_least for trial in self.trials)

    @property
    def worst(self) -> Trial:
        """The trial that falls furthest short, or reaches it most narrowly."""
        return min(self.trials, key=lambda trial: trial.value)

    def describe(self) -> str:
        """One line: reached where, the worst trial, what limits allow."""
        worst, many = self.worst, len(self.trials)
        text = f"{self.what}, at least {self.at_least:g}: {self.reached} of {many}"
        text += f"; least {worst.value:.2f} ({worst.name}"
        if worst.most is not None:
            text += f", where the limits allow {worst.most:.2f}"
        text += ")"
        return text + (f"; beyond the machine's limits in {self.forbidden}" if self.forbidden else "")
