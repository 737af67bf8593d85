"""Aims: counted by hand."""

import pytest

from lib.errors import WrongUse
from lib.kernels.aims import Aim, Trial


def test_reached_worst_and_forbidden_are_counted() -> None:
    aim = Aim("speed-up", 2, (Trial("a", 2.0, 5.0), Trial("b", 1.5, 1.9), Trial("c", 1.8, 2.5)))
    assert (aim.reached, aim.forbidden, aim.worst.name) == (1, 1, "b")
    text = "speed-up, at least 2: 1 of 3; least 1.50 (b, where the limits allow 1.90)"
    assert aim.describe() == f"{text}; beyond the machine's limits in 1"


def test_without_limits_nothing_is_forbidden() -> None:
    aim = Aim("speed-up", 2, (Trial("a", 1.0),))
    assert aim.forbidden == 0
    assert aim.describe() == "speed-up, at least 2: 0 of 1; least 1.00 (a)"


def test_an_aim_without_trials_is_refused() -> None:
    with pytest.raises(WrongUse, match="nothing was measured"):
        Aim("speed-up", 2, ())
