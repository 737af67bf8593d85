"""Masks by one threshold, and how their similarities belong together."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lib.cnn.masks import (
    cosine,
    cosine_from_hamming,
    early_bird_count,
    equivalent_threshold,
    flat,
    global_masks,
    hamming,
    kept_channels,
    nesting_violations,
    site_scores,
)
from lib.errors import ReproError, WrongUse
from tests.cnn.parts import network, sites_of

SCORES = {"a": torch.tensor([0.1, 0.5, 0.2]), "b": torch.tensor([0.9, 0.3])}
BITS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def test_smallest_scales_go_wherever_they_are() -> None:
    # floor(0.5 * 5) = 2: the 0.1 and the 0.2, both of a
    masks = global_masks(SCORES, 0.5)
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "a": [False, True, False],
        "b": [True, True],
    }
    assert {name: index.tolist() for name, index in kept_channels(masks).items()} == {"a": [1], "b": [0, 1]}


def test_a_floor_brings_the_best_channels_back() -> None:
    masks = global_masks(SCORES, 0.8, least=2)
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "a": [False, True, True],
        "b": [True, True],
    }
    assert all(mask.all() for mask in global_masks(SCORES, 0.8, least=9).values())


def test_rate_zero_and_equal_scores() -> None:
    assert flat(global_masks(SCORES, 0)).all()
    zeros = {"a": torch.zeros(4)}
    assert global_masks(zeros, 0.5)["a"].tolist() == [False, False, True, True]


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(WrongUse, match="pruning rate"):
        global_masks(SCORES, rate)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=30), st.lists(st.floats(0, 0.99), min_size=2, max_size=2)
)
def test_masks_of_one_snapshot_are_nested(values: list[float], rates: list[float]) -> None:
    scores = {"a": torch.tensor(values)}
    wide, narrow = (global_masks(scores, rate) for rate in sorted(rates))
    assert nesting_violations(narrow, wide) == 0


def test_masks_of_two_snapshots_need_not_be() -> None:
    wide = global_masks({"a": torch.tensor([0.1, 0.2, 0.3])}, 0.4)
    narrow = global_masks({"a": torch.tensor([0.3, 0.2, 0.1])}, 0.7)
    assert nesting_violations(narrow, wide) == 1


@given(BITS)
def test_cosine_belongs_to_hamming(bits: list[tuple[bool, bool]]) -> None:
    a, b = (torch.tensor(column) for column in zip(*bits, strict=True))
    if not a.any() or not b.any():
        return
    expected = cosine_from_hamming(hamming(a, b), len(a), int(a.sum()), int(b.sum()))
    assert cosine(a, b) == pytest.approx(expected, abs=1e-12)


def test_similarity_by_hand() -> None:
    a, b = torch.tensor([1, 1, 0, 0, 0, 1]).bool(), torch.tensor([1, 0, 1, 0, 0, 1]).bool()
    assert hamming(a, b) == pytest.approx(2 / 6)
    assert cosine(a, b) == pytest.approx(2 / 3)
    assert equivalent_threshold(2 / 6, 0.5) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("rate", "threshold"), [(0.3, 0.929), (0.5, 0.9), (0.7, 0.833)])
def test_early_bird_distance_as_a_cosine(rate: float, threshold: float) -> None:
    assert equivalent_threshold(0.1, rate) == pytest.approx(threshold, abs=5e-4)


def test_early_bird_drops_one_more() -> None:
    values = torch.arange(10.0)
    by_its_rule = (values > values.sort().values[int(0.3 * 10)]).sum().item()
    assert early_bird_count(10, 0.3) == by_its_rule == 6
    assert flat(global_masks({"a": values}, 0.3)).sum() == 7


def test_empty_and_unequal_masks_are_refused() -> None:
    some, none = torch.ones(3).bool(), torch.zeros(3).bool()
    with pytest.raises(WrongUse, match="no direction"):
        cosine(some, none)
    with pytest.raises(WrongUse, match="3 and 4 channels"):
        hamming(some, torch.ones(4).bool())


def test_shared_channels_get_the_mean_of_their_scales() -> None:
    model = network()
    joined = sites_of(model)[0]
    scales = [model.get_submodule(name).weight for name in joined.norms]
    expected = torch.stack([s.detach() for s in scales if isinstance(s, torch.Tensor)]).mean(0)
    torch.testing.assert_close(site_scores(model, [joined])[joined.name], expected)


def test_scales_that_are_not_finite_are_named() -> None:
    model = network()
    norm = model.get_submodule("blocks.1.layers.0.1")
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight[0] = float("nan")
    with pytest.raises(ReproError, match=r"blocks\.1\.layers\.0\.0 are not finite"):
        site_scores(model, sites_of(model))
