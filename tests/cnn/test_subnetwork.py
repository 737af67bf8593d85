"""Cut out as needed, removed for good, masked in place: three ways to the same logits."""

import copy

import pytest
import torch
from torch import nn

from lib.cnn.removal import mask_channels, remove_channels
from lib.cnn.sites import whole, widths
from lib.cnn.subnetwork import SubNetworks
from lib.errors import ReproError, WrongUse
from tests.cnn.parts import SMALL, blank, network, pictures, sites_of, some_channels


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("batch", "side", "share"), [(3, 28, 0.6), (1, 21, 0.01), (2, 28, 1.0)])
def test_cut_removed_and_masked_agree(name: str, batch: int, side: int, share: float) -> None:
    model, images = network(name), pictures(batch, side)
    sites = sites_of(model)
    kept = some_channels(sites, share)
    with torch.no_grad():
        cut = SubNetworks(model, sites)(images, kept)
        removed = remove_channels(model, sites, kept, blank(name))(images)
        masked = mask_channels(model, sites, kept)(images)
    torch.testing.assert_close(cut, removed, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cut, masked, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_keeping_everything_is_the_parent_bit_for_bit(name: str) -> None:
    model, images = network(name), pictures()
    sites = sites_of(model)
    everything = whole(sites)
    with torch.no_grad():
        logits = model(images)
        assert torch.equal(SubNetworks(model, sites)(images, everything), logits)
        assert torch.equal(SubNetworks(model, sites)(images, {}), logits)
        assert torch.equal(remove_channels(model, sites, everything, blank(name))(images), logits)
        assert torch.equal(mask_channels(model, sites, everything)(images), logits)


def test_fewer_channels_change_the_answer() -> None:
    model = network()
    sites = sites_of(model)
    sub = SubNetworks(model, sites)(pictures(), some_channels(sites, 0.5))
    assert not torch.allclose(sub, model(pictures()), atol=1e-2)


def test_removed_network_has_the_widths_asked_for() -> None:
    model = network("mobilenet_small")
    sites = sites_of(model)
    kept = some_channels(sites, 0.3)
    smaller = remove_channels(model, sites, kept, blank("mobilenet_small"))
    found = {site.name: site.channels for site in sites_of(smaller)}
    assert found == widths(sites, kept)


def test_gradients_reach_the_kept_channels_of_the_parent_only() -> None:
    model = network().train()
    sites = sites_of(model)
    kept = {"blocks.0.layers.0.0": torch.tensor([1, 5, 6])}
    SubNetworks(model, sites)(pictures(), kept).square().sum().backward()
    gradient = model.get_submodule("blocks.0.layers.0.0").weight.grad
    assert isinstance(gradient, torch.Tensor)
    assert gradient.abs().sum((1, 2, 3)).nonzero().squeeze(1).tolist() == [1, 5, 6]


def test_training_a_sub_network_leaves_the_statistics_and_groups_of_the_parent() -> None:
    model = network("mobilenet_small").train()
    sites = sites_of(model)
    before = copy.deepcopy(model.state_dict())
    SubNetworks(model, sites)(pictures(), some_channels(sites))
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.get_submodule("blocks.1.depthwise.0").groups == 96


def test_statistics_of_a_sub_network_are_its_own() -> None:
    model = network("mobilenet_small")
    sites = sites_of(model)
    kept, subs = some_channels(sites), SubNetworks(model, sites)
    statistics = subs.fresh_statistics(kept)
    before = {name: tensor.clone() for name, tensor in statistics.items()}
    model.train()
    subs(pictures(), kept, statistics)
    assert all(not torch.equal(before[name], statistics[name]) for name in before)
    model.eval()
    with torch.no_grad():
        assert not torch.allclose(subs(pictures(), kept, statistics), subs(pictures(), kept), atol=1e-3)


def test_linear_layer_that_reads_a_channel_at_several_positions() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    )
    sites, images = sites_of(model.eval(), side=8), pictures(2, 8)
    kept = {"0": torch.tensor([0, 3])}
    with torch.no_grad():
        cut = SubNetworks(model, sites)(images, kept)
        torch.testing.assert_close(cut, remove_channels(model, sites, kept, images[:1])(images))
        torch.testing.assert_close(cut, mask_channels(model, sites, kept)(images))


@pytest.mark.parametrize("index", [[], [-1], [16]])
def test_channels_that_a_site_lacks_are_refused(index: list[int]) -> None:
    model = network()
    kept = {"blocks.0.layers.0.0": torch.tensor(index, dtype=torch.long)}
    with pytest.raises(WrongUse, match=r"blocks\.0\.layers\.0\.0"):
        SubNetworks(model, sites_of(model))(pictures(), kept)


def test_unknown_site_is_refused() -> None:
    model = network()
    with pytest.raises(WrongUse, match="no site 'nowhere'"):
        SubNetworks(model, sites_of(model))(pictures(), {"nowhere": torch.tensor([0])})


def test_removing_every_channel_is_refused() -> None:
    model = network()
    kept = {"blocks.0.layers.0.0": torch.tensor([], dtype=torch.long)}
    with pytest.raises(ReproError, match=r"no channel of blocks\.0\.layers\.0\.0 would stay"):
        remove_channels(model, sites_of(model), kept, blank("resnet_small"))
