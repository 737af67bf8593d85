"""Batch normalisation statistics estimated anew: a network that lost channels has other activations.

Statistics that were gathered with all channels describe a pruned network badly, and an accuracy measured with
them says little of what it can do. A few batches without labels and gradients put that right.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from lib.errors import ReproError, WrongUse


@torch.no_grad()
def recalibrate(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    forward: Callable[[Tensor], object] | None = None,
    statistics: Mapping[str, Tensor] | None = None,
) -> None:
    """Replace the running statistics of `model` by their mean over `batches` of images.

    The mode of `model` is left as it was. For a sub-network, `forward` runs it and `statistics` are its own
    tensors, which `forward` updates.

    Raises:
        WrongUse: no batch was given.
        ReproError: activations are not finite.
    """
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    before = {name: norm.momentum for name, norm in norms.items()}
    training = model.training
    model.train()
    count = 0
    try:
        for images in batches:
            count += 1
            for norm in norms.values():
                norm.momentum = 1 / count  # the first batch replaces what was there, the rest average
            (forward or model)(images)
    finally:
        model.train(training)
        for name, norm in norms.items():
            norm.momentum = before[name]
    if not count:
        raise WrongUse("recalibration needs at least one batch of images")
    check_statistics(dict(model.named_buffers()) if statistics is None else statistics)


def check_statistics(statistics: Mapping[str, Tensor]) -> None:
    """Raises ReproError naming the first layer whose running statistics are not finite."""
    for name, tensor in statistics.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ReproError(
                f"activations before {name.rpartition('.')[0]} are not finite (NaN or infinite): check the "
                "images, or lower the learning rate of the training that made these weights"
            )
