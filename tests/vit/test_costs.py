"""Multiply-accumulates of pruned networks against figures derived by hand."""

import pytest

from hw_models import trace
from lib.lab.backbones import build
from lib.vit import spvit
from lib.vit.costs import Cost, cost
from tests.vit.parts import network, pictures

# The closed form 4ND^2 + 2N^2D + 2rND^2 summed over blocks, one package token per passed selector, selectors
# not counted; rounded as printed. They change only if the keep ratios or the networks do.
SHEET = [
    ("deit_t", 1.254, 0.785, 0.661, 0.0005),
    ("deit_s", 4.599, 2.912, 2.448, 0.0005),
    ("deit_b", 17.564, 11.20, 9.40, 0.005),
]


@pytest.mark.parametrize(("name", "dense", "gentle", "released", "rounding"), SHEET)
def test_costs_are_those_of_the_sheet(
    name: str, dense: float, gentle: float, released: float, rounding: float
) -> None:
    backbone = build(name)
    first, second = cost(backbone, (0.7, 0.49, 0.343)), cost(backbone, (0.617, 0.369, 0.137))
    assert first.dense == second.dense
    assert first.dense / 1e9 == pytest.approx(dense, abs=0.0005)
    assert first.backbone / 1e9 == pytest.approx(gentle, abs=rounding)
    assert second.backbone / 1e9 == pytest.approx(released, abs=rounding)
    assert 0 < first.selector_share < 1


def test_ratios_of_one_cost_the_dense_network() -> None:
    full = cost(network(), (1.0, 1.0, 1.0), 28)
    assert full.backbone == full.dense
    assert full.selectors == 0


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_cost_rises_with_every_keep_ratio(stage: int) -> None:
    lowest, steps = (0.6, 0.4, 0.2), (0.0, 0.05, 0.1, 0.15)
    totals = []
    for step in steps:
        targets = tuple(ratio + step * (index == stage) for index, ratio in enumerate(lowest))
        totals.append(cost(network(), targets, 28).backbone)
    assert totals == sorted(set(totals))


def test_hard_pruning_with_more_patches_costs_what_soft_pruning_does() -> None:
    targets = (0.7, 0.49, 0.343)
    image = pictures(1, network())
    soft = spvit.prune(network(), targets, counts=spvit.kept_patches(targets, 49)).eval()
    counts = spvit.kept_patches(targets, 49, instead_of_packages=True)
    random = spvit.prune_randomly(network(), counts).eval()
    macs = sum(layer.macs for layer in trace(soft, image).layers if not layer.name.startswith("stages"))
    assert macs == trace(random, image).macs


def test_selector_share_is_a_percentage_of_the_dense_network() -> None:
    assert Cost(dense=200, backbone=100, selectors=3).selector_share == 1.5
