"""Evaluation shared by the papers' experiments."""

import torch
from torch import nn

from lib.lab.datasets import ImageSplit


@torch.inference_mode()
def accuracy(model: nn.Module, split: ImageSplit, *, batch_size: int = 250) -> float:
    """Top-1 accuracy of `model` on `split`, a fraction; the model is left in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    correct = 0
    for images, labels in split.batches(batch_size):
        logits = model(images.to(device))
        correct += int((logits.argmax(-1).cpu() == labels).sum())
    return correct / len(split)
