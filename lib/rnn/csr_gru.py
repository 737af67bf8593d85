"""A GRU on PyTorch's compressed sparse rows: the library baseline of the compiled ones."""

import warnings

import torch
from torch import Tensor, nn


class CsrGRU(nn.Module):
    """`network` with its gate matrices in compressed sparse rows; the outputs are equal to rounding.

    Only unidirectional, batch-first networks of one utterance at a time, as everywhere in this family. Raises
    ValueError for others.
    """

    def __init__(self, network: nn.GRU) -> None:
        super().__init__()
        if network.bidirectional or not network.batch_first:
            raise ValueError("only unidirectional batch-first GRUs run in compressed sparse rows here")
        self.hidden, self.layers = network.hidden_size, network.num_layers
        self.matrices: list[tuple[Tensor, Tensor]] = []
        self.biases: list[tuple[Tensor, Tensor]] = []
        zero = torch.zeros(3 * self.hidden)
        for layer in range(self.layers):
            weights = [getattr(network, f"weight_{kind}_l{layer}").detach() for kind in ("ih", "hh")]
            self.matrices.append((compressed_rows(weights[0]), compressed_rows(weights[1])))
            biases = [getattr(network, f"bias_{kind}_l{layer}", zero) for kind in ("ih", "hh")]
            self.biases.append((biases[0].detach(), biases[1].detach()))

    @torch.no_grad()
    def forward(self, frames: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (1, frame, hidden) and the last state (layer, 1, hidden) of `frames` (1, frame, input)."""
        if frames.ndim != 3 or frames.shape[0] != 1:
            raise ValueError(f"frames must be (1, frame, input), not {tuple(frames.shape)}")
        below, last = frames[0], []
        for layer, ((w_ih, w_hh), (b_ih, b_hh)) in enumerate(zip(self.matrices, self.biases, strict=True)):
            h = torch.zeros(self.hidden) if state is None else state[layer, 0]
            outputs = []
            for from_below in (w_ih @ below.T).T + b_ih:
                r_x, z_x, n_x = from_below.chunk(3)
                r_h, z_h, n_h = (w_hh @ h + b_hh).chunk(3)
                z = torch.sigmoid(z_x + z_h)
                n = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
                h = n + z * (h - n)
                outputs.append(h)
            below = torch.stack(outputs)
            last.append(h)
        return below[None], torch.stack(last)[:, None]


def compressed_rows(weight: Tensor) -> Tensor:
    """`weight (P, Q)` in compressed sparse rows with 32-bit indices, the faster ones for one vector."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        found = weight.to_sparse_csr()
        rows, columns = found.crow_indices().int(), found.col_indices().int()
        return torch.sparse_csr_tensor(rows, columns, found.values(), found.shape, check_invariants=True)
