"""Losses and scores over padded sequences, frames and running text; training with and without masks."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import ReproError, WrongUse
from lib.lab.admm import Masks, Projection
from lib.lab.sequence_splits import NO_LABEL, SequenceSplit
from lib.lab.words import WordSplit
from lib.rnn.networks import LanguageModel, SequenceClassifier, gate_matrices
from lib.rnn.training import LabelledSequences, Recipe, RunningText, Score, admm_prune, retrain, train

RECIPE = Recipe(epochs=12, rounds=3, retrain_epochs=4, batch_size=8, learning_rate=0.02)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sequences(count: int = 30, *, framewise: bool = False) -> SequenceSplit:
    """Class 0 has positive frames, class 1 negative ones; lengths from 1 to 5."""
    draw = generator(1)
    labels = torch.arange(count) % 2
    lengths = torch.arange(count) % 5 + 1
    inside = torch.arange(5) < lengths[:, None]
    frames = torch.randn(count, 5, 3, generator=draw) + (1.5 - 3.0 * labels)[:, None, None]
    per_frame = torch.where(inside, labels[:, None], NO_LABEL)
    return SequenceSplit(
        name="toy",
        tier="embedded",
        split="train",
        classes=("up", "down"),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        sha256="",
        frames=frames * inside[..., None],
        lengths=lengths,
        labels=per_frame if framewise else labels,
    )


def text(words: list[int]) -> WordSplit:
    return WordSplit("toy", "embedded", "train", ("a", "b", "c"), "", torch.tensor(words))


def classifier(*, framewise: bool = False) -> SequenceClassifier:
    torch.manual_seed(0)
    return SequenceClassifier("gru", 3, 8, 1, 2, framewise=framewise)


class Constant(nn.Module):
    """Says class 1 with probability 3/4 for every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, math.log(3.0)]))

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return self.logits.expand(*frames.shape[:2], 2)


def test_frames_without_a_label_count_for_nothing() -> None:
    task = LabelledSequences(sequences(5, framewise=True))
    # lengths 1 to 5, labels 0 1 0 1 0: 9 frames of class 0 and 6 of class 1
    score = task.score(Constant())
    assert score.accuracy == pytest.approx(100 * 6 / 15)
    assert score.loss == pytest.approx(-(9 * math.log(1 / 4) + 6 * math.log(3 / 4)) / 15)
    (loss,) = task.losses(Constant(), 5, generator())
    assert loss.item() == pytest.approx(score.loss)


def test_a_score_leaves_the_network_as_it_was() -> None:
    net = classifier().train()
    LabelledSequences(sequences()).score(net)
    assert net.training


@pytest.mark.parametrize("framewise", [False, True])
def test_the_dense_network_learns(framewise: bool) -> None:
    task, net = LabelledSequences(sequences(framewise=framewise)), classifier(framewise=framewise)
    losses = list(train(net, task, RECIPE, generator()))
    assert len(losses) == 12
    assert losses[-1] < losses[0] / 2
    assert task.score(net).accuracy > 95
    assert not net.training


def test_training_repeats_itself_with_its_seed() -> None:
    runs = [list(train(classifier(), LabelledSequences(sequences()), RECIPE, generator(3))) for _ in range(2)]
    assert runs[0] == runs[1]


def test_every_word_is_read_once_and_the_state_goes_on() -> None:
    """Two streams of 10 words: a b c a b | c a b c a with what follows; pieces of 2 steps change nothing."""
    torch.manual_seed(0)
    net = LanguageModel("gru", 3, 4, 5, 1, dropout=0.0)
    words = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]
    read = torch.tensor(words[:10]).view(2, 5)
    follow = torch.tensor(words[1:11]).view(2, 5)
    expected = F.cross_entropy(net(read)[0].flatten(0, 1), follow.flatten())
    pieces = list(RunningText(text(words), steps=2).losses(net, 2, generator()))
    assert len(pieces) == 3
    assert ((2 * pieces[0] + 2 * pieces[1] + pieces[2]) / 5).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_a_text_is_learnt_and_scored_in_perplexity() -> None:
    torch.manual_seed(0)
    net = LanguageModel("lstm", 3, 4, 8, 1, dropout=0.0)
    task = RunningText(text([0, 1, 2] * 40), steps=10)
    before = task.score(net)
    list(train(net, task, replace(RECIPE, batch_size=4), generator()))
    assert before.perplexity == pytest.approx(3.0, rel=0.2)
    assert task.score(net).accuracy == 100.0
    assert task.score(net).perplexity < 1.5


