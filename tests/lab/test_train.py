"""Accuracy, counted by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from lib.lab.datasets import MemorySplit
from lib.lab.image_splits import SplitFacts
from lib.lab.train import accuracy


class Brightness(nn.Module):
    """Says class 1 for bright images; `wrapped` puts logits into an object, `invert` says the opposite."""

    def __init__(self, wrapped: bool = False) -> None:
        super().__init__()
        self.wrapped = wrapped
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor, invert: bool = False) -> object:
        assert not self.training
        score = images.mean((1, 2, 3)) - 0.5
        logits = torch.stack((-score, score), 1) * (-1 if invert else 1)
        return SimpleNamespace(logits=logits) if self.wrapped else logits


@pytest.fixture
def split() -> MemorySplit:
    """Five images, of which brightness tells three right."""
    facts = SplitFacts("toy", "embedded", "test", ("dark", "bright"), (0.0,), (1.0,), "0" * 64, 2)
    pixels = torch.tensor([0, 255, 255, 0, 255], dtype=torch.uint8)[:, None, None, None].expand(5, 1, 2, 2)
    return MemorySplit(facts, pixels, torch.tensor([0, 1, 1, 1, 0]))


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 250])
def test_accuracy_is_the_share_told_right(split: MemorySplit, batch_size: int, wrapped: bool) -> None:
    model = Brightness(wrapped).train()
    assert accuracy(model, split, batch_size=batch_size) == 3 / 5
    assert not model.training


def test_options_reach_the_model(split: MemorySplit) -> None:
    assert accuracy(Brightness(), split, invert=True) == 2 / 5
