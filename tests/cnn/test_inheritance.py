"""Criteria of inheritance on filters worked out by hand."""

import pytest
import torch
from torch import nn

from lib.cnn.inheritance import CRITERIA, inherit
from lib.cnn.sites import find_sites
from lib.cnn.subnetwork import SubNetworks
from lib.errors import WrongUse
from tests.cnn.parts import network, pictures, sites_of


def tiny() -> nn.Sequential:
    """Four filters of two weights: (3,0), (2,2), (0.1,0), (2,2.1); scales 1, 4, 3, -2."""
    model = nn.Sequential(
        nn.Conv2d(2, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)
    )
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(
            torch.tensor([[3, 0], [2, 2], [0.1, 0], [2, 2.1]])[..., None, None]
        )
        model.get_parameter("1.weight").copy_(torch.tensor([1.0, 4.0, 3.0, -2.0]))
    return model


@pytest.mark.parametrize(
    ("criterion", "best"),
    [("l1", [1, 3]), ("l2", [0, 3]), ("scale", [1, 2]), ("geometric_median", [0, 2]), ("first", [0, 1])],
)
def test_best_two_of_four_by_hand(criterion: str, best: list[int]) -> None:
    model = tiny()
    sites = find_sites(model, torch.zeros(1, 2, 4, 4))
    assert inherit(model, sites, {"0": 2}, criterion, torch.Generator())["0"].tolist() == best


def test_random_channels_follow_the_generator() -> None:
    model = network()
    draw = [
        inherit(
            model, sites_of(model), {"blocks.2.layers.0.0": 20}, "random", torch.Generator().manual_seed(s)
        )
        for s in (0, 0, 1)
    ]
    first, again, other = (found["blocks.2.layers.0.0"] for found in draw)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.diff() > 0).all()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_inheriting_everything_is_the_parent(criterion: str) -> None:
    model = network("mobilenet_small")
    sites = sites_of(model)
    kept = inherit(model, sites, {s.name: s.channels for s in sites}, criterion, torch.Generator())
    with torch.no_grad():
        assert torch.equal(SubNetworks(model, sites)(pictures(1), kept), model(pictures(1)))


def test_unknown_criterion_and_too_many_channels_are_refused() -> None:
    model = network()
    with pytest.raises(WrongUse, match="unknown criterion 'l3'"):
        inherit(model, sites_of(model), {}, "l3", torch.Generator())
    with pytest.raises(WrongUse, match="keep 1 to 16, not 17"):
        inherit(model, sites_of(model), {"blocks.0.layers.0.0": 17}, "l1", torch.Generator())
