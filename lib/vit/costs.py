"""What token pruning saves in arithmetic, counted on the executed network: backbone and selectors apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from hw_models import Workload, trace, with_tokens
from lib.vit.host import TokenHost, class_token_vit
from lib.vit.spvit import STAGES_OF_DEIT, kept_patches, prune


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates of one image: dense, and after pruning in `backbone` and `selectors`."""

    dense: int
    backbone: int
    selectors: int

    @property
    def selector_share(self) -> float:
        """Selectors over the dense network, in percent."""
        return 100 * self.selectors / self.dense


def split(workload: Workload) -> tuple[int, int]:
    """MACs of a traced token host: (backbone, selectors)."""
    selectors = sum(layer.macs for layer in workload.layers if layer.name.startswith("stages"))
    return workload.macs - selectors, selectors


def cost(
    backbone: nn.Module,
    targets: Sequence[float],
    image_size: int = 224,
    *,
    blocks: Sequence[int] = STAGES_OF_DEIT,
) -> Cost:
    """Cost of `backbone` on one image of `image_size` pixels under SPViT stages of keep ratios `targets`."""
    counts = kept_patches(targets, class_token_vit(backbone).patch_embed.num_patches)
    return host_cost(prune(backbone, targets, blocks=blocks, counts=counts), image_size)


def host_cost(host: TokenHost, image_size: int = 224) -> Cost:
    """Cost of `host` on one image of `image_size` pixels, beside that of its backbone alone."""
    channels = next(module.in_channels for module in host.modules() if isinstance(module, nn.Conv2d))
    image = torch.zeros(1, channels, image_size, image_size)
    return Cost(trace(host.backbone, image).macs, *split(trace(host.eval(), image)))


def block_macs(network: Workload, full: int, tokens: int, block: str = "blocks.0") -> int:
    """Multiply-accumulates of one block of `network`, traced at `full` tokens, on `tokens` of them."""
    changed = with_tokens(network, full, {block: tokens})
    return sum(layer.macs for layer in changed.layers if layer.name.startswith(block + "."))
