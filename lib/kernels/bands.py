"""Packs any pattern of zeros for the band kernels of `codegen`: row order, bands, classes of columns,
weights.

Row reorder: rows without weights leave, the others are grouped so that rows of one band share columns. A
band's columns are sorted by the set of its rows that keep them (the class); weights follow in that order, all
rows of a column together. Long rows are cut into tiles of columns, so that the right side stays in a cache.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.kernels.codegen import BandKernel
from lib.kernels.errors import KernelError

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BandPack:
    """The arrays of a packed matrix (rows P, columns Q), as `Bands` in the generated source names them.

    edges (tiles + 1): where the tiles of the matrix's columns begin; rows (bands * height): output row of
    each band's row, -1 for none; counts (tiles * bands, classes): columns of each class; entries, starts
    (tiles * bands + 1): where a band's columns and weights begin; columns: column numbers within the tile;
    weights: float32 or int8, to be multiplied by scales (P); shares: bands at which equal parts of the
    work begin; idle: rows without weights; used (Q): columns that any row keeps."""

    kernel: BandKernel
    shape: tuple[int, int]
    edges: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.uint16]
    entries: NDArray[np.int64]
    starts: NDArray[np.int64]
    columns: NDArray[np.uint16]
    weights: NDArray[Any]
    scales: Floats
    shares: NDArray[np.int32]
    idle: NDArray[np.int32]
    used: NDArray[np.uint8]

    def __post_init__(self) -> None:
        rows, columns = self.shape
        widths, entries = np.diff(self.edges), self.counts.astype(np.int64).sum(axis=1)
        sizes = self.counts.astype(np.int64) @ class_sizes(self.kernel.height)
        checks: dict[str, Callable[[], bool]] = {
            "edges do not cut the columns": lambda: cuts(self.edges, columns) and widths.min() > 0,
            "a row is out of range": lambda: within(self.rows, -1, rows) and within(self.idle, 0, rows),
            "counts have the wrong shape": lambda: (
                self.counts.shape == (self.tiles * self.bands, self.kernel.classes)
            ),
            "entries do not follow from counts": lambda: np.array_equal(self.entries, offsets(entries)),
            "starts do not follow from counts": lambda: np.array_equal(self.starts, offsets(sizes)),
            "columns have the wrong length": lambda: len(self.columns) == self.entries[-1],
            "weights have the wrong length": lambda: len(self.weights) == self.starts[-1],
            "a column is out of range": lambda: bool(
                (self.columns < np.repeat(np.repeat(widths, self.bands), entries)).all()
            ),
            "scales or used have the wrong length": lambda: (len(self.scales), len(self.used)) == self.shape,
            "shares do not cut the bands": lambda: cuts(self.shares, self.bands),
        }
        refuse_damage(checks)

    @property
    def tiles(self) -> int:
        return len(self.edges) - 1

    @property
    def bands(self) -> int:
        return len(self.rows) // self.kernel.height

    @property
    def index_bytes(self) -> int:
        """Bytes of everything but the weights and their scales."""
        arrays = (self.rows, self.counts, self.entries, self.starts, self.columns, self.idle)
        return sum(array.nbytes for array in arrays)

    @property
    def loads_per_weight(self) -> float:
        """Rows of the right side that are loaded for each weight: 1 without any sharing, 1 / height at
        best."""
        return len(self.columns) / max(1, len(self.weights))


def pack_bands(
    weight: Floats,
    kernel: BandKernel,
    *,
    scales: Floats | None = None,
    tile_columns: int = 1536,
    shares: int = 8,
    group: int | None = None,
) -> BandPack:
    """Pack `weight` (P, Q), whose zeros are what was pruned, for `kernel`.

    With int8, `weight` holds whole numbers from -127 to 127 and `scales` (P) what they count.
    `tile_columns` bounds the columns of one tile, `group` the rows among which a band is chosen (a block's
    height; None: all rows)."""
    height, (rows, columns) = kernel.height, weight.shape
    kept = weight != 0
    order = row_order(kept, height, group)
    idle = np.flatnonzero(~kept.any(axis=1)).astype(np.int32)
    bands = len(order) // height
    padded = np.zeros((len(order), columns), np.float32)
    padded[order >= 0] = weight[order[order >= 0]]
    banded = padded.reshape(bands, height, columns)
    tiles = max(1, -(-columns // tile_columns))
    edges = np.linspace(0, columns, tiles + 1).astype(np.int64)
    parts = [_pack_tile(banded, lo, hi, kernel) for lo, hi in pairwise(edges)]
    per_band = np.concatenate([part[0] for part in parts])
    sizes = per_band @ class_sizes(height)
    values = np.concatenate([part[2] for part in parts])
    work = sizes.reshape(tiles, bands).sum(axis=0) + 2.0
    return BandPack(
        kernel=kernel,
        shape=(rows, columns),
        edges=edges,
        rows=order.astype(np.int32),
        counts=np.ascontiguousarray(per_band, dtype=np.uint16),
        entries=offsets(per_band.sum(axis=1)),
        starts=offsets(sizes),
        columns=np.concatenate([part[1] for part in parts]).astype(np.uint16),
        weights=values.astype(np.int8 if kernel.precision == "int8" else np.float32),
        scales=np.ones(rows, np.float32) if scales is None else scales.astype(np.float32),
        shares=even_shares(work, shares),
        idle=idle,
        used=kept.any(axis=0).astype(np.uint8),
    )


def row_order(kept: Flags, height: int, group: int | None = None) -> NDArray[np.int64]:
    """Rows in the order in which bands of `height` take them; -1 fills the last band.

    The order of the matrix, or one in which each band gathers rows that keep the same columns, whichever
    needs fewer loads; rows that keep nothing are left out."""
    busy = np.flatnonzero(kept.any(axis=1))
    natural = _filled(busy, height)
    if height == 1 or len(busy) <= height:
        return natural
    gathered = _filled(_gathered(kept, busy, height, group), height)
    return min((natural, gathered), key=lambda order: _loads(kept, order, height))


def _gathered(kept: Flags, busy: NDArray[np.int64], height: int, group: int | None) -> NDArray[np.int64]:
    """Greedily, each band: the first free row, then the free rows that share most columns with the band so
    far."""
    flags = kept[busy].astype(np.float32)
    common = flags @ flags.T
    if group is not None:  # rows of other groups come last, not never: a group may not fill its last band
        near = busy[:, None] // group == busy[None, :] // group
        common = np.where(near, common, -1.0)
    free = np.ones(len(busy), bool)
    taken: list[int] = []
    for first in range(len(busy)):
        if not free[first]:
            continue
        free[first] = False
        taken.append(first)
        likeness = common[first].copy()
        for _ in range(min(height - 1, int(free.sum()))):
            best = int(np.where(free, likeness, -np.inf).argmax())
            free[best] = False
            taken.append(best)
            likeness += common[best]
    return busy[np.array(taken, dtype=np.int64)]


def _filled(order: NDArray[np.int64], height: int) -> NDArray[np.int64]:
    return np.concatenate([order, np.full(-len(order) % height, -1, np.int64)])


def _loads(kept: Flags, order: NDArray[np.int64], height: int) -> int:
    """Rows of the right side loaded by all bands."""
    return int(_ordered(kept, order).reshape(-1, height, kept.shape[1]).any(axis=1).sum())


def _ordered(kept: Flags, order: NDArray[np.int64]) -> Flags:
    return np.where((order >= 0)[:, None], kept[order], False)


def _pack_tile(
    banded: Floats, lo: int, hi: int, kernel: BandKernel
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Counts (bands, classes), columns and weights of the columns from `lo` to `hi` in every band."""
    part = banded[:, :, lo:hi]
    bands, height, _ = part.shape
    bits = (1 << np.arange(height))[None, :, None]
    kind = ((part != 0) * bits).sum(axis=1)  # (bands, columns): the class
    sequence = kind.argsort(axis=1, kind="stable")
    kind = np.take_along_axis(kind, sequence, axis=1)
    counts = np.bincount(
        (np.arange(bands)[:, None] * 2**height + kind).ravel(), minlength=bands * 2**height
    ).reshape(bands, 2**height)[:, 1:]
    values = np.take_along_axis(part, sequence[:, None, :], axis=2).transpose(0, 2, 1)
    return counts, sequence[kind > 0], values[values != 0]


def class_sizes(height: int) -> NDArray[np.int64]:
    return np.array([number.bit_count() for number in range(1, 2**height)])


def within(numbers: NDArray[Any], low: int, high: int) -> bool:
    return not len(numbers) or bool(numbers.min() >= low and numbers.max() < high)


def cuts(places: NDArray[Any], whole: int) -> bool:
    """Whether `places` rise from 0 to `whole`."""
    return bool(places[0] == 0 and places[-1] == whole and (np.diff(places) >= 0).all())


def refuse_damage(checks: Mapping[str, Callable[[], bool]]) -> None:
    """Raises KernelError with the first of the problems, in order, whose check fails."""
    for problem, holds in checks.items():
        if not holds():
            raise KernelError(f"a packed matrix is damaged: {problem}")


def offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def even_shares(work: NDArray[np.floating], shares: int) -> NDArray[np.int32]:
    """Bands at which `shares` parts of about equal work begin, and the end: (shares + 1)."""
    before = np.concatenate([[0.0], np.cumsum(work)])
    places = np.searchsorted(before, np.linspace(0, before[-1], shares + 1)[1:-1])
    return np.concatenate([[0], places, [len(work)]]).astype(np.int32)
