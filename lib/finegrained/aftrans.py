"""AFTrans: adaptive attention multi-scale fusion transformer (Zhang et al., ICASSP 2022).

Symbols: A_l^k attention of head k of K in layer l of L; G_l the product of the heads; U the stack of all G_l;
z_l their means; s_l the gates; g the score of a patch; M the mask; alpha and beta the weights of the global
and the local loss. The module of steps 1 to 6 is the paper's SACM, selective attention collection module.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from lib.errors import WrongUse
from lib.finegrained.regions import Grid, boxes_of, crop, random_boxes, threshold
from lib.lab.fit import Loss
from lib.vit.attention import attend
from lib.vit.host import blocks_of, class_token_vit, embedded
from lib.vit.tokens import add_attention, add_mlp

Squeeze = Literal["mean", "log"]
Where = Literal["attention", "random"]
Prediction = Literal["global", "local", "sum"]


class LayerGate(nn.Module):
    """Excitation: s = sigmoid(W2 relu(W1 z)), gates `(batch, L)` of squeezed layers z `(batch, L)`; no bias.

    Raises:
        WrongUse: a reduction r that leaves no hidden unit.
    """

    def __init__(self, layers: int, reduction: int = 4) -> None:
        super().__init__()
        if not 1 <= reduction <= layers:
            raise WrongUse(f"reduction {reduction} of {layers} layers: choose from 1 to {layers}")
        self.w1 = nn.Linear(layers, layers // reduction, bias=False)
        self.w2 = nn.Linear(layers // reduction, layers, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        return self.w2(self.w1(z).relu()).sigmoid()


@dataclass(frozen=True)
class Settings:
    """What the sources leave open, and the controls.

    Attributes:
        eta: a patch counts if its score is above `eta` times the mean.
        reduction: r of the gate.
        gated: False gives every layer the same weight.
        squeeze: `mean` of the normalised product map, as drawn in the paper; or `log`, the mean of its
            logarithm, standardised over layers, so that the gate gets numbers of the order of one.
        where: the second scale looks where attention points, or at a `random` place of equal size.
        straight_through: our addition, not the paper's: gradients reach the gate as if the crop had been
            multiplied by a soft mask. Values are unchanged.
    """

    eta: float = 1.0
    reduction: int = 4
    gated: bool = True
    squeeze: Squeeze = "mean"
    where: Where = "attention"
    straight_through: bool = False


@dataclass(frozen=True)
class Collected:
    """What was collected of a batch.

    Patch `scores (batch, N)`, `gates (batch, L)`, `mask (batch, N)`, `boxes (batch, 4)` in pixels.
    """

    scores: Tensor
    gates: Tensor
    mask: Tensor
    boxes: Tensor

    def of(self, images: list[int]) -> "Collected":
        """That of some images of the batch."""
        return Collected(*(part[images] for part in (self.scores, self.gates, self.mask, self.boxes)))


@dataclass(frozen=True)
class Scales:
    """Logits `(batch, classes)` of the whole image and of its part, and what was collected."""

    whole: Tensor
    part: Tensor
    collected: Collected


def log_products(attention_logits: Tensor) -> Tensor:
    """log G = sum_k log A^k, `(batch, N + 1, N + 1)`, of scaled scores `(batch, K, N + 1, N + 1)`.

    Taken from the scores, not from the softmax, so that no logarithm of an underflown zero occurs.
    """
    return attention_logits.float().log_softmax(-1).sum(1)


def normalised(log_g: Tensor) -> Tensor:
    """U `(batch, L, N + 1, N + 1)`: every product map over its largest entry, of their logarithms.

    The plain product of twelve heads is at the edge of float32 (of float16: far beyond). Dividing by a
    map's maximum lets layers count by shape; how sharp a layer is no longer decides how much it weighs.
    """
    return (log_g - log_g.amax((-2, -1), keepdim=True)).exp()


def squeezed(log_g: Tensor, how: Squeeze) -> Tensor:
    """z `(batch, L)`: what the gate sees of each layer."""
    if how == "mean":
        return normalised(log_g).mean((-2, -1))
    means = log_g.mean((-2, -1))
    spread = means.std(1, keepdim=True).clamp(min=1.0e-6)
    return (means - means.mean(1, keepdim=True)) / spread


def patch_scores(log_g: Tensor, gates: Tensor) -> Tensor:
    """g `(batch, N)`: sum over layers of s_l times the class token's row of U_l, without the class token."""
    log_rows = log_g[:, :, 0, 1:] - log_g.amax((-2, -1))[..., None]
    return (gates[..., None] * log_rows.exp()).sum(1)


