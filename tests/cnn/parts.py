"""Small networks with lively batch normalisation, images and random choices of channels."""

import torch
from torch import Tensor, nn

from lib.cnn.networks import Network, build, example
from lib.cnn.sites import Site, find_sites

SMALL = ("vgg_small", "resnet_small", "mobilenet_small")


def network(name: str = "resnet_small", seed: int = 0) -> Network:
    """A network in evaluation mode whose scales, shifts and statistics differ from channel to channel."""
    torch.manual_seed(seed)
    model = build(name, channels=1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.2, 1.5)
                module.bias.normal_(0, 0.3)
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
    return model.eval()


def sites_of(model: nn.Module, side: int = 28) -> tuple[Site, ...]:
    return find_sites(model, torch.zeros(1, 1, side, side))


def pictures(batch: int = 3, side: int = 28) -> Tensor:
    return torch.randn(batch, 1, side, side, generator=torch.Generator().manual_seed(0))


def some_channels(sites: tuple[Site, ...], share: float = 0.6, seed: int = 0) -> dict[str, Tensor]:
    """At each site, about `share` of the channels drawn by chance, at least one."""
    generator = torch.Generator().manual_seed(seed)
    return {
        site.name: torch.randperm(site.channels, generator=generator)[: max(1, int(share * site.channels))]
        .sort()
        .values
        for site in sites
    }


def blank(name: str) -> Tensor:
    return example(name)
