"""Packs any pattern of zeros for the strip kernel of `strip_codegen`: row order, chunks of columns,
gathered inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.kernels.bands import Floats, cuts, even_shares, offsets, refuse_damage, within
from lib.kernels.strip_codegen import HEIGHT, StripKernel


@dataclass(frozen=True, eq=False)
class StripPack:
    """The arrays of a packed matrix (rows P, columns Q), as `Strips` in the generated source names them.

    strips (strips + 1): where a strip's bands begin; sources (strips + 1): where its inputs begin in
    gather, the columns that it gathers (none: the input is used as it is); rows (bands * 4): output row of
    each band's row, -1 for none; counts (bands): entries of each of its rows; entries (bands + 1): where
    its entries begin; chunks: an entry's chunk, or pair of chunks, the band's four rows in turns; places:
    where in its pair each weight's input is; weights: float32 or int8, to be multiplied by scales (P);
    shares: strips at which equal parts of the work begin; idle: rows without weights."""

    kernel: StripKernel
    shape: tuple[int, int]
    strips: NDArray[np.int32]
    sources: NDArray[np.int64]
    gather: NDArray[np.unsignedinteger]
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]
    entries: NDArray[np.int64]
    chunks: NDArray[np.unsignedinteger]
    places: NDArray[np.int8]
    weights: NDArray[Any]
    scales: Floats
    shares: NDArray[np.int32]
    idle: NDArray[np.int32]

    def __post_init__(self) -> None:
        rows, columns = self.shape
        lanes, paired = self.kernel.lanes, self.kernel.layout == "paired"
        entries = offsets(self.counts.astype(np.int64) * HEIGHT)
        checks: dict[str, Callable[[], bool]] = {
            "a row is out of range": lambda: within(self.rows, -1, rows) and within(self.idle, 0, rows),
            "rows do not follow from counts": lambda: len(self.rows) == len(self.counts) * HEIGHT,
            "entries do not follow from counts": lambda: np.array_equal(self.entries, entries),
            "strips do not cut the bands": lambda: cuts(self.strips, len(self.counts)),
            "shares do not cut the strips": lambda: cuts(self.shares, len(self.strips) - 1),
            "sources do not cut gather": lambda: (
                cuts(self.sources, len(self.gather)) and len(self.sources) == len(self.strips)
            ),
            "a gathered column is out of range": lambda: within(self.gather, 0, columns),
            "chunks have the wrong length": lambda: len(self.chunks) == entries[-1] * (1 + paired),
            "a chunk is out of range": lambda: bool((self.chunks < self._chunks()).all()),
            "places have the wrong length": lambda: len(self.places) == paired * entries[-1] * lanes,
            "a place is out of range": lambda: within(self.places, 0, 2 * lanes),
            "weights have the wrong length": lambda: len(self.weights) == entries[-1] * lanes,
            "scales have the wrong length": lambda: len(self.scales) == rows,
        }
        refuse_damage(checks)

    def _chunks(self) -> NDArray[np.int64]:
        """For every element of `chunks`, how many chunks its strip has."""
        gathers = np.diff(self.sources)
        inputs = np.where(gathers > 0, gathers, self.shape[1])
        per_band = np.repeat(-(-inputs // self.kernel.lanes), np.diff(self.strips))
        elements = HEIGHT * (1 + (self.kernel.layout == "paired"))
        return np.repeat(per_band, self.counts.astype(np.int64) * elements)

    @property
    def index_bytes(self) -> int:
        """Bytes of everything but the weights and their scales."""
        arrays = (
            self.strips,
            self.sources,
            self.gather,
            self.rows,
            self.counts,
            self.entries,
            self.chunks,
            self.places,
            self.idle,
        )
        return sum(array.nbytes for array in arrays)

    @property
    def entry_count(self) -> int:
        """Entries, those that only fill up a band's shorter rows included."""
        return int(self.entries[-1])


@dataclass(frozen=True, eq=False)
class _Entries:
    """Entries of the rows of a strip in any order: row (n), chunks (n, 1 or 2), places (n, lanes or 0),
    weights."""

    row: NDArray[np.int64]
    chunks: NDArray[np.int64]
    places: NDArray[np.int8]
    weights: Floats


