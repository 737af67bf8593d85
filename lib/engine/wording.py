"""How numbers, units and claims are written for people; nothing here decides anything."""

import math

from lib.engine.claims import Claim, OrderingClaim, PropertyClaim, RatioClaim, TrendClaim, ValueClaim
from lib.engine.statistics import Interval

_DIGITS = 4
_SIGNS = {"percent": " %", "x": "x", "": ""}


def figure(value: float, signed: bool = False) -> str:
    """`value` with four significant digits; whole numbers in full, with commas."""
    sign = "+" if signed and value > 0 else ""
    if value == 0 or (float(value).is_integer() and abs(value) < 1e15):
        return f"{sign}{int(value):,}"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4 or magnitude >= 15:
        return f"{sign}{value:.3g}"
    text = f"{value:,.{max(0, _DIGITS - 1 - magnitude)}f}"
    return sign + (text.rstrip("0").rstrip(".") if "." in text else text)


def with_unit(value: float | str, unit: str) -> str:
    """``2.448 GMAC``, ``72.1 %``, ``1.9x``."""
    text = value if isinstance(value, str) else figure(value)
    return text + _SIGNS.get(unit, f" {unit}")


def difference_unit(unit: str) -> str:
    """The unit of a difference of two quantities: percentages differ by points."""
    return "points" if unit in ("percent", "%") else unit


def seeds_text(count: int) -> str:
    """``1 seed``, ``5 seeds``."""
    return f"{count} seed{'' if count == 1 else 's'}"


def quantity(interval: Interval, unit: str, seeds: int, signed: bool = False) -> str:
    """``2.448 GMAC`` for one seed, ``+1.3 points [0.4, 2.1], 5 seeds`` for several that differ."""
    text = with_unit(figure(interval.estimate, signed), unit)
    if seeds == 1:
        return text
    low, high = figure(interval.low), figure(interval.high)
    spread = f" [{low}, {high}]" if low != high else ""
    return f"{text}{spread}, {seeds_text(seeds)}"


def paper_text(claim: Claim) -> str:
    """What the claim says in signs: ``1.254 ± 0.001 GMAC``, ``soft > hard``, ``≤ 1 %``."""
    match claim:
        case ValueClaim() | RatioClaim():
            return _figure_text(claim)
        case OrderingClaim():
            relation = ">" if claim.higher_is_better else "<"
            margin = f" by more than {figure(claim.margin)}" if claim.margin else ""
            return f"{claim.better} {relation} {claim.worse}{margin}"
        case TrendClaim():
            return (" < " if claim.direction == "increasing" else " > ").join(claim.metrics)
        case PropertyClaim():
            return _condition_text(claim)


def attributed(claim: Claim) -> str:
    """The figure with whose it is: ``the paper's 26 ms`` or ``the derived 2.912 GMAC``."""
    whose = "the derived" if claim.derived else "the paper's"
    return f"{whose} {paper_text(claim)}"


def _figure_text(claim: ValueClaim | RatioClaim) -> str:
    if claim.paper is None:
        return ""
    low, high = claim.paper.ends
    tolerance = ""
    if claim.tolerance and claim.tolerance.absolute:
        tolerance = f" ± {figure(claim.tolerance.absolute)}"
    elif claim.tolerance and claim.tolerance.relative:
        tolerance = f" ± {figure(100 * claim.tolerance.relative)} %"
    if low == high:
        if not tolerance.endswith("%"):
            return with_unit(f"{figure(low)}{tolerance}", claim.paper.unit)
        return f"{with_unit(low, claim.paper.unit)}{tolerance}"
    return f"{figure(low)} to {with_unit(high, claim.paper.unit)}{tolerance}"


def _condition_text(claim: PropertyClaim) -> str:
    unit = claim.unit or ""
    if isinstance(claim.equals, bool):
        return f"= {'yes' if claim.equals else 'no'}"
    if claim.equals is not None:
        spread = f" ± {figure(claim.tolerance.absolute or 0)}" if claim.tolerance else ""
        return f"= {with_unit(f'{figure(claim.equals)}{spread}', unit)}"
    if claim.at_most is not None:
        return f"≤ {with_unit(claim.at_most, unit)}"
    assert claim.at_least is not None
    return f"≥ {with_unit(claim.at_least, unit)}"
