"""What is derived of AS-ViT without training: identities, slopes, and the arithmetic of its table."""

import pytest
import torch

from lib.vit import as_vit_checks as checks
from tests.vit.parts import network


def test_table_says_what_its_figures_say_of_each_other() -> None:
    facts = checks.table_arithmetic()
    assert facts["throughput_gain_deit_s_65"] == pytest.approx(54.8, abs=0.05)
    assert facts["throughput_gain_lv_vit_s_60"] == pytest.approx(79.16, abs=0.005)  # printed as 80
    assert facts["arithmetic_lv_vit_m_67"] == pytest.approx(6.81, abs=0.005)
    assert facts["arithmetic_excess_lv_vit_m"] == pytest.approx(801 * 8.5 / (317 * 12.7))


def test_score_identities_hold() -> None:
    facts = checks.score_identities(torch.Generator().manual_seed(3))
    assert facts["outside_heads"] == 0
    assert facts["mean_gap"] < 1e-7
    assert facts["permutation_gap"] == 0


def test_slopes_by_hand_and_their_reach() -> None:
    slope = checks.threshold_slopes(torch.tensor([0.0, 1.0e-4]))
    sigmoid = torch.sigmoid(torch.tensor(1.0)).item()
    assert slope.tolist() == pytest.approx([-2500.0, -1e4 * sigmoid * (1 - sigmoid)], rel=1e-3)
    facts = checks.slope_facts()
    assert facts["largest_inside"] < -1
    assert facts["at_1000_millionths"] < 1e-3


def test_slope_vanishes_sooner_above_the_threshold_than_below() -> None:
    above, below = checks.threshold_slopes(torch.tensor([1.8e-3, -1.8e-3])).tolist()
    assert above == 0
    assert -1e-3 < below < 0


def test_floors_are_reached_at_share_zero() -> None:
    budget = checks.budgets(["deit_s"])["deit_s"]
    low, high = checks.costs_at(budget, (0.0, 1.0))
    assert low == pytest.approx(budget.lowest)
    assert high == pytest.approx(4.5985 / 4.5736, abs=1e-3)
    assert checks.lowest_traced("deit_s") == pytest.approx(0.345, abs=5e-4)


def test_rivals_of_the_table_are_counted() -> None:
    rivals = checks.rivals_gmacs()
    # 2.878 without predictors, which cost 47.0 x (1 + 137/196 + 96/196) MMACs
    assert rivals["dynamicvit_70"] == pytest.approx(2.981, abs=5e-4)
    assert rivals["evit_50"] == pytest.approx(2.31, abs=0.01)


@pytest.mark.parametrize("name", ["small", "lv"])
def test_evit_adds_no_parameters(name: str) -> None:
    backbone = network(name)
    expected = sum(parameter.numel() for parameter in backbone.parameters())
    assert checks.evit_parameters(backbone) == expected
