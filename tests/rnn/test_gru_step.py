"""Models of one time step: more pruning is never slower, and work that does not fit is refused."""

import pytest
import torch

from lib.errors import WrongUse
from lib.rnn import gru_step
from lib.rnn.grim import BlockColumnRow


def test_a_step_is_four_products_of_all_weights() -> None:
    work = gru_step.step(16)
    assert len(work.layers) == 4
    assert work.macs == work.params == 9_556_992


def test_rate_one_is_the_dense_step() -> None:
    assert gru_step.pruned_step(1) is gru_step.step(16)
    assert gru_step.pruned_step(10).macs == pytest.approx(955_699, rel=1e-3)


def test_pruning_is_never_slower_on_the_phone_and_ends_at_the_launches() -> None:
    for found in gru_step.on_phone((1, 4, 40, 400)).values():
        times = [each.latency_ms for each in found.values()]
        assert times == sorted(times, reverse=True)
        shares = [gru_step.launch_share(each) for each in found.values()]
        assert shares == sorted(shares)
        assert 0 < shares[0] < shares[-1] <= 100


def test_quicker_launches_take_a_smaller_share() -> None:
    usual = gru_step.launch_share(gru_step.on_phone((301,))["gpu"][301])
    least = gru_step.least_launch_share(301)
    assert 0 < least < usual
    # a third of the launch time beside an equal rest
    rest = (100 - usual) / usual
    assert least == pytest.approx(100 / (1 + 3 * rest), rel=1e-6)


def test_board_time_by_hand() -> None:
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[:8, :4] = True
    # one group has one pass of 8 x 4, the others nothing: one cycle of 5 ns
    assert gru_step.on_board_us({"w": mask}, (32, 32)) == pytest.approx(0.005)


def test_board_time_falls_with_the_rate() -> None:
    weight = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    times = [
        gru_step.on_board_us({"w": BlockColumnRow(32, 32).mask(weight, rate)}, (32, 32))
        for rate in (2, 4, 8, 16)
    ]
    assert times == sorted(times, reverse=True)


def test_weights_that_do_not_fit_the_chip_are_refused() -> None:
    with pytest.raises(WrongUse, match="Mbit"):
        gru_step.on_board_us({"w": torch.ones(2048, 1200, dtype=torch.bool)}, (64, 64))


def test_another_pattern_is_refused_by_name() -> None:
    with pytest.raises(WrongUse, match="w_hh"):
        gru_step.on_board_us({"w_hh": torch.eye(8, dtype=torch.bool)}, (8, 8))
