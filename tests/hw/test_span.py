"""Numbers with ranges: which ends meet in sums, products and quotients."""

from hw_models.span import Span

WIDE = Span(4, 2, 8)


def test_an_exact_number_has_no_range() -> None:
    assert Span.exact(3) == Span(3, 3, 3)


def test_sums_combine_equal_ends() -> None:
    assert WIDE + Span(10, 5, 20) == Span(14, 7, 28)


def test_sum_of_many_and_of_none() -> None:
    assert Span.sum([WIDE, WIDE, Span.exact(1)]) == Span(9, 5, 17)
    assert Span.sum([]) == Span.exact(0)


def test_sum_takes_a_generator() -> None:
    assert Span.sum(Span.exact(value) for value in (1, 2)) == Span.exact(3)


def test_products_combine_equal_ends() -> None:
    assert WIDE * Span(3, 1, 5) == Span(12, 2, 40)
    assert WIDE * Span.exact(2) == WIDE * 2 == Span(8, 4, 16)


def test_quotients_combine_opposite_ends() -> None:
    assert Span(12, 8, 16) / WIDE == Span(3, 1, 8)
    assert WIDE / Span.exact(2) == WIDE / 2 == Span(2, 1, 4)


def test_nothing_in_no_time_has_the_rate_nothing() -> None:
    assert Span.exact(0).over(Span.exact(0)) == Span.exact(0)


def test_a_rate_is_the_quotient_where_time_passes() -> None:
    assert Span(12, 8, 16).over(WIDE) == Span(12, 8, 16) / WIDE


def test_text_shows_a_range_only_where_there_is_one() -> None:
    assert str(WIDE) == "4 (2 to 8)"
    assert str(Span.exact(0.12345)) == "0.123"
