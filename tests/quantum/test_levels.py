"""Compression levels of a table, and the lengths that were published."""

import math

import pytest

from lib.errors import WrongUse
from lib.quantum.levels import PERIOD, TABLE_ANGLES, Length, LevelTable, published_depths
from tests.quantum.parts import table

PI = math.pi


def test_levels_are_exact_multiples_of_half_pi() -> None:
    for step, angle in enumerate(TABLE_ANGLES):
        assert abs(angle - step * PI / 2) < 1e-12
    assert TABLE_ANGLES[-1] == PERIOD


def test_levels_by_kind() -> None:
    toy = table("rx")
    assert toy.levels("pruning") == (0, 4 * PI)
    assert toy.levels("quantisation") == (PI,)
    assert toy.levels() == (0, PI, 4 * PI)


def test_what_is_shorter_depends_on_the_measure() -> None:
    lengths = (Length(7, 3, 1),) * len(TABLE_ANGLES)
    toy = LevelTable("crz", lengths, Length(4, 2, 2))
    assert toy.levels(metric="depth") == ()
    assert toy.levels(metric="cx") == TABLE_ANGLES


@pytest.mark.parametrize("angle", [3.14, 0.1, -PI, 4.5 * PI, math.nan, math.inf])
def test_angles_outside_the_table(angle: float) -> None:
    with pytest.raises(WrongUse, match=r"is not in the table of rx"):
        table("rx").at(angle)


def test_rounding_of_doubles_is_not_outside() -> None:
    assert table("rx").at(PI + 1e-15).depth == 1


def test_wrong_questions() -> None:
    with pytest.raises(WrongUse, match="unknown measure 'width'"):
        Length(1, 1, 0).by("width")  # type: ignore[arg-type]
    with pytest.raises(WrongUse, match="unknown kind"):
        table("rx").levels("short")  # type: ignore[arg-type]
    with pytest.raises(WrongUse, match="no circuit"):
        Length(1, 2, 0)
    with pytest.raises(WrongUse, match="has 9 angles, not 1"):
        LevelTable("rx", (Length(0, 0, 0),), Length(1, 1, 0))
    with pytest.raises(WrongUse, match="no depths are published"):
        published_depths("cz")


@pytest.mark.parametrize("gate", ["rx", "ry", "rz", "crx", "cry", "crz"])
def test_published_tables_have_an_entry_for_every_angle_and_vanish_at_the_period(gate: str) -> None:
    depths = published_depths(gate)
    assert len(depths) == len(TABLE_ANGLES) + 1
    assert depths[0] == depths[8] == 0
    assert max(depths) == depths[-1]
