"""`cycles`: how long K x L groups of P x Q PEs take for a CSB matrix-vector product (CSB-RNN, section 5).

One iteration takes K x L neighbouring blocks, one per group, and ends with its slowest group. An n x m kernel
takes ceil(n/P) * ceil(m/Q) cycles. With sharing, groups give work to the right neighbour (horizontal), to the
one below (vertical) or to both (2-D), on a torus.

Two readings of the paper's integer problem had to be chosen. Kernel rows n go with P and kernel columns m
with Q, also in constraint 6, where the paper has them the other way round; for P = Q that is the same.
Sizes n and m in the constraints are rounded up to multiples of P and Q, because constraints 3, 4 and 6
have no common solution for other sizes.
"""

from dataclasses import dataclass, fields
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from hw_models.csb import KernelGrid
from hw_models.csb_sharing import Ints, Sharing, share
from hw_models.errors import HardwareModelError


@dataclass(frozen=True)
class PEArray:
    """K x L groups of P x Q PEs; one multiply-accumulate per PE and cycle."""

    group_rows: int
    group_columns: int
    pe_rows: int
    pe_columns: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise HardwareModelError(f"{field.name} must be a whole number of at least 1, got {value!r}")

    @property
    def groups(self) -> int:
        return self.group_rows * self.group_columns

    @property
    def pes(self) -> int:
        return self.groups * self.pe_rows * self.pe_columns


@dataclass(frozen=True, eq=False)
class Assignment:
    """Who computes what, in weights; every array has shape (iterations, K, L), iterations row by row.

    `rows` x `columns` are the kernels rounded up to whole passes. Of each, `horizontal_rows` x
    `horizontal_columns` go to the right neighbour, `vertical_rows` x `vertical_columns` to the one below."""

    rows: Ints
    columns: Ints
    horizontal_rows: Ints
    horizontal_columns: Ints
    vertical_rows: Ints
    vertical_columns: Ints

    @property
    def loads(self) -> Ints:
        """Weights that each group computes, rounding included (constraint 7 without the mean)."""
        local = (self.columns - self.vertical_columns) * (self.rows - self.horizontal_rows)
        from_left = np.roll(self.horizontal_columns * self.horizontal_rows, 1, axis=2)
        from_above = np.roll(self.vertical_columns * self.vertical_rows, 1, axis=1)
        loads: Ints = local + from_left + from_above
        return loads

    @property
    def margin(self) -> NDArray[np.float64]:
        """Greatest distance of a load from the mean load of its iteration, in weights."""
        mean = (self.rows * self.columns).mean(axis=(1, 2), keepdims=True)
        margin: NDArray[np.float64] = np.abs(self.loads - mean).max(axis=(1, 2))
        return margin


@dataclass(frozen=True, eq=False)
class SparseCycles:
    """Cycles of one matrix-vector product, what bounds them, and the assignment behind them."""

    cycles: int
    macs: int
    """Nonzero weights."""
    utilisation: float
    """macs / (cycles * PEs); 0 if there is nothing to do."""
    ideal: int
    """Cycles if each iteration's weights were spread evenly over all PEs."""
    balance: float
    """The utilisation if the rounding of kernels up to whole passes counted as work."""
    assignment: Assignment


def cycles(kernels: KernelGrid, array: PEArray, sharing: Sharing) -> SparseCycles:
    """Cycles of a product of a CSB matrix with a vector; the last iterations are filled with empty blocks."""
    if sharing not in get_args(Sharing):
        raise HardwareModelError(f"sharing must be one of {', '.join(get_args(Sharing))}, got {sharing!r}")
    n, m = (_iterations(sizes, array) for sizes in (kernels.rows, kernels.columns))
    n, m = np.where(m > 0, n, 0), np.where(n > 0, m, 0)
    a, b = -(-n // array.pe_rows), -(-m // array.pe_columns)
    cuts = share(a, b, sharing)
    assignment = Assignment(
        rows=a * array.pe_rows,
        columns=b * array.pe_columns,
        horizontal_rows=cuts.horizontal * array.pe_rows,
        horizontal_columns=np.where(cuts.rows_first, b, b - cuts.vertical) * array.pe_columns,
        vertical_rows=np.where(cuts.rows_first, a - cuts.horizontal, a) * array.pe_rows,
        vertical_columns=cuts.vertical * array.pe_columns,
    )
    slowest = cuts.slowest(a, b)
    total, slots = int(slowest.sum()), int(slowest.sum()) * array.groups
    return SparseCycles(
        cycles=total,
        macs=kernels.macs,
        utilisation=kernels.macs / (total * array.pes) if total else 0.0,
        ideal=int((-(-(n * m).sum(axis=(1, 2)) // array.pes)).sum()),
        balance=int((a * b).sum()) / slots if total else 0.0,
        assignment=assignment,
    )


def _iterations(sizes: Ints, array: PEArray) -> Ints:
    """Block sizes regrouped to (iterations, K, L), filled up with empty blocks."""
    down, across = array.group_rows, array.group_columns
    padded = np.pad(sizes, ((0, -sizes.shape[0] % down), (0, -sizes.shape[1] % across)))
    cut = padded.reshape(padded.shape[0] // down, down, padded.shape[1] // across, across)
    return cut.transpose(0, 2, 1, 3).reshape(-1, down, across)


def check_constraints(assignment: Assignment, array: PEArray, margin: float) -> None:
    """Raises HardwareModelError naming the first of the constraints 1 to 7 that the assignment breaks.

    `margin` is that of constraint 7, in weights."""
    n, m = assignment.rows, assignment.columns
    dn_h, dm_h = assignment.horizontal_rows, assignment.horizontal_columns
    dn_v, dm_v = assignment.vertical_rows, assignment.vertical_columns
    # constraint 5: m - dm_v columns and n - dn_h rows are kept; with them the parts add up to the kernel
    kept = (m - dm_v) * (n - dn_h)
    held = {
        "1": (dm_h >= 0) & (dm_h <= m) & (dn_h >= 0) & (dn_h <= n),
        "2": (dm_v >= 0) & (dm_v <= m // 2) & (dn_v >= 0) & (dn_v <= n),
        "3 or 4": ((dm_h == m) & (dn_v + dn_h == n)) | ((dn_v == n) & (dm_h + dm_v == m)),
        "5": kept + dm_h * dn_h + dm_v * dn_v == m * n,
        "6": (np.stack([n, dn_h, dn_v]) % array.pe_rows == 0).all(axis=0)
        & (np.stack([m, dm_h, dm_v]) % array.pe_columns == 0).all(axis=0),
        "7": assignment.margin <= margin,
    }
    for name, holds in held.items():
        if not holds.all():
            raise HardwareModelError(
                f"assignment breaks constraint {name}, first at index {np.argwhere(~holds)[0].tolist()}"
            )
