"""A number with the range that the ranges of its inputs give it."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A value that is not negative, and its lowest and highest plausible value.

    Sums and products combine low with low and high with high; a quotient divides by the opposite end. So
    ends of several quantities are taken together, which is wider than their independent spread.
    """

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> "Span":
        return cls(value, value, value)

    @classmethod
    def sum(cls, spans: Iterable["Span"]) -> "Span":
        """The sum of any number of spans, 0 of none."""
        parts = list(spans)
        return cls(*(sum(getattr(part, end) for part in parts) for end in ("value", "low", "high")))

    def __add__(self, other: "Span") -> "Span":
        return Span(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, other: "Span | float") -> "Span":
        other = other if isinstance(other, Span) else Span.exact(other)
        return Span(self.value * other.value, self.low * other.low, self.high * other.high)

    def __truediv__(self, other: "Span | float") -> "Span":
        other = other if isinstance(other, Span) else Span.exact(other)
        return Span(self.value / other.value, self.low / other.high, self.high / other.low)

    def over(self, other: "Span") -> "Span":
        """`self / other` where 0 over 0 is 0: the rate of something that takes no time."""
        return self / other if other.low else Span.exact(0)

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.value:.3g}"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"
