"""Errors of predictions, and fits that leave out what they predict."""

from collections.abc import Sequence

import pytest

from hw_models.comparison import Comparison, Role, leave_group_out, median_error, worst_error


def point(predicted: float, published: float = 10) -> Comparison:
    return Comparison("toy", predicted, published, "ms", "predicted", "seen")


def same(item: float) -> float:
    return item


def mean(others: Sequence[float]) -> float:
    return sum(others) / len(others)


def compared(item: float, fitted: float, role: Role) -> Comparison:
    return Comparison(str(item), fitted, item, "ms", role, "seen")


@pytest.mark.parametrize(("predicted", "error"), [(11, 0.1), (9, -0.1), (10, 0)])
def test_error_is_relative_and_signed(predicted: float, error: float) -> None:
    assert point(predicted).error == pytest.approx(error)


def test_median_and_worst_are_of_absolute_errors() -> None:
    points = [point(11), point(4), point(13)]
    assert median_error(points) == pytest.approx(0.3)
    assert worst_error(points) == pytest.approx(0.6)


def test_each_item_is_predicted_from_all_others() -> None:
    found = leave_group_out([1.0, 2.0, 6.0], same, mean, compared)
    assert [each.predicted for each in found] == [4.0, 3.5, 1.5]
    assert [each.published for each in found] == [1.0, 2.0, 6.0]
    assert {each.role for each in found} == {"left out"}


def test_a_whole_group_is_left_out_together() -> None:
    found = leave_group_out([1.0, 2.0, 6.0, 9.0], lambda item: item < 5, mean, compared)
    assert [each.predicted for each in found] == [7.5, 7.5, 1.5, 1.5]


def test_no_fit_ever_sees_what_it_predicts() -> None:
    seen: list[Sequence[float]] = []

    def fit(others: Sequence[float]) -> Sequence[float]:
        seen.append(others)
        return others

    def compare(item: float, others: Sequence[float], role: Role) -> Comparison:
        assert item not in others
        return compared(item, 0, role)

    items = [3.0, 1.0, 2.0, 5.0]
    assert len(leave_group_out(items, same, fit, compare)) == 4
    assert all(len(others) == 3 for others in seen)


def test_equal_items_are_left_out_one_at_a_time_by_identity() -> None:
    items = [[1.0], [1.0], [4.0]]
    found = leave_group_out(
        items,
        id,
        lambda others: mean([value for (value,) in others]),
        lambda item, fitted, role: compared(item[0], fitted, role),
    )
    assert [each.predicted for each in found] == [2.5, 2.5, 1.0]
