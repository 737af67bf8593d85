"""The GRU in compressed sparse rows computes what PyTorch's does."""

import pytest
import torch
from torch import nn

from lib.rnn.csr_gru import CsrGRU, compressed_rows


@pytest.mark.parametrize(("bias", "layers", "frames"), [(True, 1, 1), (False, 2, 5), (True, 3, 2)])
@pytest.mark.parametrize("given_state", [True, False])
def test_outputs_equal_the_dense_network(bias: bool, layers: int, frames: int, given_state: bool) -> None:
    torch.manual_seed(0)
    network = nn.GRU(5, 7, layers, bias=bias, batch_first=True)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "weight" in name:
                weight[torch.rand_like(weight) < 0.7] = 0
    x = torch.randn(1, frames, 5)
    state = torch.randn(layers, 1, 7) if given_state else None
    outputs, last = CsrGRU(network)(x, state)
    expected, expected_last = network(x, state)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(last, expected_last)


def test_a_matrix_of_zeros_has_no_entry() -> None:
    rows = compressed_rows(torch.zeros(3, 4))
    assert rows.values().numel() == 0
    assert not (rows @ torch.ones(4)).any()


def test_indices_are_32_bits_wide() -> None:
    assert compressed_rows(torch.eye(3)).col_indices().dtype is torch.int32


def test_what_it_cannot_run_is_refused() -> None:
    with pytest.raises(ValueError, match="batch-first"):
        CsrGRU(nn.GRU(2, 3, batch_first=False))
    with pytest.raises(ValueError, match="unidirectional"):
        CsrGRU(nn.GRU(2, 3, batch_first=True, bidirectional=True))
    with pytest.raises(ValueError, match="frames"):
        CsrGRU(nn.GRU(2, 3, batch_first=True))(torch.ones(2, 4, 2))
