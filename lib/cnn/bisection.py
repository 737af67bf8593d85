"""From the importance of blocks to widths that meet a budget, by bisection on one number (AdaPruner).

A map turns importances I_b into keep ratios k_b(tau) that never fall as tau rises. Widths are rounded to a
multiple; so the cost F(tau) is a staircase that never falls, and bisection finds its highest step that the
budget allows. The map is ours: the abstract names the bisection, not what is bisected.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lib.cnn.sites import Site
from lib.errors import ReproError, WrongUse

KeepMap = Callable[[Mapping[str, float], float], dict[str, float]]
"""Keep ratio of each block, for its importances and tau; rises, or stays, with tau. At tau = 0 all are 0."""

HALVINGS = 30


def proportional(importance: Mapping[str, float], tau: float) -> dict[str, float]:
    """k_b = min(1, tau * I_b / max I): blocks at the top are whole from tau = 1 on."""
    top = max(importance.values())
    return {block: min(1.0, tau * value / top) for block, value in importance.items()}


def largest_tau(importance: Mapping[str, float]) -> float:
    """A tau at which `proportional` keeps everything; blocks of no importance need infinitely much.

    Where the lowest importance is less than a millionth of the highest it is taken as that.
    """
    top, low = max(importance.values()), min(importance.values())
    return top / max(low, 1e-6 * top)


@dataclass(frozen=True)
class Widths:
    """A point of the staircase: `keep` by block, `kept` channels by site, what they cost, and the search.

    `macs` of `budget` allowed; `halvings` of the interval were made.
    """

    tau: float
    keep: dict[str, float]
    kept: dict[str, int]
    macs: int
    budget: float
    halvings: int


def rounded(keep: float, channels: int, multiple: int) -> int:
    """`keep` of `channels` to the nearest multiple (halves up), at least one multiple, at most all."""
    return min(channels, max(multiple, multiple * math.floor(keep * channels / multiple + 0.5)))


def widths_at(
    tau: float,
    blocks: Mapping[str, Sequence[Site]],
    importance: Mapping[str, float],
    *,
    multiple: int,
    least: float,
    keep_map: KeepMap = proportional,
) -> tuple[dict[str, float], dict[str, int]]:
    """Keep ratios by block, at least `least`, and widths by site at `tau`."""
    keep = {block: max(least, ratio) for block, ratio in keep_map(importance, tau).items()}
    kept = {
        site.name: rounded(keep[block], site.channels, multiple)
        for block, sites in blocks.items()
        for site in sites
    }
    return keep, kept


def bisect(
    blocks: Mapping[str, Sequence[Site]],
    importance: Mapping[str, float],
    macs: Callable[[Mapping[str, int]], int],
    budget: float,
    *,
    multiple: int = 8,
    least: float = 0.1,
    near: float = 0.005,
    keep_map: KeepMap = proportional,
) -> Widths:
    """The widest network whose `macs(widths)` do not exceed `budget`, up to `near` of it or 30 halvings.

    Args:
        importance: of each of `blocks`; equal ones give one keep ratio for all, the uniform control.
        multiple: widths are multiples of it (or all channels).
        least: no block keeps a smaller share.

    Raises:
        WrongUse: `multiple` or `least` make no sense.
        ReproError: even the narrowest network exceeds the budget.
    """
    if multiple < 1 or not 0 <= least <= 1:
        raise WrongUse(f"multiple must be at least 1 and least between 0 and 1, not {multiple} and {least:g}")

    def point(tau: float, halvings: int) -> Widths:
        keep, kept = widths_at(tau, blocks, importance, multiple=multiple, least=least, keep_map=keep_map)
        return Widths(tau, keep, kept, macs(kept), budget, halvings)

    low, high = point(0.0, 0), point(largest_tau(importance), 0)
    if low.macs > budget:
        raise ReproError(
            f"a budget of {budget / 1e6:.3f} MMACs is impossible: the narrowest network (each block keeps "
            f"{least:g} of its channels, at least {multiple}) costs {low.macs / 1e6:.3f}; ask for more, or "
            "lower least and multiple"
        )
    if high.macs <= budget:
        return high
    halvings = 0
    while halvings < HALVINGS and (budget - low.macs) / budget > near:
        halvings += 1
        middle = point((low.tau + high.tau) / 2, halvings)
        low, high = (middle, high) if middle.macs <= budget else (low, middle)
    return Widths(low.tau, low.keep, low.kept, low.macs, budget, halvings)
