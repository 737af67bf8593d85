"""What Tri-Level E-ViT costs in operations: at a token ratio, over a training, and for an equal control."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from hw_models import trace
from lib.errors import WrongUse
from lib.vit.tri_level_vit import STAGES, ratio_at, set_ratios, token_counts, tri_level

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

Macs = Callable[[Sequence[int]], int]
"""MACs of one image by the patches that are left after each stage."""


def macs_by_counts(backbone: "VisionTransformer", image: Tensor) -> Macs:
    """A function from the patches left after stages inside blocks 3, 6, 9 to MACs of one image.

    A block spends 4 n D^2 + 2 n^2 D on attention, at the length n that it gets, and 2 n D H on its MLP, at
    the length that its stage leaves. Patch embedding and head are what is left of the traced dense network.
    """
    from timm.layers import Mlp

    patches, prefix = backbone.patch_embed.num_patches, backbone.num_prefix_tokens
    first = next(module for module in backbone.blocks.modules() if isinstance(module, Mlp))
    width, hidden = backbone.embed_dim, first.fc1.out_features

    def blocks(counts: Sequence[int]) -> int:
        total, n = 0, patches + prefix
        for block in range(len(backbone.blocks)):
            total += 4 * n * width**2 + 2 * n**2 * width
            if block in STAGES:
                n = counts[STAGES.index(block)] + prefix
            total += 2 * n * width * hidden
        return total

    rest = trace(backbone, image).macs - blocks((patches,) * len(STAGES))
    return lambda counts: rest + blocks(counts)


def pruned_gmacs(backbone: "VisionTransformer", image: Tensor, ratios: Sequence[float]) -> dict[float, float]:
    """GMACs of one image by token ratio, counted on the executed network."""
    host = tri_level(backbone).eval()
    return {ratio: trace(set_ratios(host, ratio), image).macs / 1e9 for ratio in ratios}


def average_cost(macs: Macs, patches: int, ratios: Iterable[float]) -> float:
    """Mean MACs of steps at these token ratios, over those of steps that keep all `patches`.

    Raises WrongUse if there are no steps.
    """
    work = [macs(token_counts(ratio, patches)) for ratio in ratios]
    if not work:
        raise WrongUse("a training without steps has no average cost: give it an epoch and an image")
    return sum(work) / len(work) / macs((patches,) * len(STAGES))


def training_average(macs: Macs, patches: int, ratio: float, *, iterations: int = 3000) -> float:
    """Mean MACs of a training of `iterations` steps under the ratio schedule, over those of a dense one."""
    return average_cost(
        macs, patches, (ratio_at((step + 0.5) / iterations, ratio) for step in range(iterations))
    )


def ratio_of_cost(macs: Macs, patches: int, cost: float) -> float:
    """The token ratio, to a thousandth, at which an image costs nearest to `cost` of the dense network.

    Patches are whole, so the cost is met within about half a patch at each stage; of several ratios that
    leave the same patches, the smallest.
    """
    dense = macs((patches,) * len(STAGES))
    ratios = (thousandths / 1000 for thousandths in range(1, 1001))
    return min(ratios, key=lambda ratio: abs(macs(token_counts(ratio, patches)) / dense - cost))


def schedule_lines(ratios: Sequence[float], points: int = 31) -> tuple[list[float], dict[str, list[float]]]:
    """Progress in percent, and the schedule of each final ratio there, for a figure."""
    progress = [point / (points - 1) for point in range(points)]
    return [100 * t for t in progress], {f"r {r}": [ratio_at(t, r) for t in progress] for r in ratios}
