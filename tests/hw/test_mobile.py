"""The roofline of processors against hand arithmetic, and the directions in which it may never err."""

from typing import Any

import pytest
import torch
from torch import nn

from hw_models import Device, DeviceError, Sparsity, Workload, device_names, estimate, load_device, trace
from hw_models.device import Cache
from hw_models.mobile import layer_estimates
from hw_models.result import LayerEstimate
from hw_models.workload import Layer
from tests.hw.toys import attention, convolution, gemm, other, processor, quantity, workload

PROCESSORS = [name for name in device_names() if load_device(name).kind != "fpga"]
RATE = 10e9 * 0.5
"""Operations a second of the toy at 32 bits; half of it at 100 outputs, or at sums of 10."""


def of(layer: Layer, device: Device | None = None, batch: int = 1) -> LayerEstimate:
    (found,) = layer_estimates(workload(layer), device or processor(), batch)
    return found


def cache(capacity: float, bandwidth: float) -> Cache:
    return Cache(capacity=quantity(capacity, "KB"), bandwidth=quantity(bandwidth, "GB/s"))


@pytest.fixture(scope="module")
def network() -> Workload:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
    )
    return trace(module, torch.empty(1, 3, 8, 8))


def test_compute_bound_by_hand() -> None:
    found = of(gemm(100, 200, 300, bits=32))
    shape = (1 + 100 / (100 * 300)) * (1 + 10 / 200)
    assert found.compute_ms == pytest.approx(1e3 * 2 * 100 * 200 * 300 * shape / RATE)
    assert found.memory_ms == pytest.approx(1e3 * 4 * (100 * 200 + 200 * 300 + 100 * 300) / 5e9)
    assert found.latency_ms == pytest.approx(found.compute_ms + 0.002)
    assert found.bound == "compute"


def test_memory_bound_by_hand() -> None:
    found = of(gemm(1, 200, 300, bits=32), processor(bandwidth=quantity(0.1, "GB/s")))
    assert found.latency_ms == pytest.approx(1e3 * 4 * (200 + 60_000 + 300) / 0.1e9 + 0.002)
    assert found.bound == "memory"


def test_starting_takes_longest_by_hand() -> None:
    found = of(gemm(1, 2, 3, bits=32))
    assert (found.bound, found.launch_ms) == ("overhead", pytest.approx(0.002))
    assert found.latency_ms == pytest.approx(0.002 + max(found.compute_ms, found.memory_ms))


def test_half_of_the_rate_at_few_outputs_and_at_short_sums() -> None:
    few, short = of(gemm(1, 10_000, 100, bits=32)), of(gemm(1000, 10, 1000, bits=32))
    assert few.compute_ms == pytest.approx(2 * 1e3 * 2 * 1e6 / RATE, rel=0.002)
    assert short.compute_ms == pytest.approx(2 * 1e3 * 2 * 1e7 / RATE, rel=0.002)


def test_channels_are_rounded_up_to_whole_vectors() -> None:
    """Five channels fill two vectors of four; outputs that nobody asked for keep no lane busy."""
    device = processor(half_outputs=quantity(1e-9, "count"))
    five, eight = (of(gemm(100, 200, n, bits=32), device).compute_ms for n in (5, 8))
    assert five == pytest.approx(eight)


def test_channels_of_all_groups_lie_side_by_side() -> None:
    """Eight groups of one channel each fill two vectors."""
    found = of(convolution(8, 8, (12, 12), groups=8, bits=32))
    shape = (1 + 100 / 800) * (1 + 10 / 9)
    assert found.compute_ms == pytest.approx(1e3 * 2 * 8 * 100 * 9 * shape / RATE)


def test_products_of_two_activations_are_rounded_up_each() -> None:
    device = processor(half_outputs=quantity(1e-9, "count"))
    found = of(gemm(100, 200, 5, batch=3, bits=32, weight=None), device)
    assert found.compute_ms == pytest.approx(1e3 * 2 * 3 * 100 * 200 * 8 * (1 + 10 / 200) / RATE)


def test_attention_takes_both_of_its_products() -> None:
    device = processor(vector=quantity(1, "count"))
    found = of(attention(2, 50, 60, 8, value_width=4, bits=32), device)
    scores = 2 * 2 * 50 * 60 * 8 * (1 + 100 / 6000) * (1 + 10 / 8)
    values = 2 * 2 * 50 * 60 * 4 * (1 + 100 / 400) * (1 + 10 / 60)
    assert found.compute_ms == pytest.approx(1e3 * (scores + values) / RATE)
    assert found.bytes == 4 * (2 * (50 * 8 + 60 * 12) + 2 * 50 * 4)


def test_an_operation_that_is_no_product_by_hand() -> None:
    found = of(other("elementwise", 1000, reads=3000, bits=32))
    assert found.compute_ms == pytest.approx(1e3 * 3000 / RATE)
    assert found.memory_ms == pytest.approx(1e3 * 4 * 4000 / 5e9)


