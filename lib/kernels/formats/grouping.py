"""Rows that share a list of kept columns, brought together: the reorder of GRIM and RTMobile."""

from dataclasses import dataclass

import numpy as np

from lib.kernels.formats.checks import Indices, Mask, indices


@dataclass(frozen=True, eq=False)
class RowGroup:
    """Rows of a matrix, rising, that all keep exactly `columns`, rising; int32 both."""

    rows: Indices
    columns: Indices


def group_rows(mask: Mask) -> list[RowGroup]:
    """The groups of equal rows of a mask (P, Q): longest column lists first, then by their first row.

    Rows of similar length come to lie side by side, which keeps threads that take adjacent rows even."""
    packed = np.packbits(mask, axis=1)
    _, first, group = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    by_group = np.argsort(group, kind="stable")
    rows = np.split(by_group, np.cumsum(np.bincount(group))[:-1])
    lengths = mask[first].sum(axis=1)
    order = np.lexsort((first, -lengths))
    return [RowGroup(indices(rows[index]), indices(mask[first[index]].nonzero()[0])) for index in order]
