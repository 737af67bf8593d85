"""A number that says what it is: value, unit, where it comes from and how sure it is."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hw_models.span import Span

Dimension = Literal[
    "operations per second",
    "bytes per second",
    "bytes",
    "frequency",
    "time",
    "power",
    "energy",
    "energy per byte",
    "fraction",
    "count",
]

UNITS: dict[str, tuple[Dimension, float]] = {
    "GOP/s": ("operations per second", 1e9),
    "TOP/s": ("operations per second", 1e12),
    "GB/s": ("bytes per second", 1e9),
    "MB/s": ("bytes per second", 1e6),
    "MHz": ("frequency", 1e6),
    "GHz": ("frequency", 1e9),
    "ns": ("time", 1e-9),
    "us": ("time", 1e-6),
    "ms": ("time", 1e-3),
    "KB": ("bytes", 1e3),
    "KiB": ("bytes", 2.0**10),
    "MB": ("bytes", 1e6),
    "MiB": ("bytes", 2.0**20),
    "W": ("power", 1.0),
    "pJ": ("energy", 1e-12),
    "pJ/B": ("energy per byte", 1e-12),
    "fraction": ("fraction", 1.0),
    "count": ("count", 1.0),
}
"""Unit -> what it measures, and its size in SI units. One multiply-accumulate is two operations."""


class Quantity(BaseModel):
    """A positive number with its unit and source. An assumption must say its range and its reason."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    value: float = Field(gt=0, allow_inf_nan=False)
    unit: str
    confidence: Literal["seen", "recalled", "derived", "assumed"]
    source: str | None = None
    """Address where the number was read; a number that was `seen` needs one."""
    basis: str | None = None
    """Arithmetic of a `derived` number, reason of an `assumed` one, remark on any other."""
    low: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    high: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_accounted_for(self) -> Self:
        if self.unit not in UNITS:
            raise ValueError(f"unknown unit {self.unit!r}; known: {', '.join(UNITS)}")
        if self.confidence == "seen" and not self.source:
            raise ValueError("a number that was seen needs a source")
        if self.source is not None and not self.source.startswith(("https://", "http://")):
            raise ValueError(f"source must be an address (https://...), got {self.source!r}")
        if self.confidence in ("derived", "assumed") and not self.basis:
            raise ValueError(f"a number that is {self.confidence} needs a basis")
        if (self.low is None) != (self.high is None):
            raise ValueError("a range needs both low and high")
        if self.confidence == "assumed" and self.low is None:
            raise ValueError("a number that is assumed needs a range: low and high")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError(f"value {self.value} lies outside its range {self.low} to {self.high}")
        if self.dimension == "fraction" and max(self.value, self.high or 0) > 1:
            raise ValueError("a fraction is at most 1")
        return self

    @property
    def dimension(self) -> Dimension:
        return UNITS[self.unit][0]

    @property
    def si(self) -> float:
        """The value in operations/s, bytes/s, bytes, Hz, seconds, W, J, J/byte or as a plain number."""
        return self.value * UNITS[self.unit][1]

    @property
    def si_range(self) -> tuple[float, float]:
        """Lowest and highest value in SI units; twice the value where no range is given."""
        scale = UNITS[self.unit][1]
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        return low * scale, high * scale

    @property
    def span(self) -> Span:
        """The value in SI units with its range."""
        return Span(self.si, *self.si_range)

    def without_range(self) -> Self:
        """The same number as if it were certain; for combining it with others that vary with it."""
        basis = self.basis or "a range was left out"
        return self.model_copy(update={"low": None, "high": None, "confidence": "derived", "basis": basis})

    def __str__(self) -> str:
        span = f" ({self.low:g} to {self.high:g})" if self.low is not None else ""
        return f"{self.value:g} {self.unit}{span}, {self.confidence}"
