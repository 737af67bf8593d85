"""How much a block matters, read off the scales of its batch normalisations (AdaPruner, abstract).

Trained with an L1 penalty on them, scales of channels that the network can do without shrink. AdaPruner takes
the mean of a block's scales as the importance of the block:

    I_b = (sum over norms l in b, channels c of |gamma_lc|) / (sum over l of C_l)
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lib.cnn.sites import Site
from lib.errors import ReproError
from lib.lab.fit import Loss, classification


def block_importance(model: nn.Module, blocks: Mapping[str, Sequence[Site]]) -> dict[str, float]:
    """I_b of each of `blocks`, over the norms of its prunable channels.

    Raises ReproError if scales are not finite, or all zero.
    """
    found = {}
    for block, sites in blocks.items():
        scales = torch.cat([scale.detach().abs() for scale in scales_of(model, sites)])
        found[block] = float(scales.mean())
        if not bool(torch.isfinite(scales).all()):
            raise ReproError(
                f"scales of the batch normalisations in {block} are not finite: the training diverged; lower "
                "its learning rate or the strength of its penalty"
            )
    if max(found.values()) == 0:
        raise ReproError(
            "all scales are zero, so no block matters more than another: lower the strength of the penalty"
        )
    return found


def scales_of(model: nn.Module, sites: Iterable[Site]) -> list[Tensor]:
    """The scales gamma `(channels,)` of every batch normalisation over `sites`."""
    found = []
    for site in sites:
        for name in site.norms:
            scale = model.get_submodule(name).weight
            assert isinstance(scale, Tensor)
            found.append(scale)
    return found


def sparse_classification(model: nn.Module, sites: Sequence[Site], strength: float) -> Loss:
    """Cross-entropy + `strength` (lambda) * sum of |gamma| over `sites`, for `lib.lab.fit.fit`.

    Its gradient on a scale is lambda * sign(gamma), and zero at zero.
    """
    plain = classification(model)
    scales = scales_of(model, sites)

    def of_batch(images: Tensor, labels: Tensor, places: Tensor, progress: float) -> Tensor:
        penalty = torch.stack([scale.abs().sum() for scale in scales]).sum()
        return plain(images, labels, places, progress) + strength * penalty

    return of_batch
