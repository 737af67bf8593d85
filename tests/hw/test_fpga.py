"""A network around one engine: what each operation takes, by hand."""

import pytest

from hw_models import Device, DeviceError, Sparsity, Tiling, Workload
from hw_models.engine import Tilings
from hw_models.fpga import Network, layer_estimates
from hw_models.result import LayerEstimate
from hw_models.workload import Kind, Layer
from tests.hw.toys import attention, board, convolution, gemm, other, quantity, workload

TILING = Tiling(inputs=4, outputs=2, heads=2, rows=8, depth=16, columns=8)
"""A product of (10, 20) by (20, 9) takes 190 cycles, moves 850 bytes and exposes 320, see test_engine.py."""
LAYER_NORM = other("normalisation", 1000, operation="aten.native_layer_norm")


def of(layer: Layer, device: Device | None = None, batch: int = 1, tiling: Tiling = TILING) -> LayerEstimate:
    (found,) = layer_estimates(workload(layer), device or board(), batch, tiling)
    return found


def mixed() -> Workload:
    return workload(
        gemm(10, 20, 9),
        gemm(10, 20, 9, name="again"),
        attention(3, 7, 7, 8),
        convolution(6, 6, (9, 9), groups=6),
        LAYER_NORM,
        other("elementwise", 100, reads=200),
        other("pooling", 10, reads=40),
        other("softmax", 50),
    )


def test_product_by_hand_where_the_array_is_the_slower() -> None:
    found = of(gemm(10, 20, 9))
    # 1.9 us of cycles at 100 MHz, 0.32 us of exposed bytes at 1 GB/s, 5 us to start.
    assert found.latency_ms == pytest.approx(1.9e-3 + 0.32e-3 + 5e-3)
    assert found.compute_ms == pytest.approx(1.9e-3)
    assert found.memory_ms == pytest.approx(0.85e-3)
    assert found.launch_ms == pytest.approx(5e-3)
    assert found.bytes == 850


def test_product_by_hand_where_memory_is_the_slower() -> None:
    found = of(gemm(10, 20, 9), board(bandwidth=quantity(100, "MB/s"), launch=quantity(1, "ns")))
    assert found.latency_ms == pytest.approx(8.5e-3 + 1e-6)
    assert found.bound == "memory"


def test_attention_is_started_twice() -> None:
    assert of(attention(2, 5, 5, 4)).launch_ms == pytest.approx(2 * 5e-3)


def test_layer_normalisation_runs_on_the_processor_by_hand() -> None:
    found = of(LAYER_NORM)
    assert found.latency_ms == pytest.approx(1e3 * (1000 * 2e-9 + 10e-6))
    assert (found.compute_ms, found.launch_ms) == pytest.approx((1e3 * 1000 * 2e-9, 1e3 * 10e-6))
    assert found.bytes == LAYER_NORM.activation_bytes


def test_layer_normalisation_of_a_batch_is_one_call() -> None:
    assert of(LAYER_NORM, batch=3).latency_ms == pytest.approx(1e3 * (3 * 1000 * 2e-9 + 10e-6))


def test_batch_normalisation_is_folded_into_weights() -> None:
    folded = other("normalisation", 1000, operation="aten._native_batch_norm_legit_no_training")
    assert of(folded).latency_ms == 0


def test_normalisation_that_needs_its_data_first_is_not_folded() -> None:
    """Instance normalisation, and batch normalisation without running statistics."""
    found = of(other("normalisation", 1000, operation="aten._native_batch_norm_legit"))
    assert found.latency_ms == pytest.approx(1e3 * (1000 * 2e-9 + 10e-6))


def test_rows_of_an_embedding_come_from_memory() -> None:
    found = of(other("memory", 1000, operation="aten.embedding", bits=8))
    assert found.latency_ms == pytest.approx(1e3 * 2000 / 1e9)
    assert of(other("memory", 1000, operation="aten.cat", bits=8)).latency_ms == 0


def test_zeros_that_are_multiplied_are_counted() -> None:
    sparsity = Sparsity(structure="row_balanced", density=0.1)
    assert of(gemm(10, 20, 9, sparsity=sparsity)).macs == 10 * 20 * 9


def test_a_product_of_astronomical_size_takes_no_less_than_its_multiplications() -> None:
    """Beyond what 64-bit integers count."""
    found = of(gemm(10**6, 10**6, 10**6), batch=1000, tiling=Tiling(1, 1, 1, 16, 16, 16))
    assert found.compute_ms >= 1e3 * 1e21 / 100e6
    assert found.work.on_chip_bytes.value > 1e21


