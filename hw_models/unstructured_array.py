"""Arrays that CSB is compared with: unstructured rows over PEs (ESE), and rows made equal by pruning.

One multiply-accumulate per PE and cycle; activations are dense; a product of an H x W matrix with a vector.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_models.errors import HardwareModelError


@dataclass(frozen=True)
class ArrayCycles:
    """Cycles of one product with a vector, and multiply-accumulates / (cycles * PEs)."""

    cycles: int
    macs: int
    utilisation: float


def ese_cycles(mask: NDArray[Any], pes: int, queue_depth: int | None) -> ArrayCycles:
    """Cycles of an unstructured matrix whose row i belongs to PE i modulo `pes` (ESE, FPGA 2017).

    `mask` is (height, width), nonzero where a weight is. The columns' activations are broadcast in order
    into a queue per PE; the next one waits until every PE has finished the one `queue_depth` before it.
    None is a queue without end: the time of the PE with most weights. Depth 1 waits for the slowest PE at
    every column."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.size == 0:
        raise HardwareModelError(f"mask must be a filled matrix, got shape {mask.shape}")
    _at_least_one(pes=pes)
    height, width = mask.shape
    if queue_depth is None:
        queue_depth = width
    _at_least_one(queue_depth=queue_depth)
    padded = np.pad(mask != 0, ((0, -height % pes), (0, 0)))
    work = padded.reshape(-1, pes, width).sum(axis=0)
    finished = np.zeros(pes, dtype=np.int64)
    everywhere = np.zeros(width, dtype=np.int64)  # cycle at which all PEs have finished a column
    for column in range(width):
        sent = everywhere[column - queue_depth] if column >= queue_depth else 0
        finished = np.maximum(finished, sent) + work[:, column]
        everywhere[column] = finished.max()
    return _result(int(everywhere[-1]), int(work.sum()), pes)


def row_balanced_cycles(rows: int, nonzeros_per_row: int, pes: int) -> ArrayCycles:
    """Cycles if every row keeps equally many weights: only the last round of rows can be short of work."""
    _at_least_one(rows=rows, nonzeros_per_row=nonzeros_per_row, pes=pes)
    return _result(-(-rows // pes) * nonzeros_per_row, rows * nonzeros_per_row, pes)


def bank_balanced_cycles(rows: int, banks: int, nonzeros_per_bank: int, lanes: int) -> ArrayCycles:
    """Cycles if every row has `banks` parts with equally many weights (BBS, FPGA 2019).

    A lane of `banks` PEs works on one row and takes a weight of each bank per cycle."""
    _at_least_one(rows=rows, banks=banks, nonzeros_per_bank=nonzeros_per_bank, lanes=lanes)
    return _result(-(-rows // lanes) * nonzeros_per_bank, rows * banks * nonzeros_per_bank, lanes * banks)


def _at_least_one(**fields: int) -> None:
    for name, value in fields.items():
        if value < 1:
            raise HardwareModelError(f"{name} must be at least 1, got {value}")


def _result(cycles: int, macs: int, pes: int) -> ArrayCycles:
    return ArrayCycles(cycles, macs, macs / (cycles * pes) if cycles else 0.0)