def test_more_streams_than_words_are_refused() -> None:
    net = LanguageModel("gru", 3, 4, 5, 1, dropout=0.0)
    with pytest.raises(WrongUse, match="3 words are too few for 4 streams"):
        list(RunningText(text([0, 1, 2])).losses(net, 4, generator()))


def half(rate: float) -> Mapping[str, Projection]:
    """Keeps rows 0 to 24 / rate of the 24 of a gate matrix, whatever their size."""

    def project(weight: Tensor) -> Tensor:
        kept = torch.arange(len(weight)) < len(weight) / rate
        return weight * kept[:, None]

    return {"recurrent.weight_ih_l0": project, "recurrent.weight_hh_l0": project}


def test_admm_draws_the_weights_towards_the_set() -> None:
    def outside(rho: float) -> tuple[float, list[float]]:
        """Norm of the weights that the set wants to be zero, after ADMM, and the residual of every round."""
        net = classifier()
        recipe = replace(RECIPE, rho=rho, rounds=10, admm_learning_rate=0.01)
        task = LabelledSequences(sequences())
        rounds = list(admm_prune(net, task, half, 2.0, recipe, generator()))
        norm = gate_matrices(net)["recurrent.weight_hh_l0"][12:].detach().norm().item()
        return norm, [step.residual for step in rounds]

    norm, residuals = outside(1.0)
    assert len(residuals) == 10
    assert residuals[-1] < residuals[0]
    assert norm < 0.75 * outside(0.0)[0]


def test_stages_approach_the_rate() -> None:
    asked: list[float] = []

    def noted(rate: float) -> Mapping[str, Projection]:
        asked.append(rate)
        return half(rate)

    recipe = replace(RECIPE, stages=3, rounds=2)
    rounds = list(admm_prune(classifier(), LabelledSequences(sequences()), noted, 8.0, recipe, generator()))
    assert asked == pytest.approx([2.0, 4.0, 8.0])
    assert len(rounds) == 6


def test_without_rounds_nothing_moves_before_the_cut() -> None:
    net = classifier()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    recipe = replace(RECIPE, rounds=0)
    assert list(admm_prune(net, LabelledSequences(sequences()), half, 2.0, recipe, generator())) == []
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_retraining_keeps_pruned_weights_at_zero_and_learns() -> None:
    net, task = classifier(), LabelledSequences(sequences())
    matrices = gate_matrices(net)
    masks = {name: torch.rand(matrix.shape, generator=generator()) < 0.5 for name, matrix in matrices.items()}
    zeros = {name: torch.zeros_like(matrix) for name, matrix in matrices.items()}
    losses = list(retrain(net, task, Masks(matrices, masks, zeros), RECIPE, generator()))
    assert losses[-1] < losses[0]
    for name, matrix in gate_matrices(net).items():
        assert not matrix[masks[name]].any()
        assert matrix[~masks[name]].all()


def test_a_training_that_diverges_says_so() -> None:
    net = classifier()
    with torch.no_grad():
        net.head.bias.fill_(math.nan)
    with pytest.raises(ReproError, match="loss is nan in epoch 1 of 12: lower the learning rate"):
        list(train(net, LabelledSequences(sequences()), RECIPE, generator()))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", -1, "epochs of a recipe must be at least 0, not -1"),
        ("stages", 0, "stages of a recipe must be at least 1, not 0"),
        ("batch_size", 0, "batch_size of a recipe must be at least 1"),
        ("learning_rate", 0.0, "learning_rate of a recipe must be a positive number"),
        ("clip", math.inf, "clip of a recipe must be a positive number"),
        ("rho", -0.1, "rho of a recipe must be a number of at least 0"),
        ("rho", math.nan, "rho of a recipe must be a number of at least 0"),
    ],
)
def test_impossible_recipes_are_refused(field: str, value: float, message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        replace(RECIPE, **{field: value})  # type: ignore[arg-type]


def test_perplexity_is_the_exponential_of_the_loss() -> None:
    assert Score(10.0, math.log(80.66)).perplexity == pytest.approx(80.66)
