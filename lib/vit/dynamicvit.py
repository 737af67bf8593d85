"""DynamicViT's token predictor (Rao et al., NeurIPS 2021), the selector that SPViT compares itself with."""

import torch
from torch import Tensor, nn

from lib.vit.selectors import Candidates
from lib.vit.tokens import segment_mean


class Predictor(nn.Module):
    """Keep probability of every token from its full width, half of the embedding averaged over the image."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.classify = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 2),
        )

    def forward(self, candidates: Candidates) -> Tensor:
        c = candidates
        local, shared = self.embed(c.values).chunk(2, dim=-1)
        average = segment_mean(shared, c.weight, c.image, c.images)[c.image]
        return self.classify(torch.cat((local, average), -1)).softmax(-1)[:, 0]
