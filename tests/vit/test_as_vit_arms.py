"""AS-ViT's experiment: planting, meeting a budget, controls of equal cost, what is read off counts."""

import pytest
import torch
from torch import nn

from lib.errors import WrongUse
from lib.vit import as_vit, as_vit_arms
from lib.vit.as_vit_budget import Budget
from lib.vit.experiment import Bench, prepare
from tests.vit.parts import network, pictures


@pytest.fixture(scope="module")
def bench() -> Bench:
    return prepare("small_vit", "fashion_mnist", "", torch.device("cpu"), images=64, test_images=40)


@pytest.mark.parametrize("batch", [1, 6])
def test_planted_thresholds_keep_the_shares_asked_for(batch: int) -> None:
    backbone = network()
    images = pictures(batch, backbone)
    host = as_vit_arms.plant(as_vit.prune(backbone), images, (0.7, 0.4, 0.2))
    with torch.inference_mode():
        kept = [stage.keep.mean().item() for stage in host(images).stages]
    assert kept == pytest.approx([0.7, 0.4, 0.2], abs=1.5 / 49)


@pytest.mark.parametrize("t", [0.45, 0.8])
def test_moved_thresholds_meet_the_budget(bench: Bench, t: float) -> None:
    host = as_vit.prune(bench.copy())
    budget = Budget.of(host)
    before = [threshold.item() for threshold in as_vit.thresholds_of(host)]
    moved = as_vit_arms.meet(host, budget, t, bench.train)
    after = [threshold.item() for threshold in as_vit.thresholds_of(host)]
    assert [b - a for a, b in zip(before, after, strict=True)] == pytest.approx([moved] * 3, abs=1e-6)
    assert as_vit_arms.evaluate(host, budget, bench.train).mean_share == pytest.approx(t, abs=0.005)


def test_a_budget_below_the_lowest_is_refused_before_anything_runs(bench: Bench) -> None:
    host = as_vit.prune(bench.copy())
    with pytest.raises(WrongUse, match="lowest"):
        as_vit_arms.meet(host, Budget.of(host), 0.2, bench.train)


def test_matching_counts_are_neighbours_of_the_averages_at_the_nearest_cost() -> None:
    budget = Budget.of(as_vit.prune(network()))
    counts = as_vit_arms.matching_counts(budget, (30.4, 20.6, 0.3), 0.6)
    costs = {
        (a, b, 1): abs(float(budget.of_counts(torch.tensor([[float(a), b, 1]]))) / budget.dense - 0.6)
        for a in (30, 31)
        for b in (20, 21)
    }
    assert counts == min(costs, key=lambda triple: costs[triple])


def test_arms_cost_the_same_and_thresholds_are_learnt(bench: Bench) -> None:
    recipe = as_vit_arms.recipe(1, 16, 5e-4)
    arms = as_vit_arms.arms(bench, 0.6, recipe, 0, ["activations"])
    assert list(arms) == ["adaptive", "topk", "random", "activations"]
    for arm in arms.values():
        assert arm.test.mean_share == pytest.approx(0.6, abs=0.03)
        assert len(arm.losses) == 4
    assert arms["topk"].test.counts.std(0).tolist() == [0, 0, 0]
    assert arms["adaptive"].test.counts.std(0).min() > 0
    first, last = arms["adaptive"].thresholds[0], arms["adaptive"].thresholds[-1]
    assert all(a != b for a, b in zip(first, last, strict=True))
    assert isinstance(arms["activations"].host, as_vit.ActivationMaskedHost)


def test_unknown_ablation_is_refused(bench: Bench) -> None:
    with pytest.raises(WrongUse, match="no ablation is called sorted; known: unweighted"):
        as_vit_arms.arms(bench, 0.6, as_vit_arms.recipe(1, 16, 5e-4), 0, ["sorted"])


def test_hard_and_easy_thirds_by_hand() -> None:
    loss = torch.tensor([0.1, 5.0, 0.2, 4.0, 1.0, 1.0])
    assert as_vit_arms.hard_and_easy(torch.tensor([1.0, 10, 3, 20, 7, 7]), loss) == (15.0, 2.0)


def test_bimodality_tells_heaps_from_spikes() -> None:
    bell = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    assert as_vit_arms.bimodality(bell) == pytest.approx(1 / 3, abs=0.01)
    assert as_vit_arms.bimodality(torch.linspace(0, 1, 10001)) == pytest.approx(5 / 9, abs=0.001)
    assert as_vit_arms.bimodality(torch.tensor([0.0, 1.0] * 50)) == pytest.approx(1.0)
    assert as_vit_arms.bimodality(torch.ones(4)) == 1.0


def test_savings_count_what_the_images_kept() -> None:
    backbone = network()
    host = as_vit.prune(backbone, thresholds=(1.0, 1.0, 1.0)).eval()
    saved = as_vit_arms.saving(backbone, host, [pictures(2, backbone)], rounds=1, burst_s=0.0)
    assert saved.macs == pytest.approx(100 * (1 - Budget.of(host).lowest))
    assert saved.spread == 0  # of a single round


def test_saved_time_is_the_median_of_the_rounds_own_savings(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = network()
    host = as_vit.prune(backbone).eval()
    # a machine that slows down by half from round to round, and a pruned network hit by other load in one
    dense_s, host_s = [1.0, 1.5, 2.25, 3.375], [0.6, 1.05, 1.8, 33.75]
    bursts = {id(backbone): iter([1.0, *dense_s]), id(host): iter(host_s)}
    monkeypatch.setattr(as_vit_arms, "_burst", lambda model, *_: next(bursts[id(model)]))
    saved = as_vit_arms.saving(backbone, host, [pictures(1, backbone)], rounds=4)
    # 40, 30, 20 and -900 %: the median is halfway between 30 and 20
    assert saved.time == pytest.approx(25.0)
    assert saved.spread == pytest.approx((30 + 10 / 4) - (20 - 920 / 4))


def test_losses_are_those_of_each_image(bench: Bench) -> None:
    images, labels = next(bench.test.batches(40))
    with torch.inference_mode():
        expected = nn.functional.cross_entropy(bench.dense(images), labels).item()
    assert as_vit_arms.losses(bench.dense, bench.test).mean().item() == pytest.approx(expected, abs=1e-5)