def test_a_second_operand_is_read() -> None:
    found = of(other("elementwise", 100, reads=200, bits=16))
    assert found.latency_ms == pytest.approx(1e3 * 2 * 100 / 1e9)
    assert found.bytes == pytest.approx(200)


@pytest.mark.parametrize("kind", ["elementwise", "softmax", "memory"])
def test_what_sits_behind_the_engine_takes_no_time(kind: Kind) -> None:
    assert of(other(kind, 1000)).latency_ms == 0


@pytest.mark.parametrize("kind", ["pooling", "resampling", "reduction", "uncounted"])
def test_what_streams_through_memory_takes_its_bytes(kind: Kind) -> None:
    found = of(other(kind, 100, reads=400), batch=2)
    assert found.latency_ms == pytest.approx(1e3 * 2 * 500 / 1e9)
    assert found.bytes == pytest.approx(1000)


def test_a_batch_multiplies_the_rows_of_a_weight() -> None:
    assert of(gemm(10, 20, 9), batch=4).compute_ms == of(gemm(40, 20, 9)).compute_ms
    assert of(gemm(10, 20, 9), batch=4).macs == 4 * 10 * 20 * 9


def test_favourable_and_unfavourable_ends_of_every_range() -> None:
    device = board(
        clock=quantity(100, "MHz", 50, 200),
        bandwidth=quantity(1, "GB/s", 0.5, 2),
        launch=quantity(5, "us", 1, 50),
    )
    found = of(gemm(10, 20, 9), device)
    assert found.low_ms == pytest.approx((1.9e-3 + 0.32e-3) / 2 + 1e-3)
    assert found.high_ms == pytest.approx((1.9e-3 + 0.32e-3) * 2 + 50e-3)


def test_ranges_of_the_processor() -> None:
    device = board(host_element=quantity(2, "ns", 1, 4), host_call=quantity(10, "us", 5, 20))
    found = of(LAYER_NORM, device)
    assert (found.low_ms, found.high_ms) == pytest.approx((found.latency_ms / 2, found.latency_ms * 2))


def test_no_range_without_ranges() -> None:
    for layer in layer_estimates(mixed(), board(), 1, TILING):
        assert layer.low_ms == layer.latency_ms == layer.high_ms


@pytest.mark.parametrize("images", [1, 3])
def test_a_network_prepared_for_many_designs_takes_the_sum_of_its_layers(images: int) -> None:
    tilings = [TILING, Tiling(8, 1, 3, 20, 24, 9)]
    found = Network.of(mixed(), board(), images).latency_s(Tilings.of(tilings))
    for seconds, tiling in zip(found, tilings, strict=True):
        layers = layer_estimates(mixed(), board(), images, tiling)
        assert 1e3 * seconds == pytest.approx(sum(layer.latency_ms for layer in layers))


def test_a_network_without_products_takes_as_long_on_any_engine() -> None:
    found = Network.of(workload(LAYER_NORM), board()).latency_s(Tilings.of([TILING, TILING]))
    assert found.tolist() == pytest.approx([12e-6, 12e-6])


def test_zeros_of_a_sparse_weight_are_multiplied_but_not_read() -> None:
    sparsity = Sparsity(structure="row_balanced", density=0.1)
    dense, sparse = of(gemm(10, 20, 9)), of(gemm(10, 20, 9, sparsity=sparsity))
    assert sparse.compute_ms == dense.compute_ms
    assert sparse.bytes < dense.bytes


def test_removed_channels_save_cycles() -> None:
    sparsity = Sparsity(structure="channel", density=0.25)
    dense, sparse = of(gemm(100, 64, 64)), of(gemm(100, 64, 64, sparsity=sparsity))
    assert sparse.compute_ms < dense.compute_ms


@pytest.mark.parametrize("field", ["clock", "bandwidth", "launch"])
def test_a_number_that_every_network_needs_is_named(field: str) -> None:
    with pytest.raises(DeviceError, match=f"toy_board: {field} is not given"):
        of(gemm(1, 1, 1), board(**{field: None}))


@pytest.mark.parametrize("field", ["host_element", "host_call"])
def test_numbers_of_the_processor_are_needed_only_where_it_works(field: str) -> None:
    device = board(**{field: None})
    assert of(gemm(1, 1, 1), device).latency_ms > 0
    with pytest.raises(DeviceError, match=f"toy_board: {field} is not given"):
        of(LAYER_NORM, device)
