"""Evaluation shared by the papers' experiments."""

from typing import Any

import torch
from torch import nn

from lib.lab.datasets import ImageSplit


@torch.inference_mode()
def accuracy(model: nn.Module, split: ImageSplit, *, batch_size: int = 250, **options: Any) -> float:
    """Top-1 accuracy of `model` on `split`, a fraction; the model is left in evaluation mode.

    `model(images, **options)` gives logits `(batch, classes)`, or an object that holds them as `logits`.
    """
    model.eval()
    device = next(model.parameters()).device
    correct = 0
    for images, labels in split.batches(batch_size):
        output = model(images.to(device), **options)
        logits = getattr(output, "logits", output)
        correct += int((logits.argmax(-1).cpu() == labels).sum())
    return correct / len(split)
