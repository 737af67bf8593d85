"""What data-level tickets cost, counted on the executed networks: the ticketed network and its selector."""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from hw_models import trace
from lib.lab.torchvision_ops import prepare_torchvision
from lib.vit.host import class_token_vit
from lib.vit.pixel_tickets import swin, ways
from lib.vit.vit_data_lth import BLOCKS, FixedRatio, TicketViT, ticket_counts, ticket_selector

DEITS = {"t": (192, 3), "s": (384, 6), "b": (768, 12), "w576": (576, 9)}
"""Width and heads of DeiT-T, -S, -B and of the variant of width 576 in the official scripts."""


@dataclass(frozen=True)
class TicketCost:
    """Patches of a ticket, and GMACs of one image: the `whole` network, and its `blocks` alone."""

    patches: int
    whole: float
    blocks: float


def shapes_of_deit(name: str) -> nn.Module:
    """The DeiT of that name in `DEITS`, without storage for its weights: enough for counting."""
    prepare_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    width, heads = DEITS[name]
    with torch.device("meta"):
        return VisionTransformer(embed_dim=width, depth=12, num_heads=heads)


def ticket_cost(backbone: nn.Module, rho: float, image: Tensor, stages: int = len(BLOCKS)) -> TicketCost:
    """Cost of `backbone` on the ticket of `image (1, channels, height, width)` at keep rate `rho`."""
    patches = ticket_counts(rho, class_token_vit(backbone).patch_embed.num_patches, stages)[-1]
    device = next(backbone.parameters()).device
    ticket = torch.arange(patches, device=device)[None]
    workload = trace(TicketViT(backbone), image.to(device), ticket)
    ends = ("backbone.patch_embed", "backbone.head")
    outside = sum(layer.macs for layer in workload.layers if layer.name.startswith(ends))
    return TicketCost(patches, workload.macs / 1e9, (workload.macs - outside) / 1e9)


def selector_gmacs(backbone: nn.Module, rho: float, image: Tensor) -> float:
    """GMACs of the selector's pass over `image`: patches leave inside blocks 3, 6 and 9, as in EViT."""
    return trace(ticket_selector(backbone, rho), image).macs / 1e9


def equal_rate(backbone: nn.Module, gmacs: float, image: Tensor) -> tuple[float, float]:
    """Keep rate at which `FixedRatio` costs most nearly `gmacs` on `image`, and its cost over `gmacs`.

    Rates are hundredths, as in the scripts. `backbone` is only counted on.
    """

    @cache
    def cost(percent: int) -> float:
        return trace(FixedRatio(backbone, percent / 100), image).macs / 1e9

    percents = range(1, 101)
    place = bisect_left(percents, gmacs, key=cost)
    percent = min(percents[max(0, place - 1) : place + 1], key=lambda near: abs(cost(near) - gmacs))
    return percent / 100, cost(percent) / gmacs


def swin_gmacs(rho: float) -> dict[str, float]:
    """GMACs of Swin-T by the first word of its variant: on "full" images, and on those made of tickets."""
    with torch.device("meta"):
        image = torch.zeros(1, 3, 224, 224)
        ticket = torch.arange(ticket_counts(rho, 196)[-1])[None]
        made = {"full": image} | {name: way(image, ticket, 16) for name, way in ways(ticket.shape[1]).items()}
        networks = {name: swin(pixels.shape[-1]) for name, pixels in made.items()}
    return {name.split()[0]: trace(net, made[name]).macs / 1e9 for name, net in networks.items()}


def training_gmacs(network: float, selector: float = 0.0) -> float:
    """GMACs of one image in training: forward, and twice that backward; the selector runs forward only."""
    return 3 * network + selector
