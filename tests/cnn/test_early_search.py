"""When a search stops, on masks planted epoch by epoch."""

import pytest
import torch
from torch import Tensor

from lib.cnn.early_search import StructureSearch
from lib.cnn.masks import flat
from lib.errors import WrongUse


def scores(*kept: int, channels: int = 20) -> dict[str, Tensor]:
    """Scores of which exactly the channels `kept` are high."""
    values = torch.zeros(channels)
    values[list(kept)] = 1.0
    return {"a": values}


SAME, OTHER, FAR = range(10), (*range(9), 15), range(5, 15)


def test_stops_when_the_newest_resembles_each_of_the_masks_before() -> None:
    search = StructureSearch(0.5, comparisons=2)
    answers = [search.see(scores(*kept)) for kept in (FAR, SAME, SAME, SAME, FAR)]
    assert answers == [False, False, False, True, True]
    assert search.stopped == search.stopped_by_hamming == 4
    assert search.similarities == pytest.approx([0.5, 1.0, 0.5])


def test_found_masks_are_those_of_the_stop_not_later_ones() -> None:
    search = StructureSearch(0.5, comparisons=1)
    for kept in (SAME, SAME, FAR):
        search.see(scores(*kept))
    assert flat(search.found).nonzero().squeeze(1).tolist() == list(SAME)


def test_without_a_stop_the_newest_masks_are_found() -> None:
    search = StructureSearch(0.5, comparisons=1)
    for kept in (SAME, FAR):
        search.see(scores(*kept))
    assert search.stopped is None
    assert flat(search.found).nonzero().squeeze(1).tolist() == list(FAR)


def test_a_distance_of_exactly_the_limit_counts_by_both_rules() -> None:
    # one of ten channels differs: d = 2/20 = 0.1, cosine 0.9
    search = StructureSearch(0.5, comparisons=1)
    search.see(scores(*SAME))
    search.see(scores(*OTHER))
    assert search.similarities == pytest.approx([search.threshold])
    assert search.stopped == search.stopped_by_hamming == 2


def test_a_high_rate_is_asked_for_less() -> None:
    assert StructureSearch(0.7).threshold < StructureSearch(0.3).threshold < 1


def test_senseless_searches_are_refused() -> None:
    with pytest.raises(WrongUse, match="at least one mask"):
        StructureSearch(0.5, comparisons=0)
    with pytest.raises(WrongUse, match=r"at 1\.5"):
        StructureSearch(0.5, distance=1.5)
    with pytest.raises(WrongUse, match="no epoch yet"):
        _ = StructureSearch(0.5).found
