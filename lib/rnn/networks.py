"""Recurrent networks over padded sequences: GRU, LSTM and Li-GRU, one decision per sequence, frame or word.

All are unidirectional, so that frames after the end of a sequence cannot change what is read before it.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from lib.errors import WrongUse

Cell = Literal["gru", "lstm", "ligru"]
State = Tensor | tuple[Tensor, Tensor]
"""Hidden state of a GRU, or hidden and cell state of an LSTM, each (layer, batch, hidden)."""


class LiGRU(nn.Module):
    """Light gated recurrent unit (Ravanelli et al. 2018, https://arxiv.org/abs/1803.10225, equations 7 to 9).

    z_t = sigmoid(BN(W_z x_t) + U_z h_{t-1}),  c_t = relu(BN(W_h x_t) + U_h h_{t-1}), h_t = z_t h_{t-1} + (1
    - z_t) c_t: a GRU without reset gate, with batch normalisation of what comes from below. `weight_ih_l{k}
    (2 hidden, inputs)` and `weight_hh_l{k} (2 hidden, hidden)` hold W and U, the rows of z first.
    Statistics are taken over the frames within each sequence's length.
    """

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.hidden, self.layers = hidden, layers
        for layer in range(layers):
            below = inputs if layer == 0 else hidden
            self.register_parameter(f"weight_ih_l{layer}", Parameter(torch.empty(2 * hidden, below)))
            self.register_parameter(f"weight_hh_l{layer}", Parameter(torch.empty(2 * hidden, hidden)))
        self.norms = nn.ModuleList(nn.BatchNorm1d(2 * hidden) for _ in range(layers))
        for name, weight in self.named_parameters():
            if name.startswith("weight"):
                nn.init.uniform_(weight, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Hidden states `(batch, frame, hidden)` of the last layer."""
        inside = inside_length(lengths, frames.shape[1])
        below = frames
        for layer, norm in enumerate(self.norms):
            from_below = below @ self.get_parameter(f"weight_ih_l{layer}").T
            normed = torch.zeros_like(from_below)
            normed[inside] = norm(from_below[inside])
            recurrent = self.get_parameter(f"weight_hh_l{layer}").T
            state = frames.new_zeros(len(frames), self.hidden)
            states = []
            for step in normed.unbind(1):
                update, candidate = (step + state @ recurrent).chunk(2, dim=-1)
                update = torch.sigmoid(update)
                state = update * state + (1 - update) * torch.relu(candidate)
                states.append(state)
            below = torch.stack(states, dim=1)
        return below


class SequenceClassifier(nn.Module):
    """Recurrent layers and a linear decision: per sequence from its last hidden state, or per frame.

    Raises WrongUse for an unknown cell or a size below 1.
    """

    def __init__(
        self, cell: Cell, inputs: int, hidden: int, layers: int, classes: int, *, framewise: bool = False
    ) -> None:
        super().__init__()
        self.cell: Cell = cell
        self.framewise = framewise
        self.recurrent = _recurrent(cell, inputs, hidden, layers)
        self.head = nn.Linear(hidden, classes)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(batch, class)`, or `(batch, frame, class)` if framewise (meaningless past the length).

        `frames (batch, frame, input)` are padded; `lengths (batch,)` counts from 1. Raises WrongUse for
        lengths that do not fit.
        """
        if lengths.shape != (len(frames),) or not bool(((lengths >= 1) & (lengths <= frames.shape[1])).all()):
            raise WrongUse(
                f"lengths must be {len(frames)} numbers from 1 to {frames.shape[1]}, one per sequence"
            )
        if isinstance(self.recurrent, LiGRU):
            states = self.recurrent(frames, lengths)
        else:
            states, _ = self.recurrent(frames)
        if not self.framewise:
            states = states[torch.arange(len(states), device=states.device), lengths.to(states.device) - 1]
        logits: Tensor = self.head(states)
        return logits


class LanguageModel(nn.Module):
    """Next-word model: embedding, recurrent layers, linear layer over the vocabulary; dropout between them.

    The shape of Zaremba et al. 2014 (https://arxiv.org/abs/1409.2329); Li-GRU is left out, since its
    normalisation would look at words to come. Raises WrongUse for an unknown cell or a size below 1.
    """

    def __init__(
        self,
        cell: Literal["gru", "lstm"],
        words: int,
        embedding: int,
        hidden: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if cell not in ("gru", "lstm"):
            raise WrongUse(f"a language model is made of gru or lstm, not {cell!r}")
        _check_sizes(words=words, embedding=embedding)
        self.cell = cell
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(words, embedding)
        self.recurrent = _recurrent(cell, embedding, hidden, layers, dropout=dropout)
        self.head = nn.Linear(hidden, words)

    def forward(self, words: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits `(batch, word, vocabulary)` of each next word, and the state to go on from.

        `words (batch, word)` are indices. The state returned carries no gradient.
        """
        states, last = self.recurrent(self.dropout(self.embedding(words)), state)
        logits = self.head(self.dropout(states))
        return logits, (last.detach() if isinstance(last, Tensor) else tuple(part.detach() for part in last))


def gate_matrices(network: nn.Module) -> dict[str, Parameter]:
    """The weight matrices of recurrent layers by name, (gates * hidden, inputs or hidden), gates stacked.

    Raises WrongUse if the network has none.
    """
    found = {
        name: parameter
        for name, parameter in network.named_parameters()
        if name.rpartition(".")[2].startswith(("weight_ih_l", "weight_hh_l"))
    }
    if not found:
        raise WrongUse(f"{type(network).__name__} has no recurrent layer with weight_ih_l0 and weight_hh_l0")
    return found


def inside_length(lengths: Tensor, frames: int) -> Tensor:
    """(batch, frame), True within each sequence's length."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def _recurrent(cell: str, inputs: int, hidden: int, layers: int, *, dropout: float = 0.0) -> nn.Module:
    _check_sizes(inputs=inputs, hidden=hidden, layers=layers)
    if cell == "ligru":
        return LiGRU(inputs, hidden, layers)
    if cell not in ("gru", "lstm"):
        raise WrongUse(f"unknown cell {cell!r}; known: {', '.join(get_args(Cell))}")
    kind = nn.GRU if cell == "gru" else nn.LSTM
    # torch warns about dropout without a layer to follow
    return kind(inputs, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise WrongUse(f"{name} must be at least 1, not {size}")