@dataclass(frozen=True, eq=False)
class _Strip:
    """One strip packed by itself; `order` holds rows of the whole matrix, four arrays follow it in turns."""

    gather: NDArray[np.int64]
    order: NDArray[np.int64]
    counts: NDArray[np.int64]
    chunks: NDArray[np.int64]
    places: NDArray[np.int8]
    weights: Floats


def pack_strips(
    weight: Floats,
    kernel: StripKernel,
    *,
    scales: Floats | None = None,
    shares: int = 8,
    gathered: int | None = None,
) -> StripPack:
    """Pack `weight` (P, Q), whose zeros are what was pruned, for `kernel`.

    With int8, `weight` holds whole numbers from -127 to 127 and `scales` (P) what they count. With
    `gathered`, strips of so many rows gather the inputs that they keep (plain layout only)."""
    if gathered:
        tops = range(0, len(weight), gathered)
        parts = [_gathered_strip(weight[top : top + gathered], top, kernel) for top in tops]
    else:
        parts = _whole_strips(weight, kernel, shares)
    return _assemble(weight, kernel, scales, shares, parts)


def _whole_strips(weight: Floats, kernel: StripKernel, shares: int) -> list[_Strip]:
    """Rows in the order of their length, cut into `shares` strips, so that threads can share them."""
    chunked = _chunked(weight, kernel.lanes)
    kept = (chunked != 0).any(axis=2)
    row, chunk = np.nonzero(kept)
    if kernel.layout == "paired":
        entries = _paired(chunked, row, chunk)
    else:
        entries = _Entries(row, chunk[:, None], np.empty((len(row), 0), np.int8), chunked[row, chunk])
    strip = _in_turns(entries, np.arange(len(weight)), np.empty(0, np.int64))
    places = (
        np.unique(even_shares(strip.counts + 2.0, shares)) if len(strip.counts) else np.zeros(1, np.int32)
    )
    begins = offsets(strip.counts * HEIGHT)
    return [
        _Strip(
            strip.gather,
            strip.order[lo * HEIGHT : hi * HEIGHT],
            strip.counts[lo:hi],
            strip.chunks[begins[lo] : begins[hi]],
            strip.places[begins[lo] : begins[hi]],
            strip.weights[begins[lo] : begins[hi]],
        )
        for lo, hi in pairwise(places)
    ]


def _gathered_strip(part: Floats, top: int, kernel: StripKernel) -> _Strip:
    """The strip of rows from `top`, its inputs the columns that any of its rows keeps."""
    gather = np.flatnonzero((part != 0).any(axis=0))
    chunked = _chunked(part[:, gather], kernel.lanes)
    row, chunk = np.nonzero((chunked != 0).any(axis=2))
    entries = _Entries(row, chunk[:, None], np.empty((len(row), 0), np.int8), chunked[row, chunk])
    # the last chunk is filled up with an input that its rows use anyway
    fill = gather[-1:].repeat(-len(gather) % kernel.lanes)
    return _in_turns(entries, top + np.arange(len(part)), np.concatenate([gather, fill]))


