"""What can be asked of AFTrans without its data: gradients, sharing, underflow, and a planted object."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_models import Workload, trace
from lib.finegrained.aftrans import AFTrans, LayerGate, Settings, log_products, loss
from lib.finegrained.overlap import overlapping_vit
from lib.finegrained.regions import light_share, threshold
from lib.lab.torchvision_ops import prepare_torchvision
from lib.vit.attention import attend
from lib.vit.host import blocks_of, embedded
from lib.vit.tokens import add_attention, add_mlp

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


def traced(image: int, stride: int) -> Workload:
    """ViT-B/16 for 200 classes on images of `image` pixels: timm's own where patches do not overlap."""
    prepare_torchvision()
    import timm

    with torch.device("meta"):  # shapes alone: neither memory nor initialisation
        if stride == 16:
            vit = timm.create_model("vit_base_patch16_224", img_size=image, num_classes=200)
        else:
            vit = overlapping_vit(image, stride, num_classes=200)
    return trace(vit, torch.zeros(1, 3, image, image))


def global_operations(model: AFTrans, image: Tensor) -> float:
    """Multiply-accumulates of prediction by the global branch, over those of the backbone."""
    return trace(model, image).macs / trace(model.backbone, image).macs


def _size(gradients: Iterable[Tensor | None]) -> float:
    return sum((float(gradient.abs().sum()) for gradient in gradients if gradient is not None), 0.0)


