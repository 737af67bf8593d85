"""BSP: columns in blocks, then rows; both steps by hand, and their rates together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.errors import WrongUse
from lib.rnn.baselines import Rows
from lib.rnn.partition import even_parts
from lib.rnn.rtmobile import BlockStructured
from lib.rnn.structure import measured_rate
from tests.rnn.parts import gaussian, uneven

WEIGHT = torch.tensor(
    [
        [3, 1, 0.1, 0.2],
        [0, 1, 0.3, 0.0],
        [1, 5, 0.4, 4],
        [1, 0, 2, 0],
    ]
)


def test_steps_by_hand() -> None:
    # strips of two rows, blocks of two columns, one column of each stays: 0 and 2 above, 1 and 3 below
    columns = BlockStructured(2, 2, exact_rate=False).mask(WEIGHT, 2)
    assert columns.int().tolist() == [[1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]]
    # what is left of the rows has norms 3.0, 0.3, 6.4 and 0
    both = BlockStructured(2, 2, row_rate=2, exact_rate=False).mask(WEIGHT, 4)
    assert both.int().tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]


def test_second_step_is_row_pruning_of_the_first() -> None:
    weight = gaussian(64, 64)
    columns = BlockStructured(4, 4, exact_rate=False).mask(weight, 4)
    rows = Rows().mask(weight * columns, 2)
    assert torch.equal(BlockStructured(4, 4, 2, exact_rate=False).mask(weight, 8), columns & rows)


@settings(deadline=None, max_examples=30)
@given(st.integers(5, 40), st.integers(5, 40), st.integers(1, 5), st.integers(1, 5), st.floats(1, 20))
def test_rows_of_a_strip_share_their_columns(
    rows: int, columns: int, strips: int, blocks: int, rate: float
) -> None:
    mask = BlockStructured(strips, blocks, row_rate=2).mask(gaussian(rows, columns), rate)
    for strip in even_parts(rows, strips):
        part = mask[strip]
        assert torch.equal(part, part.any(dim=1)[:, None] & part.any(dim=0))


def test_columns_of_blocks_differ_by_one_at_most() -> None:
    mask = BlockStructured(4, 4).mask(uneven(64, 64), 5)  # 16 / 5 = 3.2 columns a block
    counts = [int(mask[strip][0, part].sum()) for strip in even_parts(64, 4) for part in even_parts(64, 4)]
    assert set(counts) == {3, 4}
    assert sum(counts) == round(16 * 3.2)


@pytest.mark.parametrize("shape", [(512, 256), (300, 39), (65, 100)])
@pytest.mark.parametrize(("row_rate", "rate"), [(1, 4), (1.25, 20), (2, 32), (2, 10)])
def test_rate_is_met(shape: tuple[int, int], row_rate: float, rate: float) -> None:
    mask = BlockStructured(4, 4, row_rate).mask(gaussian(*shape), rate)
    assert measured_rate(mask) == pytest.approx(rate, rel=0.05)


def test_rows_take_no_more_than_the_whole_rate() -> None:
    mask = BlockStructured(2, 2, row_rate=4).mask(gaussian(32, 32), 2)
    assert measured_rate(mask) == 2
    assert mask.any(dim=0).all()


def test_malformed_settings_are_named() -> None:
    for strips, blocks, row_rate, message in [
        (0, 1, 1.0, "strips"),
        (1, 0, 1.0, "blocks_per_strip"),
        (1, 1, 0.5, "row_rate"),
        (1, 1, float("nan"), "row_rate"),
    ]:
        with pytest.raises(WrongUse, match=message):
            BlockStructured(strips, blocks, row_rate)
    with pytest.raises(WrongUse, match="cut into 5 parts"):
        BlockStructured(1, 5).mask(torch.ones(4, 4), 2)
