"""CSB as a structure, and the rounds of Algorithm 1."""

import numpy as np
import pytest

from lib.errors import WrongUse
from lib.rnn.csb_rnn import CompressedBlocks, Round, progressive_search
from lib.rnn.structure import measured_rate
from tests.rnn.parts import gaussian


def test_undershoot_is_shown_and_handled() -> None:
    weight = gaussian(512, 512)
    assert measured_rate(CompressedBlocks(32, exact_rate=False).mask(weight, 13.5)) < 12.2
    assert measured_rate(CompressedBlocks(32).mask(weight, 13.5)) == pytest.approx(13.5, rel=0.01)


def test_mask_is_that_of_the_pattern() -> None:
    structure, weight = CompressedBlocks((8, 4)), gaussian(30, 21)
    pattern = structure.pattern(weight, 3)
    assert pattern.block == (8, 4)
    assert np.array_equal(structure.mask(weight, 3).numpy(), pattern.mask())


@pytest.mark.parametrize("block", [0, (4, 0), (4, -1)])
def test_malformed_blocks_are_named(block: int | tuple[int, int]) -> None:
    with pytest.raises(WrongUse, match="block_"):
        CompressedBlocks(block)


def test_search_by_hand() -> None:
    # 4, 5 and 6 meet; 7 fails: step 0.5; 6.5 fails: step 0.25; 6.25 meets: step 0.125, and at most a quarter
    search = progressive_search(lambda rate: rate <= 6.3)
    tried = [(4, True), (5, True), (6, True), (7, False), (6.5, False), (6.25, True)]
    assert search.rounds == tuple(Round(rate, met) for rate, met in tried)
    assert search.settled
    assert search.rate == 6.25


def test_search_halves_upwards_too() -> None:
    # 5 fails: step 0.5; 4.5 meets: step 0.25 and up to 4.75, which meets
    search = progressive_search(lambda rate: rate < 5, initial_rate=5)
    assert [tried.rate for tried in search.rounds] == [5, 4.5]
    assert search.settled  # the step after 4.5 is a quarter


@pytest.mark.parametrize("limit", [4.1, 4.9, 7.77, 11.99])
def test_settled_search_lies_within_half_a_step_of_the_limit(limit: float) -> None:
    search = progressive_search(lambda rate: rate <= limit, initial_rate=4, initial_step=1)
    assert search.settled
    assert search.rate is not None
    assert limit - 0.5 <= search.rate <= limit


def test_search_as_printed_cannot_leave_its_first_step_downwards() -> None:
    search = progressive_search(lambda rate: rate <= 2, initial_rate=4, initial_step=1)
    assert not search.settled
    assert search.rate is None
    assert min(tried.rate for tried in search.rounds) >= 3


def test_search_as_printed_does_not_settle_on_a_limit_among_its_whole_steps() -> None:
    # 5 meets, 6 fails, and 5.5, 5.25, ... come down to 5 without reaching it
    search = progressive_search(lambda rate: rate <= 5)
    assert not search.settled
    assert search.rate == 5


def test_search_that_always_meets_is_cut_off() -> None:
    search = progressive_search(lambda rate: True, most_rounds=5)
    assert not search.settled
    assert search.rate == 8


@pytest.mark.parametrize(("rate", "step"), [(4, 0), (4, 3.5), (4, -1), (1, 1), (4, float("nan"))])
def test_search_refuses_steps_that_lead_nowhere(rate: float, step: float) -> None:
    with pytest.raises(WrongUse, match="initial_step"):
        progressive_search(lambda rate: True, rate, step)
