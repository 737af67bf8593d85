"""The example level: forgetting counts, the two subsets, and what an exchange moves."""

import pytest
import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.vit.example_level import ExampleSets, Forgetting, exchange_epochs
from lib.vit.tri_level_experiment import broken_invariants


def watched(*answers: tuple[int, ...], most: int = 30) -> Tensor:
    """Forgetting counts of examples with these answers, one tuple an example."""
    forgetting, places = Forgetting(len(answers), most=most), torch.arange(len(answers))
    for presentation in zip(*answers, strict=True):
        forgetting.record(places, torch.tensor(presentation))
    return forgetting.counts(places)


def sets_of(examples: int = 20, **options: object) -> ExampleSets:
    generator = torch.Generator().manual_seed(0)
    return ExampleSets(examples, epochs=10, generator=generator, **options)  # type: ignore[arg-type]


def test_forgetting_counts_by_hand() -> None:
    counts = watched((0, 1, 0, 1, 1, 0), (0,) * 6, (1,) * 6, (0, 0, 0, 0, 0, 1), (1, 0, 0, 0, 0, 0))
    assert counts.tolist() == [2, 30, 0, 0, 1]


def test_only_the_first_presentations_count() -> None:
    assert watched((1, 0, 1, 0, 1, 0), most=4).tolist() == [2]
    assert watched((0, 0, 0, 0, 1, 1), most=4).tolist() == [4]


def test_reset_forgets_the_last_answer_too() -> None:
    forgetting, place = Forgetting(1), torch.tensor([0])
    forgetting.record(place, torch.tensor([True]))
    forgetting.reset()
    forgetting.record(place, torch.tensor([False]))
    forgetting.record(place, torch.tensor([True]))
    assert forgetting.counts(place).tolist() == [0]


def test_examples_are_watched_each_at_its_own_pace() -> None:
    forgetting = Forgetting(4)
    for places, right in (([2, 0], [1, 1]), ([2], [0]), ([0, 3], [1, 0])):
        forgetting.record(torch.tensor(places), torch.tensor(right))
    assert forgetting.counts(torch.arange(4)).tolist() == [0, 30, 1, 30]
    assert forgetting.presentations.tolist() == [2, 0, 2, 1]


def test_an_example_twice_in_a_batch_is_refused() -> None:
    # repeated augmentation presents an image several times: each time has an answer of its own
    with pytest.raises(WrongUse, match="twice in one batch"):
        Forgetting(3).record(torch.tensor([1, 1]), torch.tensor([True, False]))


def test_spread_is_the_mean_over_presentations() -> None:
    forgetting, places = Forgetting(2), torch.tensor([1])
    for spread in (1.0, 2.0, 6.0):
        forgetting.record(places, torch.tensor([True]), torch.tensor([spread]))
    assert forgetting.spread(torch.arange(2)).tolist() == [0.0, 3.0]


def test_exchanges_of_the_paper() -> None:
    assert exchange_epochs(300) == (30, 60, 90, 120, 150)
    assert exchange_epochs(16) == (2, 4, 5, 7, 8)
    # several in one epoch become one, and none comes before an epoch has been watched
    assert exchange_epochs(4) == (1, 2)
    assert exchange_epochs(1) == (1,)


def test_sizes_on_imagenet() -> None:
    sets = sets_of(1_281_167)
    assert (len(sets.held_out), sets.size, len(sets.training)) == (256_233, 64_058, 1_024_934)


@pytest.mark.parametrize("by", ["forgetting", "variance", "random"])
@pytest.mark.parametrize("examples", [20, 101, 257])
def test_no_exchange_breaks_a_promise(by: str, examples: int) -> None:
    assert broken_invariants(sets_of(examples, by=by), torch.Generator().manual_seed(1)) == 0


def test_a_broken_promise_is_noticed() -> None:
    sets = sets_of(40)

    def all_of_them() -> None:
        sets.training, sets.held_out = sets.held_out, sets.training

    sets.exchange = all_of_them  # type: ignore[assignment, method-assign]
    assert broken_invariants(sets, torch.Generator().manual_seed(1)) > 0


def test_the_least_forgotten_leave_and_restored_ones_come_from_the_held_out() -> None:
    sets = sets_of(100, removed=0.2, exchanged=0.1)
    training, held_out = sets.training.clone(), sets.held_out.clone()
    unforgettable = set(training[:10].tolist())
    # these ten are always right, all others are never learnt
    sets.record(training, torch.tensor([place in unforgettable for place in training.tolist()]))
    removed, restored = sets.exchange()
    assert set(removed.tolist()) == unforgettable
    assert set(restored.tolist()) <= set(held_out.tolist())
    assert set(sets.training.tolist()) == set(training.tolist()) - unforgettable | set(restored.tolist())
    assert not sets.forgetting.presentations.any()


def test_ties_go_by_variance_the_most_even_attention_first() -> None:
    sets = sets_of(10, by="variance", removed=0.2, exchanged=0.1)
    t = sets.training
    spread = torch.rand(len(t), generator=torch.Generator().manual_seed(3))
    right = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0])
    sets.record(t, right, spread)
    expected = sorted(range(8), key=lambda i: (1 - int(right[i]), float(spread[i])))
    assert sets.ranking().tolist() == t[expected].tolist()


def test_ties_without_variance_and_the_control_go_by_chance() -> None:
    for by in ("forgetting", "random"):
        sets = sets_of(50, by=by)
        sets.record(sets.training, torch.ones(40, dtype=torch.bool))
        first, second = sets.ranking(), sets.ranking()
        assert first.sort().values.equal(second.sort().values)
        assert not first.equal(second)


def test_the_control_is_blind_to_answers() -> None:
    rankings = []
    for right in (True, False):
        sets = sets_of(50, by="random")
        answers = torch.arange(40) < 20
        sets.record(sets.training, answers if right else ~answers)
        rankings.append(sets.ranking())
    assert rankings[0].equal(rankings[1])


def test_exchange_happens_at_the_start_of_its_epoch_and_only_then() -> None:
    sets = sets_of(100)
    subsets = [sets(epoch).clone() for epoch in range(10)]
    changed = [epoch for epoch in range(1, 10) if not subsets[epoch].equal(subsets[epoch - 1])]
    assert changed == list(sets.schedule) == [1, 2, 3, 4, 5]
    assert {len(subset) for subset in subsets} == {80}


def test_nothing_removed_is_all_examples_for_good() -> None:
    sets = sets_of(30, removed=0.0)
    assert sets.schedule == ()
    for epoch in range(10):
        assert sets(epoch).sort().values.equal(torch.arange(30))


def test_one_example_can_be_watched() -> None:
    sets = sets_of(1)
    sets.record(torch.tensor([0]), torch.tensor([False]))
    assert sets(0).tolist() == [0]
    assert sets.forgetting.counts(sets.training).tolist() == [30]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"removed": 1.0}, "shares must lie"),
        ({"removed": -0.1}, "shares must lie"),
        ({"exchanged": 1.5}, "shares must lie"),
        ({"removed": 0.1, "exchanged": 0.2}, "cannot change places"),
        ({"removed": 0.9, "exchanged": 0.2}, "cannot change places"),
        ({"by": "size"}, "forgetting, variance or random"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        sets_of(100, **options)


def test_impossible_schedules_are_refused() -> None:
    for epochs, times in ((0, 5), (300, 11), (300, -1)):
        with pytest.raises(WrongUse, match="do not fit"):
            exchange_epochs(epochs, times=times)
