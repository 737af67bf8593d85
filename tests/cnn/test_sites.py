"""Sites: what is joined, what lies inside a block, and networks that are refused."""

import pytest
import torch
from torch import nn

from lib.cnn.networks import build, example
from lib.cnn.sites import find_sites, pruning_blocks, whole, widths
from lib.errors import ReproError
from tests.cnn.parts import SMALL, network, sites_of


def test_sites_of_a_residual_network_by_hand() -> None:
    sites = {site.name: site for site in sites_of(network())}
    joined = sites["stem.0.0"]
    assert joined.producers == ("stem.0.0", "blocks.0.layers.1.0")
    assert joined.norms == ("stem.0.1", "blocks.0.layers.1.1")
    assert joined.consumers == ("blocks.0.layers.0.0", "blocks.1.layers.0.0", "blocks.1.shortcut.0")
    assert sites["blocks.2.layers.1.0"].consumers == ("classifier",)


def test_depthwise_convolution_shares_the_channels_of_its_expansion() -> None:
    site = next(s for s in sites_of(network("mobilenet_small")) if s.name == "blocks.1.expand.0")
    assert site.depthwise == ("blocks.1.depthwise.0",)
    assert site.norms == ("blocks.1.expand.1", "blocks.1.depthwise.1")


@pytest.mark.parametrize("name", SMALL)
def test_every_convolution_and_norm_belongs_to_one_site(name: str) -> None:
    model = network(name)
    sites = sites_of(model)
    made = sorted(layer for site in sites for layer in (*site.producers, *site.depthwise))
    norms = sorted(layer for site in sites for layer in site.norms)
    assert made == sorted(n for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    assert norms == sorted(n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("name", "blocks", "channels"),
    [("vgg_small", 5, 208), ("resnet_small", 3, 112), ("mobilenet_small", 4, 624)],
)
def test_only_inner_channels_of_residual_blocks_may_go(name: str, blocks: int, channels: int) -> None:
    model = network(name)
    found = pruning_blocks(model, sites_of(model))
    assert len(found) == blocks
    assert sum(site.channels for inside in found.values() for site in inside) == channels


def test_bottlenecks_have_two_inner_widths_a_block() -> None:
    model = build("resnet50")
    found = pruning_blocks(model, find_sites(model, example("resnet50", side=64)))
    assert len(found) == 16
    assert {len(inside) for inside in found.values()} == {2}


def test_channels_behind_padded_shortcuts_stay_whole() -> None:
    sites = find_sites(build("resnet20"), example("resnet20"))
    assert [site.name for site in sites] == [f"blocks.{index}.layers.0.0" for index in range(9)]


def test_tracing_leaves_the_mode_as_it_was() -> None:
    model = network().train()
    sites_of(model)
    assert model.training


def test_identity_keeps_every_channel() -> None:
    sites = sites_of(network())
    assert widths(sites, whole(sites)) == widths(sites, {}) == {site.name: site.channels for site in sites}


def test_network_without_batch_normalisation_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    with pytest.raises(ReproError, match="Sequential has no batch normalisation"):
        sites_of(model)


def test_convolution_without_batch_normalisation_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
    with pytest.raises(ReproError, match="no batch normalisation follows 3"):
        sites_of(model)


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.PReLU(4), "PReLU"),
        (nn.GroupNorm(2, 4), "GroupNorm"),
        (nn.Conv2d(4, 8, 3, groups=2), "Conv2d with 2 groups"),
    ],
)
def test_unknown_kind_of_layer_is_named(layer: nn.Module, kind: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), layer)
    with pytest.raises(ReproError, match=f"layer 2 is a {kind}"):
        find_sites(model, torch.zeros(1, 1, 8, 8))


def test_network_with_nothing_inside_its_blocks_is_refused() -> None:
    model = network()
    with pytest.raises(ReproError, match="no block of Network"):
        pruning_blocks(model, [])
