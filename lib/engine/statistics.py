"""Intervals over seeds: the mean of a few values and how far it can be trusted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
RESAMPLES = 9999
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends between which the quantity lies, all on one scale."""

    estimate: float
    low: float
    high: float

    def inside(self, low: float, high: float) -> bool:
        """Whether the whole interval lies in low..high, ends included (rounding is forgiven)."""
        slack = _slack(self.low, self.high, low, high)
        return self.low >= low - slack and self.high <= high + slack

    def outside(self, low: float, high: float) -> bool:
        """Whether no point of the interval lies in low..high."""
        slack = _slack(self.low, self.high, low, high)
        return self.high < low - slack or self.low > high + slack

    def above(self, bound: float) -> bool:
        """Whether the whole interval lies strictly above `bound`."""
        return self.low > bound + _slack(self.low, bound)

    def not_above(self, bound: float) -> bool:
        """Whether no point of the interval lies above `bound`."""
        return self.high <= bound + _slack(self.high, bound)


def mean_interval(
    values: Sequence[float], seed: int, floor: float = 0.0, confidence: float = CONFIDENCE
) -> Interval:
    """Mean of `values` with its bootstrap interval, never narrower than `floor` to either side.

    The percentile interval is expanded for the small number of values (Hesterberg 2015, "What teachers should
    know about the bootstrap"): with five values the plain one covers about 85 % where it promises 95 %.
    Values that agree exactly, and a single value, have the interval mean +- `floor`. The same `seed` gives
    the same interval.

    Raises ValueError without values.
    """
    if not values:
        raise ValueError("no values to average")
    mean = math.fsum(values) / len(values)
    if len(set(values)) == 1:
        return Interval(values[0], values[0] - floor, values[0] + floor)
    low, high = _expanded_percentiles(values, seed, confidence)
    return Interval(mean, min(low, mean - floor), max(high, mean + floor))


def _expanded_percentiles(values: Sequence[float], seed: int, confidence: float) -> tuple[float, float]:
    import numpy as np
    from scipy import stats

    count = len(values)
    quantile = stats.t.ppf((1 + confidence) / 2, count - 1) * math.sqrt(count / (count - 1))
    tail = float(stats.norm.cdf(-quantile))
    result = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = np.quantile(result.bootstrap_distribution, [tail, 1 - tail])
    return float(low), float(high)


def _slack(*values: float) -> float:
    return _ROUNDING * max(abs(value) for value in values if math.isfinite(value))