class AFTrans(nn.Module):
    """A timm ViT that looks twice: at the image, and at the region its own attention points to.

    Both looks share the patch projection, all blocks, the final norm and the classifier; each has a class
    token and a position table of its own. The global ones are the backbone's, so that with beta = 0 the
    network is the backbone, bit for bit.

    Args:
        backbone: a ViT that classifies by its class token.
        stride: pixels between patches, by default their size.

    Raises:
        WrongUse: another backbone, or a stride that does not give the backbone's grid of patches.
    """

    def __init__(
        self, backbone: nn.Module, settings: Settings | None = None, *, stride: int | None = None
    ) -> None:
        super().__init__()
        self.backbone = class_token_vit(backbone)
        self.settings = settings or Settings()
        patches = self.backbone.patch_embed
        height, width = patches.img_size if hasattr(patches, "img_size") else _tiled(patches)
        self.grid = Grid(height, width, patches.patch_size[0], stride or patches.patch_size[0])
        if (self.grid.rows, self.grid.columns) != tuple(patches.grid_size):
            raise WrongUse(
                f"stride {self.grid.stride} gives {self.grid.rows}x{self.grid.columns} patches, but the "
                f"backbone has {patches.grid_size[0]}x{patches.grid_size[1]}"
            )
        token, places = self.backbone.cls_token, self.backbone.pos_embed
        if token is None or places is None:
            raise WrongUse("each scale needs a class token and a position table: this backbone lacks one")
        self.local_cls_token = nn.Parameter(token.detach().clone())
        self.local_pos_embed = nn.Parameter(places.detach().clone())
        layers = len(self.backbone.blocks)
        self.gate = LayerGate(layers, self.settings.reduction) if self.settings.gated else None

    def train(self, mode: bool = True) -> "AFTrans":
        """As usual, except that batch normalisation (a convolutional stem's) keeps its pretrained statistics.

        Images and crops differ in theirs; a running mixture of both would suit neither at test time, and
        arms with one look would be spared the damage.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(
        self, images: Tensor, *, predict: Prediction = "global", generator: torch.Generator | None = None
    ) -> Tensor:
        """Logits of `images`: of the global branch (one pass, as the paper draws it), the local, or both."""
        if predict == "global":
            logits: Tensor = self.backbone(images)
            return logits
        scales = self.scales(images, generator)
        return scales.part if predict == "local" else scales.whole + scales.part

    def scales(self, images: Tensor, generator: torch.Generator | None = None) -> Scales:
        """Both passes over `images (batch, channels, height, width)`; `generator` places random regions."""
        whole, log_g = self.look(images)
        collected = self.collect(log_g, generator)
        view = images
        if self.settings.straight_through:
            view = images * self._pass_through(collected.scores)
        return Scales(whole, self.look_again(crop(view, collected.boxes)), collected)

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """First pass: global logits, and log G_l of every layer, `(batch, L, N + 1, N + 1)`, detached."""
        b, products = self.backbone, []
        x = embedded(b, images)
        for block in blocks_of(b):
            out, group = attend(block.attn, block.norm1(x))
            with torch.no_grad():
                products.append(log_products(group.q * group.scale @ group.k.transpose(-2, -1)))
            x = add_mlp(block, add_attention(block, x, out))
        return b.forward_head(b.norm(x)), torch.stack(products, 1)

    def collect(self, log_g: Tensor, generator: torch.Generator | None = None) -> Collected:
        """SACM, steps 1 to 8: from the logarithms of the product maps to one box an image."""
        if self.gate is None:
            gates = log_g.new_ones(log_g.shape[:2])
        else:
            gates = self.gate(squeezed(log_g, self.settings.squeeze))
        scores = patch_scores(log_g, gates)
        mask = threshold(scores, self.settings.eta)
        boxes = boxes_of(mask, self.grid)
        if self.settings.where == "random":
            boxes = random_boxes(boxes, self.grid, generator)
        return Collected(scores, gates, mask, boxes)

    def look_again(self, crops: Tensor) -> Tensor:
        """Second pass: local logits, by the backbone with the local class token and position table."""
        own: dict[str, Tensor] = {"cls_token": self.local_cls_token, "pos_embed": self.local_pos_embed}
        logits: Tensor = functional_call(self.backbone, own, (crops,))
        return logits

    def _pass_through(self, scores: Tensor) -> Tensor:
        """Ones `(batch, 1, height, width)` whose gradient is that of a soft mask."""
        soft = (scores / scores.mean(1, keepdim=True) - self.settings.eta).sigmoid()
        soft = soft.view(-1, 1, self.grid.rows, self.grid.columns)
        soft = F.interpolate(soft, (self.grid.height, self.grid.width), mode="bilinear", align_corners=False)
        return 1 + (soft - soft.detach())


class TwoLooks(nn.Module):
    """`model` predicting by the sum of both branches: what costs are counted and measured on."""

    def __init__(self, model: AFTrans) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images, predict="sum")


def _tiled(patches: nn.Module) -> tuple[int, int]:
    """Image size of a patch embedding that does not state it: its patches side by side."""
    (rows, columns), (height, width) = patches.grid_size, patches.patch_size  # type: ignore[misc]
    return rows * height, columns * width


def loss(
    model: AFTrans,
    images: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """alpha Loss_g + beta Loss_l, both cross-entropies; with beta = 0 the second pass is left out."""
    if beta == 0:
        return alpha * F.cross_entropy(model(images), labels)
    scales = model.scales(images, generator)
    return alpha * F.cross_entropy(scales.whole, labels) + beta * F.cross_entropy(scales.part, labels)


def objective(model: AFTrans, alpha: float, beta: float, generator: torch.Generator) -> Loss:
    """The loss in the form that `lib.lab.fit` takes."""

    def of_batch(images: Tensor, labels: Tensor, places: Tensor, progress: float) -> Tensor:
        return loss(model, images, labels, alpha=alpha, beta=beta, generator=generator)

    return of_batch
