"""Small networks, images and planted selectors that the tests of the token methods share."""

import copy
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lib.lab.backbones import _lv_vit, small_vit
from lib.lab.torchvision_ops import prepare_torchvision
from lib.vit.host import TokenHost, TokenStage
from lib.vit.selectors import Candidates, Rule, Threshold

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

PATCHES = 49
BLOCKS = (3, 6, 9)


@cache
def _made(name: str) -> "VisionTransformer":
    """A network with weights far from their initial ones, so that every token matters to the logits."""
    torch.manual_seed(1)
    model = small_vit() if name == "small" else _lv_vit(10, 32, 10, 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def network(name: str = "small") -> "VisionTransformer":
    """`small`: the small ViT (49 patches). `lv`: LV-ViT, ten narrow blocks (196 patches)."""
    return copy.deepcopy(_made(name))


def oblong() -> "VisionTransformer":
    """Images of 20 x 12 pixels in five patches by three; weights far from their initial ones."""
    prepare_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(2)
    model = VisionTransformer(img_size=(20, 12), patch_size=4, embed_dim=16, depth=4, num_heads=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def oblong_pictures(batch: int, seed: int = 0) -> Tensor:
    """Random images that `oblong` takes."""
    return torch.randn(batch, 3, 20, 12, generator=torch.Generator().manual_seed(seed))


def pictures(batch: int, backbone: nn.Module, seed: int = 0) -> Tensor:
    """Random images that `backbone` takes."""
    small = getattr(backbone, "embed_dim", 0) == 64
    shape = (1, 28, 28) if small else (3, 224, 224)
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


class Planted(nn.Module):
    """Scores given beforehand, `(images, patches)`; a package token gets one half, which nobody reads."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, candidates: Candidates) -> Tensor:
        c = candidates
        scores = self.scores[c.image, c.position.clamp(min=0)]
        return torch.where(c.position < 0, torch.full_like(scores, 0.5), scores)


def planted_host(
    backbone: nn.Module,
    scores: Sequence[Tensor],
    *,
    package: bool = True,
    rule: Rule | None = None,
    blocks: Sequence[int] = BLOCKS,
) -> TokenHost:
    """`backbone` whose stages decide by planted `scores`, one tensor per block."""
    stages = {
        block: TokenStage(Planted(values), rule or Threshold(), package=package)
        for block, values in zip(blocks, scores, strict=True)
    }
    return TokenHost(backbone, stages).eval()


def random_scores(batch: int, patches: int = PATCHES, stages: int = 3, seed: int = 0) -> list[Tensor]:
    """Uniform scores for `stages` stages."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, patches, generator=generator) for _ in range(stages)]