def gate_gradients(model: AFTrans, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """L1 norm of the gradient that the gate's W1 and W2 get: from both losses, and from the patch scores.

    The second is the control: the scores do depend on the gate, so what is missing is lost after them.
    """
    assert model.gate is not None
    weights = list(model.gate.parameters())
    value = loss(model, images, labels)
    from_losses = _size(torch.autograd.grad(value, weights, allow_unused=True))
    scores = model.collect(model.look(images)[1]).scores
    return from_losses, _size(torch.autograd.grad((scores * scores).sum(), weights))


@dataclass(frozen=True)
class Reach:
    """Names of the parameters that a gradient reaches from the global loss only, the local only, or both."""

    whole: frozenset[str]
    part: frozenset[str]
    both: frozenset[str]


def reach(model: AFTrans, images: Tensor, labels: Tensor) -> Reach:
    """Which parameters each scale teaches, found by backpropagating each loss alone.

    A gradient that is zero throughout teaches nothing and does not count.
    """
    names, parameters = zip(*model.named_parameters(), strict=True)
    scales = model.scales(images)
    found = []
    for logits in (scales.whole, scales.part):
        value = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        found.append({name for name, grad in zip(names, gradients, strict=True) if _size([grad]) > 0})
    whole, part = found
    return Reach(frozenset(whole - part), frozenset(part - whole), frozenset(whole & part))


def plain_product(attention: Tensor, dtype: torch.dtype) -> Tensor:
    """Product over heads of `attention (..., heads, queries, keys)`, factor by factor in `dtype`."""
    factors = attention.to(dtype).unbind(-3)
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product


def flat_product(tokens: int, heads: int, dtype: torch.dtype) -> float:
    """The product when every head attends to `tokens` tokens alike."""
    return plain_product(torch.full((heads, 1, 1), 1 / tokens, dtype=torch.float64), dtype).item()


def vanishing_mean(heads: int, dtype: torch.dtype) -> float:
    """Geometric mean of the heads' attention below which their product is 0 in `dtype`, to three digits."""
    values = torch.arange(0.001, 1.0, 0.001, dtype=torch.float64)
    zero = plain_product(values.expand(heads, 1, -1), dtype)[0] == 0
    return float(values[zero].max()) if bool(zero.any()) else 0.0


@dataclass(frozen=True)
class Underflow:
    """The plain product on real images: percent of its entries that are 0, and how far gates leave 0.5."""

    zeros: float
    gate_offset: float


@torch.inference_mode()
def underflow(
    backbone: "VisionTransformer", gate: LayerGate, images: Tensor, dtype: torch.dtype
) -> Underflow:
    """What the sources' equations give without logarithms: products of softmax outputs in `dtype`."""
    x = embedded(backbone, images)
    maps = []
    for block in blocks_of(backbone):
        out, group = attend(block.attn, block.norm1(x))
        attention = (group.q * group.scale @ group.k.transpose(-2, -1)).softmax(-1)
        maps.append(plain_product(attention, dtype))
        x = add_mlp(block, add_attention(block, x, out))
    products = torch.stack(maps, 1)
    gates = gate(products.float().mean((-2, -1)))
    return Underflow(100 * float((products == 0).float().mean()), float((gates - 0.5).abs().max()))


def brightness_vit(image_size: int, patch: int, stride: int, *, heads: int = 2) -> "VisionTransformer":
    """A ViT whose class token attends to bright patches and to nothing else: all other weights are 0.

    Channel 0 of a token is its patch's mean brightness and channel 1 its negative, which a LayerNorm turns
    into about the same pair for every bright patch and leaves at 0 for a dark one.
    """
    vit = overlapping_vit(
        image_size, stride, patch_size=patch, in_chans=1, embed_dim=4 * heads, depth=2, num_heads=heads,
        num_classes=2,
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        proj = vit.patch_embed.proj
        assert isinstance(proj, nn.Conv2d)
        proj.weight[0], proj.weight[1] = 1 / patch**2, -1 / patch**2
        for block in blocks_of(vit):
            qkv = block.attn.qkv
            qkv.bias[: 4 * heads] = 2.0  # every query asks alike
            qkv.weight[4 * heads : 8 * heads, 0] = 1.0  # every key answers by its brightness
    return vit.eval()


def planted(size: int, side: int) -> Tensor:
    """Dark images `(n, 1, size, size)` with one bright square of `side` pixels, at every fourth pixel."""
    places = [(top, left) for top in range(0, size - side + 1, 4) for left in range(0, size - side + 1, 4)]
    images = torch.zeros(len(places), 1, size, size)
    for image, (top, left) in zip(images, places, strict=True):
        image[0, top : top + side, left : left + side] = 1.0
    return images


@torch.inference_mode()
def planted_squares(eta: float, layouts: Sequence[tuple[int, int, int]]) -> tuple[float, int]:
    """Least share of a planted square inside its box, and edges of boxes outside their image.

    `layouts` are (image size, patch, stride); squares are twice as wide as a patch.
    """
    least, outside = 1.0, 0
    for size, patch, stride in layouts:
        model = AFTrans(brightness_vit(size, patch, stride), Settings(eta, reduction=1), stride=stride)
        images = planted(size, 2 * patch)
        boxes = model.collect(model.look(images)[1]).boxes
        outside += int(((boxes < 0) | (boxes > size)).sum())
        least = min(least, float(light_share(images, boxes).min()))
    return least, outside


@torch.inference_mode()
def scale_and_order_matter(model: AFTrans, attention_logits: Tensor) -> tuple[int, int]:
    """Masks that change when scores are multiplied by a number, and boxes when heads are reversed.

    `attention_logits (batch, L, K, N + 1, N + 1)`. Both counts should be 0.
    """
    log_g = torch.stack([log_products(layer) for layer in attention_logits.unbind(1)], 1)
    shuffled = torch.stack([log_products(layer.flip(1)) for layer in attention_logits.unbind(1)], 1)
    scores, eta = model.collect(log_g).scores, model.settings.eta
    changed = sum(
        int((threshold(scores, eta) != threshold(scores * factor, eta)).any(1).sum())
        for factor in (1.0e-12, 0.37, 1.0e6)
    )
    other = model.collect(shuffled)
    return changed, int((other.boxes != model.collect(log_g).boxes).any(1).sum())
