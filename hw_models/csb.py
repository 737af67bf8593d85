"""Compressed structured blocks (CSB-RNN, ICS 2020): projection onto them, and what their indices cost.

A weight matrix of height H (outputs) and width W (inputs) is cut into blocks of N rows and M columns. Block b
keeps a row set R_b (n_b of them) and a column set C_b (m_b); its nonzeros are exactly R_b x C_b, a dense
n_b x m_b kernel. Blocks are pruned apart from each other, so n_b and m_b vary. A side that N or M does not
divide is padded with zeros; padding is never kept.
"""

from dataclasses import dataclass
from math import ceil, inf, isfinite, log, log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_models.errors import HardwareModelError

Block = int | tuple[int, int]
"""Height N and width M of a block; one number for a square."""


@dataclass(frozen=True, eq=False)
class KernelGrid:
    """Kernel sizes n_b and m_b of every block, both of shape (block rows, block columns)."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def __post_init__(self) -> None:
        for field in ("rows", "columns"):
            sizes = np.asarray(getattr(self, field))
            if sizes.ndim != 2 or sizes.size == 0:
                raise HardwareModelError(f"{field} must be a filled two-dimensional array, not {sizes.shape}")
            if not np.issubdtype(sizes.dtype, np.integer) or sizes.min() < 0:
                raise HardwareModelError(f"{field} must hold whole numbers of at least 0")
            object.__setattr__(self, field, sizes.astype(np.int64))
        if self.rows.shape != self.columns.shape:
            raise HardwareModelError(
                f"rows {self.rows.shape} and columns {self.columns.shape} differ in shape"
            )

    @property
    def macs(self) -> int:
        """Nonzeros, that is multiply-accumulates per product with a vector."""
        return int((self.rows * self.columns).sum())


@dataclass(frozen=True)
class Storage:
    """Entries and bits of the five arrays (section 4.1): sizes n, m, row and column indices, values."""

    blocks: int
    row_entries: int
    column_entries: int
    values: int
    size_bits: int
    index_bits: int
    value_bits: int

    @property
    def index_overhead(self) -> float:
        """The paper's NIO: index entries per stored weight. It leaves out n[] and m[] and all bit widths.

        Raises HardwareModelError, as `bit_overhead` does, where no weight is stored."""
        self._needs_weights()
        return (self.row_entries + self.column_entries) / self.values

    @property
    def bit_overhead(self) -> float:
        """Bits of n[], m[] and both index arrays per bit of the values."""
        self._needs_weights()
        return (self.size_bits + self.index_bits) / self.value_bits

    def _needs_weights(self) -> None:
        if not self.values:
            raise HardwareModelError("a matrix that keeps no weight has no index overhead per weight")


@dataclass(frozen=True, eq=False)
class CsbMatrix:
    """The pattern of a pruned H x W matrix: kept rows and columns of each of its blocks.

    `kept_rows` has shape (block rows, block columns, N), `kept_columns` (block rows, block columns, M).
    Raises HardwareModelError for blocks that do not cover the matrix, or that keep padding."""

    height: int
    width: int
    kept_rows: NDArray[np.bool_]
    kept_columns: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for name, kept in (("kept_rows", self.kept_rows), ("kept_columns", self.kept_columns)):
            if kept.ndim != 3 or kept.size == 0 or kept.dtype != np.bool_:
                raise HardwareModelError(f"{name} must be a filled three-dimensional array of bools")
        (high, wide), grid = self.block, self.kept_rows.shape[:2]
        needed = ceil(self.height / high), ceil(self.width / wide)
        if not grid == self.kept_columns.shape[:2] == needed:
            raise HardwareModelError(
                f"a matrix of {self.height} x {self.width} in blocks of {high} x {wide} has {needed} of "
                f"them; kept_rows has {grid}, kept_columns {self.kept_columns.shape[:2]}"
            )
        below, beyond = (grid[0] * high - self.height, grid[1] * wide - self.width)
        if self.kept_rows[-1, :, high - below :].any() or self.kept_columns[:, -1, wide - beyond :].any():
            raise HardwareModelError("a block at an edge keeps rows or columns of the padding")

    @property
    def block(self) -> tuple[int, int]:
        """Height N and width M of a block."""
        return self.kept_rows.shape[2], self.kept_columns.shape[2]

    @property
    def kernels(self) -> KernelGrid:
        """Kernel sizes of every block."""
        return KernelGrid(self.kept_rows.sum(axis=2), self.kept_columns.sum(axis=2))

    @property
    def nonzeros(self) -> int:
        return self.kernels.macs

    @property
    def rate(self) -> float:
        """Weights of the unpadded matrix per kept weight; infinite when nothing is kept."""
        return self.height * self.width / self.nonzeros if self.nonzeros else inf

    def mask(self) -> NDArray[np.bool_]:
        """Which weights are kept, (height, width)."""
        kept = self.kept_rows[:, :, :, None] & self.kept_columns[:, :, None, :]
        down, across, high, wide = kept.shape
        padded = kept.transpose(0, 2, 1, 3).reshape(down * high, across * wide)
        return padded[: self.height, : self.width]

    def storage(self, value_bits: int = 16) -> Storage:
        """Size of the five arrays with values of `value_bits` bits."""
        if value_bits < 1:
            raise HardwareModelError(f"value_bits must be at least 1, got {value_bits}")
        (high, wide), grid = self.block, self.kernels
        rows, columns = int(grid.rows.sum()), int(grid.columns.sum())
        return Storage(
            blocks=grid.rows.size,
            row_entries=rows,
            column_entries=columns,
            values=grid.macs,
            size_bits=grid.rows.size * (ceil(log2(high + 1)) + ceil(log2(wide + 1))),
            index_bits=rows * ceil(log2(high)) + columns * ceil(log2(wide)),
            value_bits=grid.macs * value_bits,
        )


def index_overhead(rate: float, block: Block) -> float:
    """Index entries per weight if every kernel had N/sqrt(rate) rows and M/sqrt(rate) columns.

    2*sqrt(rate)/B for square blocks of side B."""
    high, wide = _sides(block)
    return sqrt(_rate(rate)) * (1 / high + 1 / wide)


def csr_index_overhead(nonzeros: int, rows: int) -> float:
    """Index entries per weight of compressed sparse rows: a column per weight, a pointer per row, and one."""
    if nonzeros < 1:
        raise HardwareModelError(f"nonzeros must be at least 1, got {nonzeros}")
    if rows < 1:
        raise HardwareModelError(f"rows must be at least 1, got {rows}")
    return (nonzeros + rows + 1) / nonzeros


def fitted_block(shape: tuple[int, int], block: Block, groups: tuple[int, int]) -> tuple[int, int]:
    """Block sides for a matrix of `shape` on `groups` (down, across) of PEs, at most `block` on each side.

    A side too short to give each group a block of full size is cut into one equal block per group (section 6:
    39 inputs become 4 blocks of 10); a longer side keeps the block."""
    sides = tuple(
        min(side, ceil(length / count))
        for side, length, count in zip(_sides(block), shape, groups, strict=True)
    )
    return sides[0], sides[1]


def project(weights: NDArray[Any], rate: float, block: Block) -> CsbMatrix:
    """The CSB pattern of a weight matrix whose measured rate is as near to `rate` as row counts allow.

    The two-step projection of section 4.2 with its keep fraction searched, since the literal fraction
    1/sqrt(rate) keeps too much (see `project_literally`). The result's `rate` is the measured one."""
    ranking, rate = _Ranking(weights, block), _rate(rate)
    fraction, low, high = 1 / sqrt(rate), 0.0, 1.0
    best = pattern = ranking.cut(fraction)
    for _ in range(24):
        if abs(log(best.rate / rate)) < 5e-4:
            break
        low, high = (fraction, high) if pattern.rate > rate else (low, fraction)
        # nonzeros grow about as the square of the fraction; halving takes over where that leaves the bracket
        fraction *= sqrt(pattern.rate / rate)
        if not low < fraction < high:
            fraction = (low + high) / 2
        pattern = ranking.cut(fraction)
        if abs(log(pattern.rate / rate)) < abs(log(best.rate / rate)):
            best = pattern
    return best


