"""DynamicViT's predictor."""

import torch

from lib.vit.dynamicvit import Predictor
from lib.vit.selectors import Candidates


def test_scores_follow_the_definition() -> None:
    torch.manual_seed(0)
    predictor = Predictor(16)
    values, weight = torch.randn(3, 16), torch.tensor([1.0, 1.0, 0.0])
    candidates = Candidates(values, weight, torch.zeros(3, dtype=torch.long), torch.arange(3), 1, 3, None)
    embedded = predictor.embed(values)
    average = embedded[:2, 8:].mean(0).expand(3, 8)
    expected = predictor.classify(torch.cat((embedded[:, :8], average), 1)).softmax(-1)[:, 0]
    torch.testing.assert_close(predictor(candidates), expected)
