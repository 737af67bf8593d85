"""Who decides, and by which rule."""

import pytest
import torch

from lib.vit.selectors import Candidates, Count, RandomSelector, Threshold, calibrated, gumbel_keep


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_threshold_keeps_scores_at_or_above_it() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.9], [0.6, 0.7, 0.8]])
    alive = torch.tensor([[1.0, 1, 1], [1, 0, 1]])
    assert Threshold(0.5)(scores, alive).tolist() == [[0, 1, 1], [1, 0, 1]]


def test_count_keeps_the_best_of_those_alive() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.9, 0.3], [0.6, 0.7, 0.8, 0.9]])
    alive = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0]])
    assert Count(2)(scores, alive).tolist() == [[0, 1, 1, 0], [0, 1, 1, 0]]


def test_count_keeps_all_that_are_left_if_fewer() -> None:
    scores, alive = torch.rand(2, 4), torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])
    assert torch.equal(Count(3)(scores, alive), alive)
    assert Count(9)(scores, torch.ones(2, 4)).sum() == 8


def test_calibrated_thresholds_keep_the_targets_over_the_batch_while_images_differ() -> None:
    scores = torch.tensor([[0.8, 0.7, 0.6, 0.2], [0.5, 0.3, 0.1, 0.05]])
    keep = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0]])
    later = torch.tensor([[0.1, 0.2, 0.9, 0.99], [0.8, 0.99, 0.99, 0.99]])
    first, second = calibrated([scores, later], [keep, keep], (0.5, 0.25))
    kept = first(scores, torch.ones(2, 4))
    assert torch.equal(kept, keep)
    # of the four patches left, two are wanted: 0.25 of all eight
    assert second(later, kept).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


def test_random_selector_draws_by_patch_from_the_generator_it_is_given() -> None:
    image, position = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 1, -1])
    values, weight = torch.zeros(4, 8), torch.ones(4)
    scores = RandomSelector()(Candidates(values, weight, image, position, 2, 3, seeded()))
    noise = torch.rand(2, 3, generator=seeded())
    assert torch.equal(scores, noise[[0, 0, 1, 1], [0, 2, 1, 0]])


def test_sampled_decisions_are_exactly_zero_or_one() -> None:
    decisions = gumbel_keep(torch.rand(100, 200, generator=seeded()), torch.ones(100, 200), seeded(1))
    assert set(decisions.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
def test_sampled_decisions_have_the_probability_asked_for(probability: float) -> None:
    scores = torch.full((100, 400), probability)
    assert gumbel_keep(scores, torch.ones_like(scores), seeded()).mean().item() == pytest.approx(
        probability, abs=0.01
    )


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_certain_scores_are_sampled_without_nan(probability: float) -> None:
    scores = torch.full((10, 100), probability, requires_grad=True)
    decisions = gumbel_keep(scores, torch.ones(10, 100), seeded())
    decisions.sum().backward()
    assert decisions.mean().item() == pytest.approx(probability, abs=1e-3)
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_sampling_never_brings_a_dropped_patch_back() -> None:
    alive = torch.tensor([[1.0, 0.0]]).repeat(50, 10)
    decisions = gumbel_keep(torch.full((50, 20), 0.9), alive, seeded())
    assert (decisions <= alive).all()


def test_a_higher_score_makes_keeping_likelier_and_the_dropped_feel_nothing() -> None:
    scores = torch.full((4, 6), 0.5, requires_grad=True)
    alive = torch.ones(4, 6)
    alive[:, 0] = 0
    gumbel_keep(scores, alive, seeded()).sum().backward()
    assert scores.grad is not None
    assert (scores.grad[:, 1:] > 0).all()
    assert (scores.grad[:, 0] == 0).all()


def test_equal_generators_sample_equal_decisions() -> None:
    scores, alive = torch.rand(3, 9, generator=seeded()), torch.ones(3, 9)
    assert torch.equal(gumbel_keep(scores, alive, seeded(5)), gumbel_keep(scores, alive, seeded(5)))
    assert not torch.equal(gumbel_keep(scores, alive, seeded(5)), gumbel_keep(scores, alive, seeded(6)))
