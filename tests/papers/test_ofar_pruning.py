"""OFARPruning: the experiment in small, budgets, deployment, and the card's checks."""

import pytest
import torch
from torch import nn

from lib.cnn import ofar_checks as checks
from lib.cnn.networks import build, example
from lib.cnn.ofar_experiment import (
    Family,
    Point,
    Searches,
    Settings,
    accuracy,
    deployment_check,
    families,
    relative_times,
    search,
    ticket_masks,
    tickets,
    train_family,
)
from lib.cnn.subnetwork import SubNetworks
from lib.errors import ReproError
from lib.lab.datasets import load
from tests.cnn.parts import network, sites_of
from tests.cnn.test_experiment import bench

SETTINGS = Settings((0.3, 0.6), (28, 20), search_epochs=3, joint_epochs=1, comparisons=1, batches=1)


@pytest.fixture(scope="module")
def found() -> Searches:
    return search(bench(74), SETTINGS, 0)


@pytest.fixture(scope="module")
def trained(found: Searches) -> dict[str, Family]:
    return families(bench(74), found.structures(SETTINGS), SETTINGS, 0)


def test_every_rate_and_side_is_searched(found: Searches) -> None:
    assert set(found.by_point) == {(0.3, 28), (0.6, 28), (0.3, 20), (0.6, 20)}
    assert all(len(watch.history) == 3 for watch in found.by_point.values())
    assert 2 <= found.stopped() <= 3
    assert 0 < found.similarity(0) <= 1
    structures = found.structures(SETTINGS)
    assert structures[0.0, 28] == {}
    assert all(len(index) >= 4 for index in structures[0.6, 20].values())


def test_first_masks_of_all_sides_start_from_the_same_weights() -> None:
    first, again = (search(bench(74), SETTINGS, 0) for _ in range(2))
    for point, watch in first.by_point.items():
        assert watch.similarities == again.by_point[point].similarities


def test_search_that_is_too_short_is_refused() -> None:
    with pytest.raises(ReproError, match="1 epochs leave nothing to compare"):
        search(bench(), Settings((0.5,), (28,), search_epochs=1, joint_epochs=1, comparisons=1), 0)


def test_families_have_their_sides_and_costs(trained: dict[str, Family]) -> None:
    assert {name: len(family.points) for name, family in trained.items()} == {
        "ofar": 6,
        "rates": 3,
        "mutualnet": 6,
        "us_net": 3,
    }
    learned = {(p.rate, p.side): p.macs for p in trained["ofar"].points}
    assert all(p.macs <= learned[p.rate, p.side] for p in trained["mutualnet"].points)
    assert {(p.rate, p.side): p.macs for p in trained["rates"].points}.items() <= learned.items()


def test_removed_sub_networks_agree_with_cut_ones(trained: dict[str, Family]) -> None:
    made = bench(74)
    gaps = deployment_check(trained["ofar"], made, made.batches(1, torch.Generator().manual_seed(0)))
    assert gaps["deployed_gap"] < 1e-4
    assert gaps["deployed_macs_off"] == 0


def test_time_is_measured_for_every_point(trained: dict[str, Family]) -> None:
    made, family = bench(74), trained["us_net"]
    batches = made.batches(1, torch.Generator().manual_seed(0))
    times = relative_times(family, family.points, made, batches, batch=2)
    assert len(times) == 3
    assert min(times) > 0


def test_tickets_have_equal_widths_where_chance_decides(found: Searches) -> None:
    masks = ticket_masks(found, SETTINGS, 0.6, 0)
    assert set(masks) == {"half_way", "end", "chance"}
    sizes = [{name: int(mask.sum()) for name, mask in masks[key].items()} for key in ("half_way", "chance")]
    assert sizes[0] == sizes[1]
    scores = tickets(bench(74), {"chance": masks["chance"]}, SETTINGS, 0)
    assert 0 <= scores["chance"] <= 100


def test_joint_training_of_the_whole_network_alone_trains_it() -> None:
    made = bench(74)
    family = train_family("test", made, {(0.0, 28): {}}, (28,), SETTINGS, 0)
    assert [(p.rate, p.side) for p in family.points] == [(0.0, 28)]
    fresh = made.build()
    trained_weight = family.subs.model.get_parameter("classifier.weight")
    assert not torch.equal(trained_weight, fresh.get_parameter("classifier.weight"))


def points() -> tuple[Point, ...]:
    return (
        Point(0.0, 28, 100, 90.0, 88.0, 0.0),
        Point(0.5, 28, 50, 80.0, 85.0, 0.0),
        Point(0.3, 20, 40, 80.0, 70.0, 0.0),
    )


def test_budget_buys_the_best_on_held_out_images_and_the_cheaper_of_equals() -> None:
    family = Family(SubNetworks(nn.Identity(), ()), {}, points())
    assert family.at(1000).macs == 100
    assert family.at(60).macs == 40
    with pytest.raises(ReproError, match="is impossible: the cheapest trained network costs"):
        family.at(39)


def test_logits_that_are_not_finite_are_refused() -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("classifier.bias")[0] = float("nan")
    subs = SubNetworks(model, sites_of(model))
    with pytest.raises(ReproError, match="logits at 20 pixels are not finite"):
        accuracy(subs, {}, 20, load("fashion_mnist", "test", limit=10), None)


def test_mutualnets_fifteen_points() -> None:
    macs = checks.macs_of_widths()
    for key, printed in checks.MUTUALNET.items():
        assert abs(macs[key] / 1e6 - printed) < 1
    assert checks.resolution_law_off(macs) < 1e-12
    assert macs[1.0, 192] / 1e6 == pytest.approx((300.774272 - 1.28) * (192 / 224) ** 2 + 1.28)


def test_resolution_law_would_notice_a_miss() -> None:
    assert checks.resolution_law_off({(1.0, 224): 2_280_000, (1.0, 112): 1_530_000}) == 0
    assert checks.resolution_law_off({(1.0, 224): 2_280_000, (1.0, 112): 1_600_000}) > 0.04


def test_the_two_accuracy_statements_do_not_fit() -> None:
    gains = checks.gains()
    assert gains["mutualnet_164"] == pytest.approx(2.2)
    assert gains["us_net_165"] == pytest.approx(4.0)
    assert gains["unnamed"] == pytest.approx(2.1)


def test_similarity_checks() -> None:
    found = checks.similarity_checks(torch.Generator().manual_seed(0), channels=2000)
    assert found["similarity_identity_gap"] < 1e-12
    assert found["chance_similarity_30"] == pytest.approx(0.7, abs=0.05)
    assert found["early_bird_count"] == 999


def test_mask_checks() -> None:
    model = build("mobilenet_small")
    found = checks.mask_checks(model, example("mobilenet_small"), torch.Generator().manual_seed(0))
    assert found["nesting_violations"] == found["rate_zero_gap"] == found["teacher_gradient"] == 0
    assert found["student_gradient"] > 0
    assert found["masked_channels"] == int(0.8 * 832)
