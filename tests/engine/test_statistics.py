"""Intervals over seeds."""

import numpy as np
import pytest

from lib.engine.statistics import Interval, mean_interval

FIVE = [1.0, 2.0, 3.0, 4.0, 6.0]


def test_the_same_seed_gives_the_same_interval() -> None:
    assert mean_interval(FIVE, seed=7) == mean_interval(FIVE, seed=7)


def test_another_seed_resamples_otherwise() -> None:
    many = list(np.random.default_rng(0).normal(size=40))
    assert mean_interval(many, seed=1) != mean_interval(many, seed=2)


def test_the_interval_holds_the_mean_and_stays_among_the_values() -> None:
    interval = mean_interval(FIVE, seed=0)
    assert interval.estimate == pytest.approx(3.2)
    assert 1.0 <= interval.low < 3.2 < interval.high <= 6.0


def test_the_order_of_the_global_generator_does_not_matter() -> None:
    np.random.seed(0)  # noqa: NPY002
    first = mean_interval(FIVE, seed=3)
    np.random.seed(1)  # noqa: NPY002
    assert mean_interval(FIVE, seed=3) == first


def test_agreeing_seeds_have_the_floor_as_half_width() -> None:
    assert mean_interval([2.0] * 5, seed=0, floor=0.25) == Interval(2.0, 1.75, 2.25)


def test_a_single_value_has_the_floor_as_half_width() -> None:
    assert mean_interval([2.0], seed=0, floor=0.5) == Interval(2.0, 1.5, 2.5)


def test_the_floor_also_widens_an_interval_that_is_narrower() -> None:
    interval = mean_interval([1.0, 1.0, 1.0, 1.0, 1.1], seed=0, floor=1.0)
    assert (interval.low, interval.high) == pytest.approx((0.02, 2.02))


def test_five_seeds_cover_the_true_mean_about_as_often_as_promised() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        interval = mean_interval(list(generator.normal(size=5)), seed=0)
        hits += interval.low <= 0 <= interval.high
    assert hits >= 176


def test_no_values_are_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval([], seed=0)


def test_rounding_at_the_edge_of_the_target_is_forgiven() -> None:
    edge = Interval(1.255, 1.255, 1.255)
    assert edge.inside(1.254 - 0.001, 1.254 + 0.001)
    assert not edge.outside(1.254 - 0.001, 1.254 + 0.001)


def test_an_interval_across_the_edge_is_neither_inside_nor_outside() -> None:
    across = Interval(1.0, 0.5, 1.5)
    assert not across.inside(0.0, 1.0)
    assert not across.outside(0.0, 1.0)


def test_zero_is_not_above_zero() -> None:
    assert not Interval(0.0, 0.0, 0.0).above(0.0)
    assert Interval(0.0, 0.0, 0.0).not_above(0.0)
