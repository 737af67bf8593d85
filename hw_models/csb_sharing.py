"""Who does whose work: balancing kernels over a torus of PE groups (CSB-RNN, section 5.3).

Sizes are in tiles: a kernel of n x m weights on groups of P x Q PEs is a = ceil(n/P) by b = ceil(m/Q) tiles
of one cycle each. A group may give whole tile rows to its right neighbour and whole tile columns to the one
below. The slowest group sets the time, so its load is what is minimised. All choices are deterministic.

Along one direction the least load is found exactly. In two directions, for a given load T: what a group must
give only grows with what it gets, so start from nobody giving anything, and let a group that is over T give
just enough. There are several ways to split that between right and down; they are searched depth first. Where
the search ends before its limit of nodes its answer is final; elsewhere the load found is an upper bound.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Sharing = Literal["none", "vertical", "horizontal", "2d"]
Ints = NDArray[np.int64]
Given = tuple[int, ...]
"""Tiles that each group gives in one direction, groups in row-major order."""

NODES = 300
"""Nodes that one depth-first search may visit."""


@dataclass(frozen=True, eq=False)
class Cuts:
    """Tile rows given to the right and tile columns given down, each of shape (iterations, K, L).

    Where `rows_first`, the given rows go across the whole kernel and the columns are cut from the remaining
    rows (constraint 3); elsewhere the given columns go through the whole kernel (constraint 4)."""

    horizontal: Ints
    vertical: Ints
    rows_first: NDArray[np.bool_]

    def slowest(self, a: Ints, b: Ints) -> Ints:
        """Load in tiles of the busiest group of each iteration."""
        right = self.horizontal * np.where(self.rows_first, b, b - self.vertical)
        down = self.vertical * np.where(self.rows_first, a - self.horizontal, a)
        loads = a * b - right - down + np.roll(right, 1, axis=2) + np.roll(down, 1, axis=1)
        slowest: Ints = loads.max(axis=(1, 2))
        return slowest


def share(a: Ints, b: Ints, sharing: Sharing) -> Cuts:
    """Cuts that make the busiest group least busy; kernels of `a` by `b` tiles, both (iterations, K, L)."""
    zero = np.zeros_like(a)
    if sharing == "none":
        return Cuts(zero, zero, zero == 0)
    horizontal = Cuts(_ring(a * b, b, a), zero, zero == 0)
    if sharing == "horizontal":
        return horizontal
    turned = [side.transpose(0, 2, 1) for side in (a * b, a, b // 2)]
    vertical = Cuts(zero, _ring(*turned).transpose(0, 2, 1), zero == 1)
    if sharing == "vertical":
        return vertical
    return _both_ways(a, b, horizontal, vertical)


def _ring(work: Ints, unit: Ints, most: Ints) -> Ints:
    """Units each member of a ring gives to the next so that the greatest load is least; exact.

    Rings lie along the last axis. A member has `work` and gives at most `most` units of `unit` work each."""
    shape = work.shape
    work, unit, most = (side.reshape(-1, shape[-1]) for side in (work, unit, np.where(unit > 0, most, 0)))
    given = np.zeros_like(work)
    low, high = -(-work.sum(axis=1) // shape[-1]), work.max(axis=1)
    while (low < high).any():
        target = (low + high) // 2
        trial, possible = _least_given(work, unit, most, target)
        solved, failed = possible & (low < high), ~possible & (low < high)
        given[solved] = trial[solved]
        high = np.where(solved, target, high)
        low = np.where(failed, target + 1, low)
    return given.reshape(shape)


def _least_given(work: Ints, unit: Ints, most: Ints, target: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Smallest units that keep every load of a ring at or below its target, and whether that is possible.

    Raising what must be given from zero ends at the smallest solution, or beyond `most` if there is none."""
    given = np.zeros_like(work)
    possible = np.ones(len(work), dtype=np.bool_)
    while True:
        excess = work + np.roll(given * unit, 1, axis=1) - target[:, None]
        need = np.where(excess > 0, -(-excess // np.maximum(unit, 1)), 0)
        possible &= (need <= most).all(axis=1)
        if (need[possible] == given[possible]).all():
            return given, possible
        given = np.where(possible[:, None], need, given)


def _both_ways(a: Ints, b: Ints, *starts: Cuts) -> Cuts:
    """The best of the starts in each iteration, improved where sharing in both directions helps."""
    down, across = a.shape[1:]
    peaks = np.stack([start.slowest(a, b) for start in starts])
    best, peak = peaks.argmin(axis=0), peaks.min(axis=0)
    pick = best, np.arange(len(a))
    horizontal = np.stack([start.horizontal for start in starts])[pick]
    vertical = np.stack([start.vertical for start in starts])[pick]
    rows_first = np.stack([start.rows_first for start in starts])[pick]
    low = -(-(a * b).sum(axis=(1, 2)) // (down * across))
    if min(down, across) > 1:
        cache = _Choices()
        for i in np.flatnonzero(peak > low):
            kernels = list(zip(a[i].ravel().tolist(), b[i].ravel().tolist(), strict=True))
            found = _least(_Torus(kernels, down, across, cache), int(low[i]), int(peak[i]))
            if found:
                cuts = [cache.cut(kernel, *given) for kernel, *given in zip(kernels, *found, strict=True)]
                horizontal[i], vertical[i], rows_first[i] = np.reshape(cuts, (down, across, 3)).transpose(
                    2, 0, 1
                )
    return Cuts(horizontal, vertical, rows_first)


def _least(torus: "_Torus", low: int, high: int) -> tuple[Given, Given] | None:
    """What to give for the least load from `low` to below `high` that is found; None where there is none."""
    found = None
    while low < high:
        target = (low + high) // 2
        trial = torus.solve(target)
        if trial:
            found, high = trial, target
        else:
            low = target + 1
    return found


class _Choices:
    """What a kernel of a x b tiles can give: pairs (right, down) in tiles, and the cut that gives each."""

    def __init__(self) -> None:
        self._cuts: dict[tuple[int, int], dict[tuple[int, int], tuple[int, int, bool]]] = {}
        self._least: dict[tuple[int, int, int, int, int], list[tuple[int, int]]] = {}

    def cuts(self, kernel: tuple[int, int]) -> dict[tuple[int, int], tuple[int, int, bool]]:
        """(rows, columns, rows first) by (tiles right, tiles down), in ascending order."""
        if kernel not in self._cuts:
            found: dict[tuple[int, int], tuple[int, int, bool]] = {}
            a, b = kernel
            for rows in range(a + 1):
                for columns in range(b // 2 + 1):
                    found.setdefault((rows * b, columns * (a - rows)), (rows, columns, True))
                    found.setdefault((rows * (b - columns), columns * a), (rows, columns, False))
            self._cuts[kernel] = dict(sorted(found.items()))
        return self._cuts[kernel]

    def cut(self, kernel: tuple[int, int], right: int, down: int) -> tuple[int, int, bool]:
        return self.cuts(kernel)[right, down]

    def least(self, kernel: tuple[int, int], right: int, down: int, need: int) -> list[tuple[int, int]]:
        """Pairs of at least (right, down) that give `need` in all, none of them more than another in both."""
        key = (*kernel, right, down, need)
        if key not in self._least:
            kept: list[tuple[int, int]] = []
            for x, y in self.cuts(kernel):
                if x >= right and y >= down and x + y >= need and (not kept or y < kept[-1][1]):
                    kept.append((x, y))
            self._least[key] = kept
        return self._least[key]


class _Torus:
    """One iteration: the kernels of its groups in row-major order, and who is whose neighbour."""

    def __init__(self, kernels: list[tuple[int, int]], down: int, across: int, choices: _Choices) -> None:
        self.kernels, self.choices = kernels, choices
        groups = range(len(kernels))
        self.right = [i - i % across + (i + 1) % across for i in groups]
        self.below = [(i + across) % len(kernels) for i in groups]
        self.left = [self.right.index(i) for i in groups]
        self.above = [self.below.index(i) for i in groups]

    def solve(self, target: int) -> tuple[Given, Given] | None:
        """What every group gives right and down so that no load exceeds `target`, or None if none was found.

        Four orders of search take turns, since each finds what another misses within its limit."""
        for by_load in (False, True):
            for squared in (True, False):
                found, complete = self._search(target, by_load, squared)
                if complete:
                    return found
        return None

    def _search(self, target: int, by_load: bool, squared: bool) -> tuple[tuple[Given, Given] | None, bool]:
        """A solution, and whether the answer is final."""
        nothing: Given = (0,) * len(self.kernels)
        stack = [(nothing, nothing, tuple(a * b for a, b in self.kernels))]
        seen: set[tuple[Given, Given]] = set()
        while stack:
            right, down, loads = stack.pop()
            if (right, down) in seen:
                continue
            if len(seen) == NODES:
                return None, False
            seen.add((right, down))
            over = [
                (self._ways(i, right[i], down[i], loads[i] - target), i)
                for i, load in enumerate(loads)
                if load > target
            ]
            if not over:
                return (right, down), True
            ways, i = min(over, key=lambda one: (len(one[0]) and by_load and -loads[one[1]], len(one[0])))
            stack += self._children(i, ways, right, down, loads, target, squared)
        return None, True

    def _ways(self, i: int, right: int, down: int, excess: int) -> list[tuple[int, int]]:
        return self.choices.least(self.kernels[i], right, down, right + down + excess)

    def _children(
        self,
        i: int,
        ways: list[tuple[int, int]],
        right: Given,
        down: Given,
        loads: Given,
        target: int,
        squared: bool,
    ) -> Iterator[tuple[Given, Given, Given]]:
        """What follows when group `i` gives more, most promising last: little excess and little waste."""
        beside, below = self.right[i], self.below[i]
        ranked = []
        for x, y in ways:
            more_x, more_y = x - right[i], y - down[i]
            # what a group gets stays with it, so it may not exceed the target
            if x + down[self.above[beside]] > target or y + right[self.left[below]] > target:
                continue
            excess = max(0, loads[beside] + more_x - target), max(0, loads[below] + more_y - target)
            waste = more_x + more_y - (loads[i] - target)
            cost = excess[0] ** 2 + excess[1] ** 2 + 2 * waste**2 if squared else sum(excess)
            ranked.append((cost, waste, x, y))
        for _, _, x, y in sorted(ranked, reverse=True):
            changed = list(loads)
            changed[i] -= x - right[i] + y - down[i]
            changed[beside] += x - right[i]
            changed[below] += y - down[i]
            yield (*right[:i], x, *right[i + 1 :]), (*down[:i], y, *down[i + 1 :]), tuple(changed)