def _chunked(dense: Floats, lanes: int) -> Floats:
    """(rows, columns) as (rows, chunks, lanes), filled up with zeros."""
    rows, columns = dense.shape
    padded = np.zeros((rows, -(-columns // lanes) * lanes), np.float32)
    padded[:, :columns] = dense
    return padded.reshape(rows, padded.shape[1] // lanes, lanes)


def _paired(chunked: Floats, row: NDArray[np.int64], chunk: NDArray[np.int64]) -> _Entries:
    """Kept chunks of every row in pairs: the fullest with the emptiest, where both fit into one entry.

    Without a partner a chunk is paired with itself."""
    rows, _, lanes = chunked.shape
    sizes = np.count_nonzero(chunked[row, chunk], axis=1)
    sequence = np.lexsort((-sizes, row))
    row, chunk, sizes = row[sequence], chunk[sequence], sizes[sequence]
    ends = offsets(np.bincount(row, minlength=rows))
    low, high = ends[:-1].copy(), ends[1:] - 1
    first, second = [], []
    while (open_rows := np.flatnonzero(low <= high)).size:
        big, small = low[open_rows], high[open_rows]
        fits = (big < small) & (sizes[big] + sizes[small] <= lanes)
        first.append(big)
        second.append(np.where(fits, small, big))
        low[open_rows] += 1
        high[open_rows] -= fits
    one, two = _joined(first).astype(np.int64), _joined(second).astype(np.int64)
    pairs = np.concatenate([chunked[row[one], chunk[one]], chunked[row[two], chunk[two]]], axis=1)
    pairs[one == two, lanes:] = 0
    places = (pairs == 0).argsort(axis=1, kind="stable")[:, :lanes]
    weights = np.take_along_axis(pairs, places, axis=1)
    return _Entries(row[one], np.stack([chunk[one], chunk[two]], axis=1), places.astype(np.int8), weights)


def _in_turns(entries: _Entries, numbers: NDArray[np.int64], gather: NDArray[np.int64]) -> _Strip:
    """The entries of a strip, whose rows are `numbers` of the matrix: the longest rows first, four rows in
    turns."""
    rows = len(numbers)
    lengths = np.bincount(entries.row, minlength=rows)
    order = (-lengths).argsort(kind="stable")[: np.count_nonzero(lengths)]
    rank = np.empty(rows, np.int64)
    rank[order] = np.arange(len(order))
    counts = lengths[order[::HEIGHT]]  # the first row of a band is its longest
    begins = offsets(counts * HEIGHT)
    sequence = entries.row.argsort(kind="stable")
    step = np.arange(len(sequence)) - offsets(lengths)[entries.row[sequence]]
    place = rank[entries.row[sequence]]
    place = begins[place // HEIGHT] + step * HEIGHT + place % HEIGHT
    turned = []
    for array in (entries.chunks, entries.places, entries.weights):
        spread = np.zeros((begins[-1], array.shape[1]), array.dtype)
        spread[place] = array[sequence]
        turned.append(spread)
    filled = np.concatenate([numbers[order], np.full(-len(order) % HEIGHT, -1, np.int64)])
    return _Strip(gather, filled, counts, *turned)


def _assemble(
    weight: Floats, kernel: StripKernel, scales: Floats | None, shares: int, parts: list[_Strip]
) -> StripPack:
    parts = [part for part in parts if len(part.counts)]
    counts = _joined([part.counts for part in parts])
    work = np.array([part.counts.sum() * HEIGHT + 0.5 * len(part.gather) for part in parts])
    weights = _joined([part.weights.ravel() for part in parts])
    index = np.uint32 if kernel.wide_index else np.uint16
    return StripPack(
        kernel=kernel,
        shape=(weight.shape[0], weight.shape[1]),
        strips=offsets(np.array([len(part.counts) for part in parts], np.int64)).astype(np.int32),
        sources=offsets(np.array([len(part.gather) for part in parts], np.int64)),
        gather=_joined([part.gather for part in parts]).astype(index),
        rows=_joined([part.order for part in parts]).astype(np.int32),
        counts=counts.astype(np.int32),
        entries=offsets(counts.astype(np.int64) * HEIGHT),
        chunks=_joined([part.chunks.ravel() for part in parts]).astype(index),
        places=_joined([_lane_by_lane(part.places) for part in parts]).astype(np.int8),
        weights=aligned(weights.astype(np.int8 if kernel.precision == "int8" else np.float32)),
        scales=np.ones(len(weight), np.float32) if scales is None else scales.astype(np.float32),
        shares=even_shares(work, shares),
        idle=np.flatnonzero(~(weight != 0).any(axis=1)).astype(np.int32),
    )


def _lane_by_lane(places: NDArray[np.int8]) -> NDArray[np.int8]:
    """Places (entries, lanes) in the order in which they are loaded: of four rows in turns, lane by lane."""
    return places.reshape(len(places) // HEIGHT, HEIGHT, places.shape[1]).transpose(0, 2, 1).ravel()


def _joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0)


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins at a multiple of 64 bytes: a vector load then never touches two cache lines."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
