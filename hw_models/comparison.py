"""A prediction beside a published or measured figure, and the errors of many of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeVar

Item = TypeVar("Item")
Parameters = TypeVar("Parameters")

Role = Literal["fitted", "left out", "predicted"]


@dataclass(frozen=True)
class Comparison:
    """One point: `fitted` to, `left out` of a fit to others, or `predicted` without any."""

    name: str
    predicted: float
    published: float
    unit: str
    role: Role
    confidence: str

    @property
    def error(self) -> float:
        """Relative error, signed: 0.1 where the prediction is 10 % too high."""
        return self.predicted / self.published - 1


def median_error(points: Sequence[Comparison]) -> float:
    """Median of the absolute relative errors."""
    return median(abs(point.error) for point in points)


def worst_error(points: Sequence[Comparison]) -> float:
    """The largest absolute relative error."""
    return max(abs(point.error) for point in points)


def leave_group_out(
    items: Sequence[Item],
    group: Callable[[Item], object],
    fit: Callable[[Sequence[Item]], Parameters],
    compare: Callable[[Item, Parameters, Role], Comparison],
) -> list[Comparison]:
    """Every item predicted by a model that was fitted to the items of all other groups."""
    fits = {name: fit([other for other in items if group(other) != name]) for name in map(group, items)}
    return [compare(item, fits[group(item)], "left out") for item in items]
