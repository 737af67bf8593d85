"""Recurrent networks: padding that changes nothing, the equations of Li-GRU, and sizes that make no sense."""

import pytest
import torch
from torch import nn

from lib.errors import WrongUse
from lib.rnn.networks import Cell, LanguageModel, LiGRU, SequenceClassifier, gate_matrices, inside_length

CELLS: tuple[Cell, ...] = ("gru", "lstm", "ligru")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(cell: Cell, *, layers: int = 2, framewise: bool = False) -> SequenceClassifier:
    torch.manual_seed(0)
    return SequenceClassifier(cell, 3, 5, layers, 4, framewise=framewise)


@pytest.mark.parametrize("cell", CELLS)
def test_what_lies_after_the_end_changes_nothing(cell: Cell) -> None:
    """Also while Li-GRU takes its statistics from the batch."""
    frames = torch.randn(3, 7, 3, generator=generator())
    lengths = torch.tensor([7, 2, 1])
    other = torch.where(inside_length(lengths, 7)[..., None], frames, 100.0)
    net = network(cell)
    assert torch.equal(net(frames, lengths), net(other, lengths))


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_is_judged_alike_alone_and_in_a_padded_batch(cell: Cell) -> None:
    frames = torch.randn(3, 7, 3, generator=generator())
    lengths = torch.tensor([4, 7, 1])
    net = network(cell).eval()
    together = net(frames, lengths)
    for place, length in enumerate(lengths.tolist()):
        alone = net(frames[place : place + 1, :length], lengths[place : place + 1])
        assert torch.allclose(alone[0], together[place], atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_the_last_frame_decides_for_the_sequence(cell: Cell) -> None:
    frames = torch.randn(2, 6, 3, generator=generator())
    lengths = torch.tensor([6, 3])
    whole, framewise = network(cell).eval(), network(cell, framewise=True).eval()
    logits = framewise(frames, lengths)
    assert logits.shape == (2, 6, 4)
    assert torch.allclose(whole(frames, lengths), logits[torch.arange(2), lengths - 1], atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_reach_every_parameter(cell: Cell) -> None:
    net = network(cell)
    net(torch.randn(4, 6, 3, generator=generator()), torch.tensor([6, 6, 3, 2])).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("cell", "gates"), [("gru", 3), ("lstm", 4), ("ligru", 2)])
def test_gate_matrices_are_the_weights_of_the_recurrent_layers(cell: Cell, gates: int) -> None:
    net = network(cell)
    shapes = {name: tuple(matrix.shape) for name, matrix in gate_matrices(net).items()}
    assert shapes == {
        "recurrent.weight_ih_l0": (gates * 5, 3),
        "recurrent.weight_hh_l0": (gates * 5, 5),
        "recurrent.weight_ih_l1": (gates * 5, 5),
        "recurrent.weight_hh_l1": (gates * 5, 5),
    }
    own = dict(net.named_parameters())
    assert all(matrix is own[name] for name, matrix in gate_matrices(net).items())


def test_the_two_layer_gru_of_1024_has_the_papers_weights() -> None:
    """CSB-RNN's Table 1: 39 inputs, 3,265,536 and 6,291,456 weights."""
    with torch.device("meta"):
        net = SequenceClassifier("gru", 39, 1024, 2, 39, framewise=True)
    assert sum(matrix.numel() for matrix in gate_matrices(net).values()) == 9_556_992


def test_ligru_worked_out_by_hand() -> None:
    """One unit, two frames, normalisation in evaluation mode with mean 0 and variance 1."""
    cell = LiGRU(1, 1, 1)
    with torch.no_grad():
        cell.get_parameter("weight_ih_l0").copy_(torch.tensor([[0.0], [2.0]]))
        cell.get_parameter("weight_hh_l0").copy_(torch.tensor([[0.0], [1.0]]))
    norm = cell.norms[0]
    assert isinstance(norm, nn.BatchNorm1d)
    norm.eps = 0.0
    cell.eval()
    states = cell(torch.tensor([[[1.0], [3.0]]]), torch.tensor([2]))
    # z = 1/2 throughout; c_1 = relu(2), h_1 = 1; c_2 = relu(6 + 1), h_2 = 1/2 + 7/2
    assert states.flatten().tolist() == pytest.approx([1.0, 4.0])


def test_ligru_takes_its_statistics_within_the_lengths() -> None:
    cell = LiGRU(1, 1, 1)
    frames = torch.tensor([[[1.0], [2.0]], [[6.0], [50.0]]])
    cell(frames, torch.tensor([2, 1]))
    norm = cell.norms[0]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    expected = cell.get_parameter("weight_ih_l0")[:, 0] * 3.0 * 0.1
    assert torch.allclose(norm.running_mean, expected)


def test_a_language_model_reads_on_from_its_state() -> None:
    torch.manual_seed(0)
    for cell in ("gru", "lstm"):
        net = LanguageModel(cell, 11, 4, 5, 2, dropout=0.5).eval()
        words = torch.randint(11, (3, 6), generator=generator())
        whole, _ = net(words)
        first, state = net(words[:, :2])
        second, _ = net(words[:, 2:], state)
        assert whole.shape == (3, 6, 11)
        assert torch.allclose(whole, torch.cat([first, second], dim=1), atol=1e-6)
        parts = state if isinstance(state, tuple) else (state,)
        assert not any(part.requires_grad for part in parts)


def test_a_language_model_sees_no_later_word() -> None:
    torch.manual_seed(0)
    net = LanguageModel("gru", 11, 4, 5, 1, dropout=0.0)
    words = torch.tensor([[1, 2, 3]])
    assert torch.equal(net(words)[0][:, :2], net(torch.tensor([[1, 2, 9]]))[0][:, :2])


@pytest.mark.parametrize("lengths", [[0, 2], [3, 2], [2], [[2, 2]]])
def test_impossible_lengths_are_refused(lengths: list[int]) -> None:
    with pytest.raises(WrongUse, match="lengths must be 2 numbers from 1 to 2"):
        network("gru")(torch.zeros(2, 2, 3), torch.tensor(lengths))


def test_unknown_cells_and_sizes_are_refused() -> None:
    with pytest.raises(WrongUse, match="unknown cell 'rnn'; known: gru, lstm, ligru"):
        SequenceClassifier("rnn", 3, 5, 1, 4)  # type: ignore[arg-type]
    with pytest.raises(WrongUse, match="hidden must be at least 1, not 0"):
        SequenceClassifier("gru", 3, 0, 1, 4)
    with pytest.raises(WrongUse, match="made of gru or lstm, not 'ligru'"):
        LanguageModel("ligru", 11, 4, 5, 1, 0.0)  # type: ignore[arg-type]
    with pytest.raises(WrongUse, match="words must be at least 1, not 0"):
        LanguageModel("gru", 0, 4, 5, 1, 0.0)
    with pytest.raises(WrongUse, match="Linear has no recurrent layer"):
        gate_matrices(nn.Linear(2, 2))