def project_literally(weights: NDArray[Any], rate: float, block: Block) -> CsbMatrix:
    """The CSB pattern by the projection as printed: both steps keep the fraction 1/sqrt(rate).

    Its rate undershoots, because a block that keeps many rows then also wins more columns."""
    return _Ranking(weights, block).cut(1 / sqrt(_rate(rate)))


def dense(shape: tuple[int, int], block: Block) -> CsbMatrix:
    """The CSB pattern that keeps everything in a matrix of `shape`."""
    return project(np.ones(shape, dtype=np.float32), 1.0, block)


class _Ranking:
    """Squared weights in blocks and the rank of every row segment, shared by all cuts of one matrix."""

    def __init__(self, weights: NDArray[Any], block: Block) -> None:
        weights = np.asarray(weights)
        if weights.ndim != 2 or weights.size == 0:
            raise HardwareModelError(f"weights must be a filled matrix, got shape {weights.shape}")
        if not np.isfinite(weights).all():
            raise HardwareModelError("weights must be finite")
        high, wide = _sides(block)
        self.height, self.width = weights.shape
        down, across = ceil(self.height / high), ceil(self.width / wide)
        squares = np.pad(
            np.square(weights, dtype=np.float64),
            ((0, down * high - self.height), (0, across * wide - self.width)),
        )
        self.squares = np.ascontiguousarray(squares.reshape(down, high, across, wide).transpose(0, 2, 1, 3))
        segments = self.squares.sum(axis=3).transpose(0, 2, 1).reshape(down * high, across)
        self.row_order = np.argsort(-segments[: self.height], axis=0, kind="stable")

    def cut(self, fraction: float) -> CsbMatrix:
        """The pattern that keeps `fraction` of each block-column's rows, then of each block-row's columns."""
        down, across, high, wide = self.squares.shape
        rows = np.zeros((down * high, across), dtype=np.bool_)
        np.put_along_axis(rows, self.row_order[: max(1, round(fraction * self.height))], True, axis=0)
        kept_rows = rows.reshape(down, high, across).transpose(0, 2, 1)
        energy = np.matmul(kept_rows[:, :, None, :].astype(self.squares.dtype), self.squares)
        energy = energy.reshape(down, across * wide)
        order = np.argsort(-energy[:, : self.width], axis=1, kind="stable")
        columns = np.zeros((down, across * wide), dtype=np.bool_)
        np.put_along_axis(columns, order[:, : max(1, round(fraction * self.width))], True, axis=1)
        kept_columns = columns.reshape(down, across, wide)
        kept_columns = kept_columns & kept_rows.any(axis=2, keepdims=True)
        kept_rows = kept_rows & kept_columns.any(axis=2, keepdims=True)
        return CsbMatrix(self.height, self.width, kept_rows, kept_columns)


def _sides(block: Block) -> tuple[int, int]:
    high, wide = (block, block) if isinstance(block, int) else block
    if high < 1 or wide < 1:
        raise HardwareModelError(f"block must be at least 1 on each side, got {block}")
    return high, wide


def _rate(rate: float) -> float:
    if not isfinite(rate) or rate < 1:
        raise HardwareModelError(f"rate must be a finite number of at least 1, got {rate}")
    return rate
