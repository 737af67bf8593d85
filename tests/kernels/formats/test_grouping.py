"""Groups of equal rows: longest lists first, rows rising, every row once."""

import numpy as np

from lib.kernels.formats.grouping import group_rows


def test_groups_by_hand() -> None:
    mask = np.array([[0, 1, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1]], dtype=bool)
    groups = [(group.rows.tolist(), group.columns.tolist()) for group in group_rows(mask)]
    assert groups == [([1, 4], [0, 2]), ([0, 3], [1]), ([5], [2]), ([2], [])]


def test_columns_that_share_a_byte_are_told_apart() -> None:
    mask = np.eye(20, dtype=bool)
    groups = group_rows(mask)
    assert len(groups) == 20
    assert all(group.rows.tolist() == group.columns.tolist() for group in groups)
