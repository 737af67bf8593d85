"""Lottery tickets in the weights: masks by size and at random, rewinding, and the controls."""

from functools import partial

import pytest
import torch
from torch import nn

from lib.errors import WrongUse
from lib.lab.backbones import small_vit
from lib.lab.datasets import ImageSplit, load
from lib.lab.fit import Schedule
from lib.vit.magnitude_tickets import (
    iterate,
    magnitude_masks,
    prunable,
    random_masks,
    share_left,
    weights_of,
    with_masks,
)
from lib.vit.ticket_arms import weight_tickets
from tests.vit.parts import network, pictures


def tiny() -> nn.Module:
    return small_vit(dim=16, depth=2, heads=2)


def test_magnitude_masks_by_hand_over_all_layers_together() -> None:
    weights = {"a": torch.tensor([[0.1, -5.0], [3.0, 0.2]]), "b": torch.tensor([[-4.0, 0.3]])}
    masks = magnitude_masks(weights, 0.5)
    assert masks["a"].tolist() == [[0, 1], [1, 0]]
    assert masks["b"].tolist() == [[1, 0]]


def test_removed_weights_stay_removed_even_if_they_grew() -> None:
    before = {"a": torch.tensor([1.0, 0.0, 1.0, 1.0])}
    masks = magnitude_masks({"a": torch.tensor([0.1, 9.0, 3.0, 0.2])}, 0.5, before)
    assert masks["a"].tolist() == [0, 0, 1, 1]


def test_more_than_is_left_cannot_be_left() -> None:
    before = {"a": torch.tensor([1.0, 0.0, 0.0, 0.0])}
    with pytest.raises(WrongUse, match=r"only 0\.250"):
        magnitude_masks({"a": torch.ones(4)}, 0.5, before)


@pytest.mark.parametrize("left", [0.0, 1.5, -0.1])
def test_shares_out_of_range_are_refused(left: float) -> None:
    with pytest.raises(WrongUse, match="share of weights"):
        magnitude_masks({"a": torch.ones(4)}, left)


def test_ties_leave_exactly_the_share() -> None:
    assert magnitude_masks({"a": torch.ones(7)}, 0.5)["a"].sum() == 4


def test_all_weights_left_change_nothing_bit_for_bit() -> None:
    images = pictures(2, network())
    masks = magnitude_masks(weights_of(network()), 1.0)
    assert share_left(masks) == 1
    assert torch.equal(with_masks(network(), masks)(images), network()(images))


def test_only_linear_layers_of_the_blocks_are_pruned() -> None:
    names = set(prunable(small_vit(depth=2)))
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert names == {f"blocks.{block}.{layer}" for block in range(2) for layer in layers}
    with pytest.raises(WrongUse, match="nothing to prune"):
        prunable(nn.Linear(2, 2))


def test_random_masks_leave_as_many_weights_in_every_layer() -> None:
    masks = magnitude_masks(weights_of(network()), 0.3)
    drawn = random_masks(masks, torch.Generator().manual_seed(0))
    assert {name: mask.sum() for name, mask in drawn.items()} == {n: m.sum() for n, m in masks.items()}
    assert all(set(mask.unique().tolist()) <= {0, 1} for mask in drawn.values())
    assert any(not torch.equal(drawn[name], masks[name]) for name in masks)


def test_masked_weights_stay_zero_in_training_and_the_others_learn() -> None:
    torch.manual_seed(0)
    model = tiny()
    masks = magnitude_masks(weights_of(model), 0.4)
    before = weights_of(with_masks(model, masks))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(2, 1, 28, 28)).square().sum().backward()
        optimizer.step()
    after = weights_of(model)
    for name, mask in masks.items():
        assert (after[name][mask == 0] == 0).all()
        assert not torch.equal(after[name], before[name])
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_rounds_nest_and_start_from_the_rewound_weights() -> None:
    def rewound() -> nn.Module:
        torch.manual_seed(0)
        return tiny()

    seen = []

    def train(model: nn.Module) -> None:
        seen.append(weights_of(model))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)

    dense = rewound()
    rounds = list(iterate(dense, rewound, train, [0.5, 0.25]))
    initial = weights_of(rewound())
    assert [round(share_left(each.masks), 3) for each in rounds] == [0.5, 0.25]
    for weights, each in zip(seen, rounds, strict=True):
        for name, mask in each.masks.items():
            assert torch.equal(weights[name], initial[name] * mask)
    for name, mask in rounds[1].masks.items():
        assert (mask <= rounds[0].masks[name]).all()


@pytest.fixture(scope="module")
def split() -> ImageSplit:
    return load("fashion_mnist", "train", limit=32)


@pytest.mark.parametrize("rewind", [0, 1])
def test_controls_differ_from_the_ticket_in_one_thing_each(split: ImageSplit, rewind: int) -> None:
    schedule = Schedule(2, 16, learning_rate=0.0, weight_decay=0.0)
    found = weight_tickets(tiny, split, schedule, 3, left=[0.5, 0.2], rewind_epochs=rewind)
    last = found.rounds[-1]
    ticket, fresh = weights_of(last.model), weights_of(found.controls["fresh weights"])
    scattered, dense = weights_of(found.controls["random mask"]), weights_of(found.dense)
    for name, mask in last.masks.items():
        # nothing learns at a rate of 0, so weights are those of the start
        assert torch.equal(ticket[name], dense[name] * mask)
        assert torch.equal(fresh[name] != 0, mask > 0)
        assert not torch.equal(fresh[name], ticket[name])
        places = scattered[name] != 0
        assert places.sum() == mask.sum()
        assert torch.equal(scattered[name], dense[name] * places)


def test_rewinding_goes_back_to_the_weights_after_that_epoch(split: ImageSplit) -> None:
    schedule = Schedule(2, 16, learning_rate=1e-2)
    run = partial(weight_tickets, tiny, split, schedule, 3, left=[0.5])
    start, early = (run(rewind_epochs=epochs) for epochs in (0, 1))
    # one dense training, so one mask; but two starts, so two tickets
    name = next(iter(start.rounds[0].masks))
    assert torch.equal(start.rounds[0].masks[name], early.rounds[0].masks[name])
    assert not torch.equal(weights_of(start.rounds[0].model)[name], weights_of(early.rounds[0].model)[name])


@pytest.mark.parametrize("rewind", [-1, 2])
def test_rewinding_outside_the_schedule_is_refused(split: ImageSplit, rewind: int) -> None:
    with pytest.raises(WrongUse, match="rewind_epochs"):
        weight_tickets(tiny, split, Schedule(2), 0, left=[0.5], rewind_epochs=rewind)
