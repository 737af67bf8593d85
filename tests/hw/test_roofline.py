"""The roofline against hand arithmetic, and the directions in which it may never err."""

import pytest
import torch
from torch import nn

from hw_models import (
    Device,
    DeviceError,
    HardwareModelError,
    Workload,
    device_names,
    estimate,
    load_device,
    trace,
)
from hw_models.quantity import Quantity


def quantity(value: float, unit: str, low: float | None = None, high: float | None = None) -> Quantity:
    return Quantity(value=value, unit=unit, confidence="derived", basis="test", low=low, high=high)


def toy(
    peak: float = 10,
    bandwidth: float = 5,
    utilisation: float = 0.5,
    launch: float = 2,
    low: float | None = None,
    high: float | None = None,
) -> Device:
    return Device(
        name="toy",
        title="toy",
        kind="cpu",
        peak={32: quantity(peak, "GOP/s"), 16: quantity(2 * peak, "GOP/s")},
        bandwidth=quantity(bandwidth, "GB/s"),
        utilisation=quantity(utilisation, "fraction", low, high),
        launch=quantity(launch, "us"),
    )


def linear(rows: int = 100, inputs: int = 200, outputs: int = 300) -> Workload:
    return trace(nn.Linear(inputs, outputs, bias=False), torch.empty(rows, inputs))


@pytest.fixture(scope="module")
def network() -> Workload:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
    )
    return trace(module, torch.empty(1, 3, 8, 8))


def test_compute_bound_by_hand() -> None:
    (layer,) = estimate(linear(), toy()).layers
    assert layer.compute_ms == pytest.approx(1e3 * 2 * 100 * 200 * 300 / (10e9 * 0.5))
    assert layer.memory_ms == pytest.approx(1e3 * 4 * (100 * 200 + 200 * 300 + 100 * 300) / 5e9)
    assert layer.latency_ms == pytest.approx(layer.compute_ms + 0.002)
    assert layer.bound == "compute"


def test_memory_bound_by_hand() -> None:
    (layer,) = estimate(linear(rows=1), toy(bandwidth=0.1)).layers
    assert layer.latency_ms == pytest.approx(1e3 * 4 * (200 + 60_000 + 300) / 0.1e9 + 0.002)
    assert layer.bound == "memory"


def test_overhead_bound() -> None:
    estimated = estimate(linear(1, 2, 3), toy())
    assert estimated.layers[0].bound == "overhead"
    assert estimated.latency_ms == pytest.approx(0.002, rel=0.02)


def test_total_is_the_sum_of_the_layers(network: Workload) -> None:
    estimated = estimate(network, toy())
    assert len(estimated.layers) == len(network.layers)
    assert estimated.latency_ms == pytest.approx(sum(layer.latency_ms for layer in estimated.layers))
    assert estimated.macs == network.macs


def test_batch_grows_work_and_activations_and_reads_weights_once() -> None:
    (one,), (eight,) = (estimate(linear(), toy(), batch=batch).layers for batch in (1, 8))
    assert eight.macs == 8 * one.macs
    assert eight.compute_ms == pytest.approx(8 * one.compute_ms)
    assert eight.bytes == 4 * (8 * (100 * 200 + 100 * 300) + 200 * 300)


def test_batch_equals_a_traced_batch() -> None:
    assert estimate(linear(rows=1), toy(), batch=7).latency_ms == pytest.approx(
        estimate(linear(rows=7), toy()).latency_ms
    )


def test_bits_choose_peak_and_bytes() -> None:
    (wide,), (narrow,) = (estimate(linear(), toy(), bits=bits).layers for bits in (32, 16))
    assert narrow.compute_ms == pytest.approx(wide.compute_ms / 2)
    assert narrow.bytes == wide.bytes / 2


