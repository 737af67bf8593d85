"""Widths of fields, and checks that no format's own test reaches."""

import numpy as np
import pytest

from hw_models.sparsity import bits_for
from lib.kernels.formats.checks import FormatError, indices, offsets


def test_widths_by_hand() -> None:
    assert [bits_for(count) for count in (0, 1, 2, 3, 4, 5, 1024, 1025)] == [0, 0, 1, 2, 2, 3, 10, 11]


def test_offsets_by_hand() -> None:
    assert offsets([2, 0, 3]).tolist() == [0, 2, 2, 5]
    assert offsets([]).tolist() == [0]
    assert offsets([1]).dtype == np.int32


@pytest.mark.parametrize("index", [2**31, -(2**31) - 1])
def test_indices_beyond_32_bits_are_refused(index: int) -> None:
    with pytest.raises(FormatError, match="32 bits"):
        indices([0, index])