def test_copies_take_memory_alone() -> None:
    assert of(other("memory", 1000)).compute_ms == 0


def test_a_batch_grows_work_and_activations_and_reads_weights_once() -> None:
    one, eight = (of(gemm(1000, 200, 300, bits=32), batch=batch) for batch in (1, 8))
    assert eight.macs == 8 * one.macs
    assert eight.compute_ms == pytest.approx(8 * one.compute_ms, rel=1e-3)
    assert eight.bytes == 4 * (8 * (1000 * 200 + 1000 * 300) + 200 * 300)
    assert eight.launch_ms == one.launch_ms


def test_a_batch_equals_a_traced_batch() -> None:
    assert of(gemm(1, 200, 300), batch=7).latency == of(gemm(7, 200, 300)).latency


def test_activations_that_fit_a_cache_move_at_its_speed() -> None:
    device = processor(caches=[cache(1, 100), cache(10, 50)])
    times = [of(other("memory", size // 2), device).memory_ms for size in (1000, 10_000, 10_002)]
    assert times == pytest.approx([1e3 * 1000 / 100e9, 1e3 * 10_000 / 50e9, 1e3 * 10_002 / 5e9])


def test_weights_stay_in_a_cache_only_if_the_whole_networks_do() -> None:
    device = processor(caches=[cache(10, 50)])
    small = gemm(1, 50, 100)
    (alone,) = layer_estimates(workload(small), device, 1)
    beside, _ = layer_estimates(workload(small, gemm(1, 100, 100, name="other")), device, 1)
    assert alone.memory_ms == pytest.approx(1e3 * 5150 / 50e9)
    assert beside.memory_ms == pytest.approx(1e3 * (150 / 50e9 + 5000 / 5e9))


def test_sparse_weights_save_arithmetic_less_than_their_share() -> None:
    sparsity = Sparsity(structure="row_balanced", density=0.25)
    device = processor(sparse_utilisation={"row_balanced": quantity(0.5, "fraction", 0.25, 1)})
    dense, sparse = of(gemm(100, 256, 128), device), of(gemm(100, 256, 128, sparsity=sparsity), device)
    assert sparse.compute_ms == pytest.approx(dense.compute_ms * 0.25 / 0.5)
    assert sparse.bytes == 100 * (256 + 128) + 256 * 128 / 4 * (1 + 8 / 8)
    assert (sparse.low_ms - 0.002, sparse.high_ms - 0.002) == pytest.approx(
        (sparse.compute_ms / 2, sparse.compute_ms * 2)
    )


def test_density_of_one_is_dense_also_where_the_device_knows_nothing_of_sparsity() -> None:
    whole = Sparsity(structure="unstructured", density=1)
    assert of(gemm(10, 20, 30, sparsity=whole)) == of(gemm(10, 20, 30))


def test_bits_choose_peak_and_bytes() -> None:
    wide, narrow = (of(gemm(100, 200, 300, bits=bits)) for bits in (32, 16))
    assert narrow.compute_ms == pytest.approx(wide.compute_ms / 2)
    assert narrow.bytes == wide.bytes / 2


def test_arithmetic_runs_at_the_wider_operand() -> None:
    mixed = workload(gemm(100, 200, 300)).at_bits(weight=8, activation=16)
    (found,) = layer_estimates(mixed, processor(), 1)
    assert found.compute_ms == of(gemm(100, 200, 300, bits=16)).compute_ms


def test_range_follows_from_the_ranges_of_the_constants() -> None:
    found = of(gemm(100, 200, 300), processor(utilisation=quantity(0.5, "fraction", 0.25, 1)))
    assert found.low_ms == pytest.approx(found.compute_ms / 2 + 0.002)
    assert found.high_ms == pytest.approx(found.compute_ms * 2 + 0.002)


def test_memory_bound_range_follows_from_the_bandwidth() -> None:
    slow = processor(bandwidth=quantity(0.1, "GB/s", low=0.05, high=0.2))
    found = of(gemm(1, 200, 300), slow)
    assert found.low_ms == pytest.approx(found.memory_ms / 2 + 0.002)
    assert found.high_ms == pytest.approx(found.memory_ms * 2 + 0.002)


def test_no_range_without_ranges(network: Workload) -> None:
    for layer in layer_estimates(network, processor(), 1):
        assert layer.low_ms == layer.latency_ms == layer.high_ms


def test_bytes_through_the_caches_lie_between_once_and_once_a_multiplication() -> None:
    on_chip = of(gemm(10, 20, 30)).work.on_chip_bytes
    assert (on_chip.low, on_chip.high) == (10 * 20 + 20 * 30 + 10 * 30, 10 * 20 * 30)
    assert on_chip.value == pytest.approx((on_chip.low * on_chip.high) ** 0.5)


@pytest.mark.parametrize(
    "better",
    [
        {"peak": {8: quantity(80, "GOP/s")}},
        {"bandwidth": quantity(10, "GB/s")},
        {"utilisation": quantity(1, "fraction")},
        {"launch": quantity(1, "us")},
        {"vector": quantity(2, "count")},
        {"half_outputs": quantity(50, "count")},
        {"half_depth": quantity(5, "count")},
        {"caches": [cache(1000, 50)]},
    ],
)
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_a_better_device_is_never_slower(better: dict[str, Any], rows: int) -> None:
    layer = gemm(rows, 200, 301)
    assert of(layer, processor(**better)).latency_ms <= of(layer).latency_ms


@pytest.mark.parametrize("bigger", [{"m": 101}, {"k": 201}, {"n": 301}, {"n": 304}])
@pytest.mark.parametrize("device", PROCESSORS)
def test_more_work_is_never_faster(bigger: dict[str, int], device: str) -> None:
    sizes: dict[str, Any] = {"m": 100, "k": 200, "n": 300}
    small, large = (
        of(gemm(bits=16, **each), load_device(device)).latency for each in (sizes, sizes | bigger)
    )
    assert large.value >= small.value
    assert large.low >= small.low
    assert large.high >= small.high


@pytest.mark.parametrize("device", PROCESSORS)
def test_filling_a_vector_is_never_faster(device: str) -> None:
    """Four channels are more work than one, though both take one vector."""
    one, four = (of(gemm(5000, 64, n, bits=16), load_device(device)).compute_ms for n in (1, 4))
    assert four >= one


@pytest.mark.parametrize("device", PROCESSORS)
def test_times_are_positive_and_inside_their_range(device: str, network: Workload) -> None:
    for layer in estimate(network, load_device(device), batch=3, bits=16).layers:
        assert 0 < layer.low_ms <= layer.latency_ms <= layer.high_ms
        assert layer.compute_ms >= 0
        assert layer.memory_ms > 0


def test_no_operation_beats_the_peak(network: Workload) -> None:
    found = layer_estimates(network, processor(utilisation=quantity(1, "fraction")), 1)
    assert sum(layer.latency_ms for layer in found) >= 1e3 * network.ops / 10e9


@pytest.mark.parametrize("size", [(0, 5, 5), (5, 0, 5), (5, 5, 0)])
def test_an_empty_product_takes_no_arithmetic(size: tuple[int, int, int]) -> None:
    assert of(gemm(*size)).compute_ms == 0


@pytest.mark.parametrize(
    "field", ["bandwidth", "utilisation", "launch", "vector", "half_outputs", "half_depth"]
)
def test_a_missing_number_is_named(field: str) -> None:
    missing: dict[str, Any] = {field: None}
    with pytest.raises(DeviceError, match=f"toy: {field} is not given"):
        of(gemm(10, 20, 30), processor(**missing))


def test_a_missing_peak_is_named() -> None:
    with pytest.raises(DeviceError, match=r"toy: peak\.4 is not given .*widths given: 8, 16, 32"):
        of(gemm(10, 20, 30, bits=4))


def test_a_missing_structure_is_named() -> None:
    sparse = gemm(10, 20, 30, sparsity=Sparsity(structure="unstructured", density=0.5))
    with pytest.raises(DeviceError, match=r"toy: sparse_utilisation\.unstructured is not given"):
        of(sparse)


def test_bytes_that_stay_in_a_cache_are_not_main_memorys() -> None:
    near = Cache(capacity=quantity(100, "MB"), bandwidth=quantity(50, "GB/s"))
    (cached,) = layer_estimates(workload(gemm(10, 20, 9)), processor(caches=[near]), 1)
    (far,) = layer_estimates(workload(gemm(10, 20, 9)), processor(), 1)
    assert (cached.bytes, far.bytes) == (0, 200 + 180 + 90)


def test_weights_of_a_network_that_overflows_a_cache_come_from_main_memory() -> None:
    small = Cache(capacity=quantity(300, "KB"), bandwidth=quantity(50, "GB/s"))
    product = gemm(10, 400, 500)
    (alone,) = layer_estimates(workload(product), processor(caches=[small]), 1)
    (first, _) = layer_estimates(workload(product, product), processor(caches=[small]), 1)
    assert (alone.bytes, first.bytes) == (0, 400 * 500)


def test_hardly_sparse_weights_keep_the_dense_kernel() -> None:
    device = processor(sparse_utilisation={"unstructured": quantity(0.5, "fraction")})
    times = {}
    for density in (1.0, 0.9, 0.25):
        layer = gemm(100, 64, 64, sparsity=Sparsity(structure="unstructured", density=density))
        times[density] = layer_estimates(workload(layer), device, 1)[0].compute_ms
    assert times[0.9] == times[1.0]
    assert times[0.25] == pytest.approx(times[1.0] / 2)
