"""AdaPruner: budgets, the choice of a criterion, the experiment in small, and the card's checks."""

import pytest
import torch
from torch import nn

from hw_models import trace
from lib.cnn import adapruner, adapruner_checks
from lib.cnn.adapruner import Candidate, Prunable, choose_criterion, prunable, prune, widths
from lib.cnn.adapruner_experiment import (
    Settings,
    Trial,
    arms_at,
    chosen_at,
    correlation,
    relative_latencies,
    sparse_parent,
)
from lib.cnn.inheritance import inherit
from lib.errors import ReproError
from lib.lab.datasets import load
from tests.cnn.parts import SMALL, blank, network, pictures
from tests.cnn.test_experiment import bench


def parent(name: str = "resnet_small") -> Prunable:
    return prunable(network(name), blank(name))


@pytest.mark.parametrize("name", SMALL)
def test_whole_budget_is_the_identity(name: str) -> None:
    made = parent(name)
    found = widths(made, 1.0)
    kept = inherit(made.model, made.inner, found.kept, "l1", torch.Generator())
    with torch.no_grad():
        assert torch.equal(prune(made, kept, [])(pictures()), made.model(pictures()))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("uniform", [False, True])
def test_pruned_network_costs_no_more_than_its_budget(name: str, uniform: bool) -> None:
    made = parent(name)
    found = widths(made, 0.5, multiple=4, uniform=uniform)
    kept = inherit(made.model, made.inner, found.kept, "scale", torch.Generator())
    macs = trace(prune(made, kept, [pictures(8)]), blank(name)).macs
    assert macs == found.macs <= 0.5 * trace(made.model, blank(name)).macs


def test_block_outputs_stay_whole() -> None:
    made = parent()
    smaller = prune(made, {site.name: torch.tensor([0]) for site in made.inner}, [])
    conv = smaller.get_submodule("blocks.2.layers.1.0")
    assert isinstance(conv, nn.Conv2d)
    assert (conv.in_channels, conv.out_channels) == (1, 64)


def test_impossible_budget_is_refused() -> None:
    with pytest.raises(ReproError, match="is impossible"):
        widths(parent(), 0.01)


def test_choice_is_the_most_accurate_and_the_first_among_equals() -> None:
    found = [Candidate(name, {}, value, 1 - value) for name, value in (("a", 0.1), ("b", 0.7), ("c", 0.7))]
    assert choose_criterion(found).criterion == "b"


def test_candidates_leave_the_parent_alone_and_can_be_repeated() -> None:
    made = parent()
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    kept = widths(made, 0.5, multiple=4).kept
    held_out = load("fashion_mnist", "test", limit=30)
    first, again = (
        adapruner.candidates(made, kept, [pictures(16)], held_out, torch.Generator().manual_seed(0))
        for _ in range(2)
    )
    assert [c.criterion for c in first] == list(adapruner.CRITERIA)
    assert [(c.accuracy, c.before) for c in first] == [(c.accuracy, c.before) for c in again]
    assert all(torch.equal(before[name], value) for name, value in made.model.state_dict().items())


def test_candidate_scores_what_its_smaller_network_scores() -> None:
    made = parent("mobilenet_small")
    kept = widths(made, 0.5, multiple=4).kept
    batches, held_out = [pictures(16), pictures(7)], load("fashion_mnist", "test", limit=50)
    tried = adapruner.candidates(
        made, kept, batches, held_out, torch.Generator().manual_seed(0), criteria=["scale"]
    )[0]
    smaller = prune(made, tried.kept, batches)
    images, labels = next(held_out.batches(50))
    with torch.no_grad():
        agreed = (smaller(images).argmax(-1) == labels).double().mean().item()
    assert tried.accuracy == pytest.approx(agreed)


def test_logits_that_are_not_finite_are_refused() -> None:
    made = parent()
    with torch.no_grad():
        made.model.get_parameter("classifier.bias")[0] = float("nan")
    with pytest.raises(ReproError, match="logits are not finite"):
        adapruner.candidates(
            made,
            widths(made, 0.5, multiple=4).kept,
            [pictures(8)],
            load("fashion_mnist", "test", limit=10),
            torch.Generator(),
        )


@pytest.fixture(scope="module")
def trial() -> Trial:
    return sparse_parent(bench(140), Settings(1, 1, batches=1), 0)


def test_every_arm_is_trained_at_one_budget(trial: Trial) -> None:
    arms, found = arms_at(trial, 0.5)
    assert set(arms) == {*adapruner.CRITERIA, "chosen", "uniform", "scratch"}
    assert arms["chosen"] is arms[choose_criterion(found).criterion]
    assert all(arm.macs <= 0.5 * trial.parent.count.macs({}) for arm in arms.values())
    assert arms["scratch"].macs == arms["chosen"].macs
    assert arms["scratch"].start < 60


def test_fresh_weights_are_fresh_and_fine_tuning_copies(trial: Trial) -> None:
    model = trial.inherit({})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trial.tune(model, "test")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    fresh = trial.scratch(model)
    assert not torch.allclose(fresh.get_parameter("classifier.weight"), before["classifier.weight"])
    assert fresh.get_parameter("stem.0.1.weight").eq(1).all()


def test_one_parent_serves_another_budget(trial: Trial) -> None:
    assert chosen_at(trial, 0.3).macs <= 0.3 * trial.parent.count.macs({})


def test_relative_latency_has_every_contender() -> None:
    model = network()
    times = relative_latencies(model, {"same": model}, blank("resnet_small"), 2, burst_s=0.001)
    assert set(times) == {"same"}
    assert times["same"] > 0


def test_correlation_by_hand() -> None:
    assert correlation([1, 2, 3], [10, 30, 20]) == pytest.approx(0.5)
    assert correlation([1, 1, 1], [1, 2, 3]) == 0


def test_abstract_budget_by_hand() -> None:
    found = adapruner_checks.abstract_budget(adapruner_checks.counted("mobilenet_v2"))
    assert found["budget_mmacs"] == pytest.approx(0.672 * 300.774272)
    assert found["bisected_params"] == 2_826_808
    assert found["bisected_mmacs"] == pytest.approx(202.03, abs=0.005)


def test_checks_find_nothing_and_would_find_something() -> None:
    made = adapruner_checks.counted("mobilenet_small")
    stairs = adapruner_checks.staircase(made, 100)
    assert stairs["largest_fall"] <= 0
    assert stairs["ends_off"] == 0
    assert stairs["overspent"] <= 0
    found = adapruner_checks.identities(made, pictures(2), 0.5)
    assert found["keep_all_gap"] == 0
    assert found["masked_gap"] < 1e-4
    assert found["removed_macs_off"] == 0
    moved = adapruner_checks.invariances(made, torch.Generator().manual_seed(0))
    assert moved["permutation_moves"] < 1e-6
    assert moved["widths_moved_by_scaling"] == 0


def test_covered_networks_are_physically_smaller() -> None:
    shares = adapruner_checks.covered(("vgg_small", "resnet20"), 0.6)
    assert all(0.4 < share <= 0.6 for share in shares.values())
