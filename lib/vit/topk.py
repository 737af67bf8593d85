"""The fixed-ratio control: the patches that the class token attends to most stay, as many in each image.

As in EViT (Liang et al., ICLR 2022) without its fused token: nothing is learnt but what fine-tuning makes of
the backbone.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from lib.errors import WrongUse
from lib.vit.attention import AttentionView
from lib.vit.host import TokenHost, TokenStage, class_token_vit
from lib.vit.selectors import Candidates, Count


def looked_at(candidates: Candidates) -> AttentionView:
    """The attention that the host shows to selectors that need it."""
    if candidates.attention is None:
        raise WrongUse("this selector looks at attention: it must say needs_attention = True")
    return candidates.attention


class ClassAttentionSelector(nn.Module):
    """Scores a patch by the attention that the class token pays to it, averaged over heads (EViT, eq. 2)."""

    needs_attention = True

    def forward(self, candidates: Candidates) -> Tensor:
        """Scores `(rows,)`, in [0, 1]."""
        return looked_at(candidates).class_attention.mean(1)


def prune_by_class_attention(
    backbone: nn.Module,
    counts: Sequence[int],
    *,
    blocks: Sequence[int] = (3, 6, 9),
    inside: bool = True,
    package: bool = False,
) -> TokenHost:
    """`backbone` that keeps the `counts` patches with the largest class attention at each of `blocks`.

    Args:
        inside: choose between attention and MLP of the block, by its own attention (EViT); otherwise in front
            of the block, by the attention of the block before.
        package: dropped patches leave their mean behind, weighted by their attention.

    A count of all patches asks for nothing and gets no stage.

    Raises:
        WrongUse: counts and blocks differ in number, or a count is not between 1 and the number of patches.
    """
    patches = class_token_vit(backbone).patch_embed.num_patches
    if len(counts) != len(blocks):
        raise WrongUse(f"{len(counts)} counts for {len(blocks)} blocks; give one per block")
    if any(not 1 <= count <= patches for count in counts):
        raise WrongUse(f"counts {list(counts)} must lie between 1 and {patches}, the patches of an image")
    stages = {
        block: TokenStage(
            ClassAttentionSelector(), Count(count), package=package, sample=False, inside=inside
        )
        for block, count in zip(blocks, counts, strict=True)
        if count < patches
    }
    return TokenHost(backbone, stages)
