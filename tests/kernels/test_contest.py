"""Rows of the benchmark: all rivals are there, wrong ones are refused. Times are never looked at."""

import math

import pytest
import torch
from torch import nn

from lib.errors import ReproError
from lib.kernels.compiler import compile_matrix
from lib.kernels.contest import check, gru_row, network_row, numpy_step, product_bound, product_row, without
from lib.kernels.limits import SIZES_KB, Limits
from lib.kernels.peers import PEERS, SPARSE, Peer, export
from lib.kernels.toolchain import Toolchain

MACHINE = Limits(1e11, dict.fromkeys(SIZES_KB, 1e11))


@pytest.fixture
def weight() -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(32, 48, generator=rng) * (torch.rand(32, 48, generator=rng) < 0.2)


@pytest.mark.parametrize("columns", [1, 64])
def test_a_product_meets_its_rivals(toolchain: Toolchain, weight: torch.Tensor, columns: int) -> None:
    row = product_row(weight, columns, MACHINE, toolchain, 1)
    dense, csr = (
        ("torch dense", "numpy dense"),
        ("scipy CSR", "torch CSR int64", "torch CSR int32", "gcc CSR"),
    )
    assert set(row["us"]) == {*dense, *csr, "compiled fp32", "compiled int8"}
    assert row["rate"] == weight.numel() / int(weight.count_nonzero())
    best = min(row["us"][name] for name in dense)
    assert math.isclose(row["over dense"], best / row["us"]["compiled fp32"])
    assert math.isclose(row["most over dense"] * row["of limit"], row["over dense"])


def test_the_bound_of_a_product_by_hand(toolchain: Toolchain) -> None:
    matrix = compile_matrix(torch.ones(4, 64))
    slow_arithmetic = Limits(1.0, dict.fromkeys(SIZES_KB, 1e30))
    assert product_bound(matrix, 64, slow_arithmetic) == (2.0 * 4 * 64 * 64, "arithmetic")
    slow_cache = Limits(1e30, dict.fromkeys(SIZES_KB, 1.0))
    pack = matrix.bands.pack
    bytes_read = pack.weights.nbytes + pack.index_bytes + 64 * 64 * 4  # one band: every row is loaded once
    assert product_bound(matrix, 64, slow_cache) == (bytes_read, "cache bandwidth")


def test_a_wrong_rival_is_refused() -> None:
    one = torch.ones(4)
    check("right", one, one, 0.0)
    for wrong in (one * 1.1, one * math.nan):
        with pytest.raises(ReproError, match="some rival is wrong"):
            check("some rival", wrong, one, 1e-3)


def test_numpy_computes_a_step_of_the_gru() -> None:
    gru, x, state = nn.GRU(5, 7, num_layers=2), torch.randn(1, 1, 5), torch.randn(2, 1, 7)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(numpy_step(gru, x, state)()), gru(x, state)[0].flatten())


def test_a_recurrent_step(toolchain: Toolchain) -> None:
    row = gru_row(nn.GRU(5, 16, num_layers=2).eval(), nn.GRU(5, 16, num_layers=2).eval(), 1)
    assert set(row["us"]) == {"torch dense", "numpy dense", "compiled fp32", "compiled int8"}
    assert row["over dense"] > 0


def test_a_network_without_peers_meets_torch(toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PEERS:
        monkeypatch.setitem(PEERS, name, Peer(("no_such_package",), PEERS[name].load))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    row = network_row(model, torch.randn(1, 3, 8, 8), 1)
    assert set(row["ms"]) == {"torch", "compiled"}
    assert row["best dense"] == "torch"
    assert "over sparse" not in row


@pytest.mark.parametrize("name", PEERS)
def test_an_installed_peer_computes_the_same(name: str, tmp_path: object) -> None:
    peer = PEERS[name]
    if peer.missing:
        pytest.skip(f"{name} is not installed: {', '.join(peer.missing)}")
    from pathlib import Path

    model, x = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()).eval(), torch.randn(1, 3, 12, 12)
    with torch.no_grad():
        found = torch.as_tensor(peer.load(export(model, x, Path(str(tmp_path)) / "small.onnx"))())
        torch.testing.assert_close(found.reshape(1, 8, 12, 12), model(x), rtol=1e-2, atol=1e-3)


def test_missing_packages_are_named() -> None:
    assert Peer(("torch", "no_such_package"), lambda _: list).missing == ("no_such_package",)  # type: ignore[arg-type,return-value]


def test_sparse_peers_are_peers_and_rests_keep_their_order() -> None:
    assert set(SPARSE) <= set(PEERS)
    assert list(without({"c": 1, "a": 2, "b": 3}, ("a",)).items()) == [("c", 1), ("b", 3)]