def test_arithmetic_runs_at_the_wider_operand() -> None:
    mixed = linear().at_bits(weight=8, activation=16)
    assert next(iter(estimate(mixed, toy()).constants)) == "peak at 16 bits"
    with pytest.raises(DeviceError, match=r"peak\.8"):
        estimate(linear(), toy(), bits=8)


def test_range_follows_from_the_ranges_of_the_constants() -> None:
    estimated = estimate(linear(), toy(low=0.25, high=1.0))
    (layer,) = estimated.layers
    assert estimated.low_ms == pytest.approx(layer.compute_ms / 2 + 0.002)
    assert estimated.high_ms == pytest.approx(layer.compute_ms * 2 + 0.002)


def test_memory_bound_range_follows_from_the_bandwidth() -> None:
    slow = toy(launch=1).model_copy(update={"bandwidth": quantity(0.1, "GB/s", low=0.05, high=0.2)})
    estimated = estimate(linear(rows=1), slow)
    memory_ms = estimated.layers[0].memory_ms
    assert estimated.low_ms == pytest.approx(memory_ms / 2 + 0.001)
    assert estimated.high_ms == pytest.approx(memory_ms * 2 + 0.001)


def test_no_range_without_ranges(network: Workload) -> None:
    estimated = estimate(network, toy())
    assert estimated.low_ms == estimated.latency_ms == estimated.high_ms


@pytest.mark.parametrize("better", [{"peak": 20}, {"bandwidth": 10}, {"utilisation": 1.0}, {"launch": 1}])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_a_better_device_is_never_slower(better: dict[str, float], rows: int) -> None:
    workload = linear(rows=rows)
    assert estimate(workload, toy(**better)).latency_ms <= estimate(workload, toy()).latency_ms


@pytest.mark.parametrize("bigger", [{"rows": 101}, {"inputs": 201}, {"outputs": 301}])
@pytest.mark.parametrize("device", device_names())
def test_more_work_is_never_faster(bigger: dict[str, int], device: str) -> None:
    small, large = (estimate(linear(**sizes), load_device(device), bits=16) for sizes in ({}, bigger))
    assert large.latency_ms >= small.latency_ms
    assert large.low_ms >= small.low_ms
    assert large.high_ms >= small.high_ms


@pytest.mark.parametrize("device", device_names())
def test_times_are_positive_and_inside_their_range(device: str, network: Workload) -> None:
    for layer in estimate(network, load_device(device), batch=3, bits=16).layers:
        assert 0 < layer.low_ms <= layer.latency_ms <= layer.high_ms
        assert layer.compute_ms >= 0
        assert layer.memory_ms > 0


def test_no_operation_beats_the_peak(network: Workload) -> None:
    estimated = estimate(network, toy(utilisation=1.0))
    assert estimated.latency_ms >= 1e3 * network.ops / 10e9


@pytest.mark.parametrize(("batch", "bits"), [(0, 32), (-1, 32), (1, 0)])
def test_impossible_request_is_refused(batch: int, bits: int) -> None:
    with pytest.raises(HardwareModelError, match=r"batch must be|must be positive"):
        estimate(linear(), toy(), batch=batch, bits=bits)


def test_estimate_tells_what_it_rests_on_and_what_it_lacks() -> None:
    with pytest.warns(UserWarning, match="not counted"):
        workload = trace(nn.Bilinear(3, 4, 5), torch.empty(2, 3), torch.empty(2, 4))
    text = str(estimate(workload, load_device("adreno_640")))
    assert "ARITHMETIC NOT COUNTED: aten._trilinear" in text
    assert "utilisation: 0.25 fraction (0.14 to 0.45), assumed" in text


def test_table_has_a_row_per_operation(network: Workload) -> None:
    rows = estimate(network, toy()).table()
    assert [row["name"] for row in rows] == [layer.name for layer in network.layers]
    assert {row["bound"] for row in rows} <= {"compute", "memory", "overhead"}


def test_empty_workload_takes_no_time() -> None:
    assert estimate(trace(nn.Identity(), torch.empty(1)), toy()).latency_ms == 0
