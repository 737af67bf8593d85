"""Right answers of a network that is run in a way of its own: on some channels, or at another resolution."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib.errors import ReproError
from lib.lab.image_splits import ImageSplit


@torch.inference_mode()
def right_answers(
    forward: Callable[[Tensor], Tensor], model: nn.Module, split: ImageSplit, *, what: str
) -> int:
    """How many images of `split` the logits of `forward` classify rightly, `model` in evaluation mode.

    Raises ReproError, naming `what`, if logits are not finite.
    """
    model.eval()
    device = next(model.parameters()).device
    correct = 0
    for images, labels in split.batches(250):
        logits = forward(images.to(device))
        if not bool(torch.isfinite(logits).all()):
            raise ReproError(
                f"{what} are not finite (NaN or infinite): check the images, or lower the learning rate of "
                "the training that made these weights"
            )
        correct += int((logits.argmax(-1).cpu() == labels).sum())
    return correct
