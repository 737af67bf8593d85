"""What is timed is what is said to be timed; no assertion on how long it takes."""

import pytest
import torch
from torch import nn

from lib.errors import WrongUse
from lib.lab.measure import Latency
from lib.rnn import layer_times
from lib.rnn.grim import BlockColumnRow
from lib.rnn.gru_latency import HostTimes, host_times, prune_network


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_pruned_network_has_zeros_where_the_masks_say_and_the_original_has_not() -> None:
    network = nn.GRU(12, 16, 2, batch_first=True)
    before = network.get_parameter("weight_hh_l0").detach().clone()
    pruned, masks = prune_network(network, BlockColumnRow(4, 4), 4)
    assert set(masks) == {"weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"}
    for name, mask in masks.items():
        assert torch.equal(pruned.get_parameter(name) != 0, mask)
    assert torch.equal(network.get_parameter("weight_hh_l0"), before)
    assert torch.equal(pruned.get_parameter("bias_hh_l0"), network.get_parameter("bias_hh_l0"))


@pytest.mark.usefixtures("compiler")
def test_host_times_have_every_contender() -> None:
    network = nn.GRU(12, 16, 1, batch_first=True)
    found = host_times(network, BlockColumnRow(4, 4), (2.0, 4.0), (2.0,), 3, generator(), burst_s=0.0)
    assert set(found.step) == {"dense", "csr_2", "compiled_2", "compiled_4"}
    assert set(found.utterance) == {"dense", "csr_2", "compiled_2"}
    assert set(found.masks) == {2.0, 4.0}
    assert found.step_us("dense") == 1e6 * found.step["dense"].minimum_s
    for rate, masks in found.masks.items():
        kept = sum(int(mask.sum()) for mask in masks.values())
        assert sum(mask.numel() for mask in masks.values()) / kept == pytest.approx(rate, rel=0.05)


def test_times_over_dense_by_hand() -> None:
    def latency(seconds: float) -> Latency:
        return Latency(seconds, seconds, 0.0, 1)

    step = {
        "dense": latency(8.0),
        "csr_2": latency(4.0),
        "compiled_2": latency(2.0),
        "compiled_4": latency(1.0),
    }
    utterance = {"dense": latency(10.0), "csr_2": latency(20.0), "compiled_2": latency(1.0)}
    assert HostTimes(step, utterance, {}).over_dense(2.0) == {
        "step csr": 0.5,
        "step compiled": 0.25,
        "utterance csr": 2.0,
        "utterance compiled": 0.1,
    }


def test_a_network_without_a_rate_to_time_is_refused() -> None:
    with pytest.raises(WrongUse, match="at least one"):
        host_times(nn.GRU(2, 3, batch_first=True), BlockColumnRow(1, 1), (), (), 1, generator(), burst_s=0.0)


@pytest.mark.usefixtures("compiler")
def test_compiled_products_of_a_layer_equal_the_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layer_times.LAYERS, "tiny", (33, 27, 5))
    found = layer_times.layer_times("tiny", 4, (4, 8), generator(), burst_s=0.0)
    assert set(found.us) == {"dense", "csr", "compiled_dense", "unstructured", "bcr"}
    assert found.gap < 1e-4
    total = found.us["dense"] / found.us["bcr"]
    assert found.compiler_gain * found.pruning_gain == pytest.approx(total)


@pytest.mark.usefixtures("compiler")
def test_blocks_are_timed_under_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layer_times.LAYERS, "tiny", (33, 27, 1))
    weight = torch.randn(33, 27, generator=generator())
    found = layer_times.block_times(
        "tiny",
        4,
        {"a": (weight, (4, 8)), "b": (weight, (8, 8))},
        generator(),
        burst_s=0.0,
    )
    assert set(found) == {"a", "b"}


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(WrongUse, match="resnet18"):
        layer_times.layer_times("conv9", 4, (4, 8), torch.Generator(), burst_s=0.0)
