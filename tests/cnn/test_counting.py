"""Counts from widths against counts of networks whose channels are gone."""

import pytest
import torch
from torch import nn

from hw_models import trace
from lib.cnn.counting import counter
from lib.cnn.networks import build, example
from lib.cnn.removal import remove_channels
from lib.cnn.sites import find_sites, pruning_blocks, widths
from lib.lab.backbones import parameters
from tests.cnn.parts import SMALL, blank, network, sites_of, some_channels


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("share", [1.0, 0.6, 0.01])
def test_counts_are_those_of_the_smaller_network(name: str, share: float) -> None:
    model = network(name)
    sites = sites_of(model)
    kept = some_channels(sites, share)
    count = counter(model, sites, blank(name))
    smaller = remove_channels(model, sites, kept, blank(name))
    assert count.macs(widths(sites, kept)) == trace(smaller, blank(name)).macs
    assert count.params(widths(sites, kept)) == parameters(smaller)


def test_nothing_said_keeps_everything() -> None:
    model = network()
    count = counter(model, sites_of(model), blank("resnet_small"))
    assert count.macs({}) == trace(model, blank("resnet_small")).macs
    assert count.params({}) == parameters(model)


def test_linear_layer_that_reads_a_channel_at_several_positions() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    )
    sites = sites_of(model, side=8)
    count = counter(model, sites, torch.zeros(1, 1, 8, 8))
    # three channels: 36 positions x 9 x 3, then 3 x 36 x 5
    assert count.macs({"0": 3}) == 36 * 9 * 3 + 3 * 36 * 5
    assert count.params({"0": 3}) == 27 + 3 + 6 + 3 * 36 * 5 + 5


@pytest.mark.parametrize(("keep", "mmacs"), [(1.0, 300.77), (0.8, 248.85), (0.625, 204.46), (0.5, 171.50)])
def test_hidden_widths_of_mobilenet_v2_at_one_ratio(keep: float, mmacs: float) -> None:
    model = build("mobilenet_v2")
    sites = find_sites(model, example("mobilenet_v2", side=32))
    hidden = [site for inside in pruning_blocks(model, sites).values() for site in inside]
    count = counter(model, sites, example("mobilenet_v2"))
    kept = {site.name: max(8, 8 * round(keep * site.channels / 8)) for site in hidden}
    assert count.macs(kept) / 1e6 == pytest.approx(mmacs, abs=0.005)
