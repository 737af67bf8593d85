"""What must hold of every estimate, on random networks, devices and engines."""

from dataclasses import fields
from math import isfinite
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import Device, Layer, Sparsity, Tiling, Workload, best_design, fpga, mobile
from hw_models.device import Cache
from hw_models.engine import Tilings, work
from hw_models.products import products, products_of
from hw_models.quantity import UNITS, Quantity
from hw_models.resources import Resources
from hw_models.result import Estimate, LayerEstimate
from hw_models.search import Grid
from hw_models.sparsity import Structure
from hw_models.workload import Kind
from tests.hw.toys import (
    attention,
    board,
    convolution,
    gemm,
    other,
    processor,
    quantity,
    workload,
)

REPEATABLE = settings(max_examples=60, derandomize=True, database=None, deadline=None)
ROUNDING = 1e-12
"""Sums of the same numbers in another order."""

SIZE = st.integers(1, 70)
BITS = st.sampled_from([8, 16])
DENSITIES = st.floats(0.02, 0.98)
STRUCTURES: list[tuple[Structure, tuple[int, int] | None]] = [
    ("unstructured", None), ("row_balanced", None), ("channel", None),
    ("bank_balanced", (1, 4)), ("block", (4, 8)), ("block", (3, 5)),
]  # fmt: skip
AROUND: list[tuple[Kind, str]] = [
    ("elementwise", "aten.add"), ("normalisation", "aten.native_layer_norm"),
    ("normalisation", "aten.batch_norm"),
    ("softmax", "aten._softmax"), ("pooling", "aten.avg_pool2d"), ("memory", "aten.clone"),
    ("reduction", "aten.mean"), ("uncounted", "aten.secret"),
]  # fmt: skip
GRID = Grid(inputs=(3, 8), outputs=(2, 5), heads=(1, 2), rows=(8, 40), depths=(1, 4), widths=(1, 3))


@st.composite
def sparsities(draw: st.DrawFn, density: st.SearchStrategy[float] = DENSITIES) -> Sparsity:
    structure, block = draw(st.sampled_from(STRUCTURES))
    return Sparsity(structure=structure, density=draw(density), block=block)


@st.composite
def gemms(draw: st.DrawFn) -> Layer:
    m, k, n = draw(st.tuples(SIZE, SIZE, SIZE))
    batch, bits = draw(st.sampled_from([1, 1, 2, 3, 7])), draw(BITS)
    if draw(st.booleans()):
        return gemm(m, k, n, batch, bits, weight=None)
    return gemm(m, k, n, batch, bits, sparsity=draw(st.none() | sparsities()))


@st.composite
def convolutions(draw: st.DrawFn) -> Layer:
    groups = draw(st.sampled_from([1, 2, 5]))
    channels_in, channels_out = (groups * draw(st.integers(1, 6)) for _ in range(2))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (1, 5)]))
    height, width = draw(st.tuples(st.integers(5, 20), st.integers(5, 20)))
    return convolution(
        channels_in,
        channels_out,
        (height, width),
        kernel,
        groups,
        draw(BITS),
        transposed=draw(st.booleans()),
        sparsity=draw(st.none() | sparsities()),
    )


@st.composite
def attentions(draw: st.DrawFn) -> Layer:
    heads, queries, keys = draw(st.tuples(st.integers(1, 5), SIZE, SIZE))
    return attention(heads, queries, keys, draw(SIZE), draw(SIZE), draw(BITS))


@st.composite
def others(draw: st.DrawFn) -> Layer:
    kind, operation = draw(st.sampled_from(AROUND))
    elements, reads = draw(st.tuples(st.integers(1, 5000), st.integers(1, 9000)))
    return other(kind, elements, reads, operation, draw(BITS))


LAYERS = gemms() | convolutions() | attentions() | others()
NETWORKS = st.lists(LAYERS, min_size=1, max_size=5).map(lambda layers: workload(*layers))


@st.composite
def spreads(draw: st.DrawFn, low: float, high: float, unit: str) -> Quantity:
    """A number, half of the time with a range around it."""
    value = draw(st.floats(low, high))
    if draw(st.booleans()):
        return quantity(value, unit)
    most = value * draw(st.floats(1, 3))
    return quantity(value, unit, value / draw(st.floats(1, 3)), min(most, 1) if unit == "fraction" else most)


@st.composite
def processors(draw: st.DrawFn) -> Device:
    """Caches are faster than main memory, and the nearer ones faster than the others."""
    bandwidth = draw(st.floats(0.1, 50))
    speeds = sorted(draw(st.lists(st.floats(bandwidth, 500), max_size=2)), reverse=True)
    sizes = sorted(draw(st.lists(st.floats(0.1, 50), min_size=len(speeds), max_size=len(speeds))))
    share = spreads(0.05, 1, "fraction")
    return processor(
        draw(st.sampled_from(["cpu", "gpu"])),
        peak={bits: draw(spreads(1, 2000, "GOP/s")) for bits in (8, 16)},
        bandwidth=quantity(bandwidth, "GB/s"),
        utilisation=draw(share),
        launch=draw(spreads(0.1, 50, "us")),
        vector=quantity(draw(st.sampled_from([1, 4, 8])), "count"),
        half_outputs=draw(spreads(1, 50_000, "count")),
        half_depth=draw(spreads(0.5, 200, "count")),
        sparse_utilisation={structure: draw(share) for structure, _ in STRUCTURES},
        caches=[
            Cache(capacity=quantity(size, "KB"), bandwidth=quantity(speed, "GB/s"))
            for size, speed in zip(sizes, speeds, strict=True)
        ],
        lanes=quantity(draw(st.sampled_from([1, 4, 64])), "count"),
        **draw(energy_numbers()),
    )


@st.composite
def boards(draw: st.DrawFn) -> Device:
    return board(
        clock=draw(spreads(50, 400, "MHz")),
        bandwidth=draw(spreads(0.1, 30, "GB/s")),
        launch=draw(spreads(0.1, 50, "us")),
        host_element=draw(spreads(0.5, 10, "ns")),
        host_call=draw(spreads(0.1, 50, "us")),
        **draw(energy_numbers()),
    )


@st.composite
def energy_numbers(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "technology": "cmos_45nm",
        "memory": draw(st.sampled_from(["ddr4", "lpddr4x"])),
        "energy_scale": draw(spreads(0.05, 1, "fraction")),
        "static_power": draw(spreads(0.1, 5, "W")),
    }


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    inputs, outputs = draw(st.integers(1, 20)), draw(st.integers(1, 12))
    heads = draw(st.integers(1, 4))
    rows, deep, wide = draw(st.integers(1, 80)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    return Tiling(inputs, outputs, heads, rows, deep * inputs * heads, wide * outputs * heads)


Machine = tuple[Device, Tiling]
MACHINES: st.SearchStrategy[Machine] = st.tuples(processors() | boards(), tilings())


def layers_on(network: Workload, machine: Machine, batch: int = 1) -> tuple[LayerEstimate, ...]:
    device, tiling = machine
    if device.kind == "fpga":
        return fpga.layer_estimates(network, device, batch, tiling)
    return mobile.layer_estimates(network, device, batch)


def of(network: Workload, machine: Machine, batch: int = 1) -> Estimate:
    layers = layers_on(network, machine, batch)
    return Estimate(network.network, machine[0], batch, layers, {}, ())


def not_faster(larger: Estimate, smaller: Estimate) -> None:
    for end in ("value", "low", "high"):
        more, less = getattr(larger.latency, end), getattr(smaller.latency, end)
        assert more >= less * (1 - ROUNDING), end


def improved(device: Device, field: str, factor: float) -> Device:
    """`device` with `factor` times the number in `field`, its range alike; fractions stop at 1."""
    given: Quantity = getattr(device, field)
    limit = 1.0 if given.dimension == "fraction" else float("inf")
    changed = {
        name: min(limit, value * factor)
        for name in ("value", "low", "high")
        if (value := getattr(given, name)) is not None
    }
    return device.model_copy(update={field: given.model_copy(update=changed)})


# --- numbers


@REPEATABLE
@given(NETWORKS, MACHINES, st.integers(1, 4))
def test_nothing_is_negative_or_no_number(network: Workload, machine: Machine, batch: int) -> None:
    found = of(network, machine, batch)
    for layer in found.layers:
        numbers = [layer.compute_ms, layer.memory_ms, layer.launch_ms, layer.bytes, layer.macs]
        assert all(isfinite(number) and number >= 0 for number in numbers)
        for span in (layer.latency, layer.work.on_chip_bytes):
            assert isfinite(span.high)
            assert 0 <= span.low * (1 - ROUNDING) <= span.value <= span.high * (1 + ROUNDING)


@REPEATABLE
@given(NETWORKS, MACHINES)
def test_energy_is_at_least_that_of_the_arithmetic(network: Workload, machine: Machine) -> None:
    energy = of(network, machine).energy
    for end in ("value", "low", "high"):
        parts = [getattr(part, end) for part in energy.parts.values()]
        assert all(isfinite(part) and part >= 0 for part in parts)
        assert getattr(energy.total, end) >= getattr(energy.compute, end) > 0 or not network.ops


@REPEATABLE
@given(NETWORKS, MACHINES, st.randoms(use_true_random=False))
def test_results_do_not_depend_on_the_order_of_operations(
    network: Workload, machine: Machine, random: Any
) -> None:
    order = list(range(len(network.layers)))
    random.shuffle(order)
    shuffled = network.model_copy(update={"layers": tuple(network.layers[i] for i in order)})
    before, after = of(network, machine), of(shuffled, machine)
    assert after.latency_ms == pytest.approx(before.latency_ms, rel=ROUNDING)
    assert after.energy.total.value == pytest.approx(before.energy.total.value, rel=ROUNDING)
    for old, new in enumerate(order):
        assert after.layers[old].latency_ms == pytest.approx(before.layers[new].latency_ms, rel=ROUNDING)


# --- more work

Axis = Literal["m", "k", "n", "batch"]
AXES: list[Axis] = ["m", "k", "n", "batch"]


@st.composite
def growing(draw: st.DrawFn, axis: Axis) -> tuple[Workload, Workload]:
    """A product, and the same one made larger along one axis."""
    sizes: dict[str, Any] = {name: draw(SIZE) for name in ("m", "k", "n")} | {
        "batch": draw(st.integers(1, 6))
    }
    grown = sizes | {axis: sizes[axis] + draw(st.integers(1, 30))}
    bits, weight = draw(BITS), draw(st.sampled_from(["weight", None]))
    small, large = (workload(gemm(**each, bits=bits, weight=weight)) for each in (sizes, grown))
    return small, large


@pytest.mark.parametrize("axis", AXES)
@REPEATABLE
@given(st.data())
def test_more_work_is_never_faster_on_a_processor(axis: Axis, data: st.DataObject) -> None:
    small, large = data.draw(growing(axis))
    machine = data.draw(processors()), Tiling(1, 1, 1, 1, 1, 1)
    not_faster(of(large, machine), of(small, machine))


@pytest.mark.parametrize("axis", AXES)
@settings(REPEATABLE, max_examples=200)
@given(st.data())
def test_more_work_is_never_faster_on_an_fpga(axis: Axis, data: st.DataObject) -> None:
    small, large = data.draw(growing(axis))
    machine = data.draw(boards()), data.draw(tilings())
    not_faster(of(large, machine), of(small, machine))


@pytest.mark.parametrize("side", ["channels_in", "channels_out", "rows", "columns"])
@REPEATABLE
@given(st.data(), MACHINES)
def test_a_larger_convolution_is_never_faster(side: str, data: st.DataObject, machine: Machine) -> None:
    sizes = {
        name: data.draw(st.integers(5, 24)) for name in ("channels_in", "channels_out", "rows", "columns")
    }
    grown = sizes | {side: sizes[side] + data.draw(st.integers(1, 12))}
    small, large = (
        workload(convolution(each["channels_in"], each["channels_out"], (each["rows"], each["columns"])))
        for each in (sizes, grown)
    )
    not_faster(of(large, machine), of(small, machine))


@REPEATABLE
@given(NETWORKS, MACHINES, st.integers(1, 5))
def test_a_larger_batch_is_never_faster(network: Workload, machine: Machine, batch: int) -> None:
    not_faster(of(network, machine, batch + 1), of(network, machine, batch))


@REPEATABLE
@given(NETWORKS, LAYERS, MACHINES)
def test_a_further_operation_is_never_faster(network: Workload, layer: Layer, machine: Machine) -> None:
    longer = network.model_copy(update={"layers": (*network.layers, layer)})
    not_faster(of(longer, machine), of(network, machine))


@REPEATABLE
@given(NETWORKS, MACHINES)
def test_wider_numbers_never_move_fewer_bytes(network: Workload, machine: Machine) -> None:
    narrow, wide = (of(network.at_bits(bits), machine) for bits in (8, 16))
    for less, more in zip(narrow.layers, wide.layers, strict=True):
        assert more.bytes >= less.bytes * (1 - ROUNDING)


# --- a better device


@pytest.mark.parametrize("field", ["bandwidth", "utilisation"])
@REPEATABLE
@given(NETWORKS, processors(), st.floats(1, 10))
def test_a_better_processor_is_never_slower(
    field: str, network: Workload, device: Device, factor: float
) -> None:
    """Caches keep their place: they are never slower than main memory."""
    if field == "bandwidth" and device.caches:
        factor = min(factor, device.caches[-1].bandwidth.si / device.need("bandwidth").si)
    tiling = Tiling(1, 1, 1, 1, 1, 1)
    not_faster(of(network, (device, tiling)), of(network, (improved(device, field, factor), tiling)))


@REPEATABLE
@given(NETWORKS, processors(), st.floats(1, 10))
def test_a_higher_peak_is_never_slower(network: Workload, device: Device, factor: float) -> None:
    peaks = {
        bits: improved(device.model_copy(update={"power": peak}), "power", factor).power
        for bits, peak in device.peak.items()
    }
    better = device.model_copy(update={"peak": peaks})
    tiling = Tiling(1, 1, 1, 1, 1, 1)
    not_faster(of(network, (device, tiling)), of(network, (better, tiling)))


@REPEATABLE
@given(NETWORKS, processors(), st.floats(1, 50))
def test_larger_caches_are_never_slower(network: Workload, device: Device, factor: float) -> None:
    larger = [
        cache.model_copy(update={"capacity": quantity(cache.capacity.value * factor, "KB")})
        for cache in device.caches
    ]
    tiling = Tiling(1, 1, 1, 1, 1, 1)
    better = device.model_copy(update={"caches": larger})
    not_faster(of(network, (device, tiling)), of(network, (better, tiling)))


@REPEATABLE
@given(NETWORKS, processors(), st.floats(0.1, 100))
def test_a_further_cache_is_never_slower(network: Workload, device: Device, size: float) -> None:
    fastest = device.caches[0].bandwidth if device.caches else device.need("bandwidth")
    better = device.model_copy(
        update={"caches": [Cache(capacity=quantity(size, "KB"), bandwidth=fastest), *device.caches]}
    )
    tiling = Tiling(1, 1, 1, 1, 1, 1)
    not_faster(of(network, (device, tiling)), of(network, (better, tiling)))


@pytest.mark.parametrize("field", ["clock", "bandwidth"])
@REPEATABLE
@given(NETWORKS, boards(), tilings(), st.floats(1, 10))
def test_a_better_fpga_is_never_slower(
    field: str, network: Workload, device: Device, tiling: Tiling, factor: float
) -> None:
    not_faster(of(network, (device, tiling)), of(network, (improved(device, field, factor), tiling)))


@pytest.mark.parametrize("resource", [field.name for field in fields(Resources)])
@settings(REPEATABLE, max_examples=25)
@given(NETWORKS, boards(), st.tuples(*[st.floats(0.1, 1) for _ in range(4)]), st.floats(1, 10))
def test_more_of_a_resource_is_never_slower(
    resource: str, network: Workload, device: Device, shares: tuple[float, ...], factor: float
) -> None:
    """On the least chip that has room for an engine of the grid, times `1 + share`; then with more."""
    least = {"dsp": 6.0, "block_rams": 8.0, "luts": 1500.0, "flip_flops": 1500.0}
    small = {
        name: count * (1 + 10 * share) for (name, count), share in zip(least.items(), shares, strict=True)
    }
    large = small | {resource: small[resource] * factor}
    slow, fast = (
        best_design(network.at_bits(8), device, bits=8, grid=GRID, limits=Resources(**each)).latency_s
        for each in (small, large)
    )
    assert fast <= slow


# --- the array


@settings(REPEATABLE, max_examples=150)
@given(NETWORKS, tilings())
def test_an_array_never_beats_its_multipliers(network: Workload, tiling: Tiling) -> None:
    """Cycles are at least the multiplications over those of a cycle, so that utilisation is at most 1."""
    found = products(network)
    cycles = work(found, Tilings.of([tiling])).compute
    macs = found.batch * found.m * found.k * found.n
    assert (cycles * tiling.macs_per_cycle >= macs).all()


@settings(REPEATABLE, max_examples=150)
@given(NETWORKS, tilings())
def test_every_byte_moves_at_least_once(network: Workload, tiling: Tiling) -> None:
    found = products(network)
    done = work(found, Tilings.of([tiling]))
    once = found.input_bytes + found.weight_bytes + found.output_bytes
    assert (done.traffic >= once * (1 - ROUNDING)).all()
    assert (done.exposed <= once * (1 + ROUNDING)).all()


@REPEATABLE
@given(NETWORKS, processors())
def test_a_processor_never_beats_its_peak(network: Workload, device: Device) -> None:
    tiling = Tiling(1, 1, 1, 1, 1, 1)
    for layer, found in zip(network.layers, layers_on(network, (device, tiling)), strict=True):
        macs = sum(product.macs for product in products_of(layer))
        peak = device.need_peak(max(layer.weight_bits, layer.activation_bits)).si_range[1]
        assert found.latency_ms >= 1e3 * 2 * macs / peak * (1 - ROUNDING)


@REPEATABLE
@given(NETWORKS, MACHINES)
def test_an_operation_takes_at_least_its_arithmetic_and_its_memory(
    network: Workload, machine: Machine
) -> None:
    for layer in layers_on(network, machine):
        longer = max(layer.compute_ms, layer.memory_ms, layer.launch_ms)
        assert layer.latency_ms >= longer * (1 - ROUNDING)


# --- parts


@pytest.mark.parametrize("axis", ["m", "k", "n"])
@REPEATABLE
@given(st.data(), st.sampled_from(["weight", None]))
def test_a_product_in_two_parts_has_as_many_multiplications(
    axis: str, data: st.DataObject, weight: str | None
) -> None:
    sizes: dict[str, Any] = {name: data.draw(st.integers(2, 70)) for name in ("m", "k", "n")}
    cut = data.draw(st.integers(1, sizes[axis] - 1))
    whole = workload(gemm(**sizes, weight=weight))
    parts = workload(
        gemm(**sizes | {axis: cut}, weight=weight), gemm(**sizes | {axis: sizes[axis] - cut}, weight=weight)
    )
    assert parts.macs == whole.macs
    counted = [sum(p.macs for layer in w.layers for p in products_of(layer)) for w in (parts, whole)]
    assert counted[0] == counted[1]


# --- sparsity


@REPEATABLE
@given(NETWORKS, MACHINES, sparsities(density=st.just(1.0)))
def test_density_of_one_is_exactly_dense(network: Workload, machine: Machine, whole: Sparsity) -> None:
    plain = network.model_copy(
        update={"layers": tuple(layer.model_copy(update={"sparsity": None}) for layer in network.layers)}
    )
    full = plain.model_copy(
        update={
            "layers": tuple(
                layer.model_copy(update={"sparsity": whole}) if layer.matrix else layer
                for layer in plain.layers
            )
        }
    )
    assert layers_on(full, machine) == layers_on(plain, machine)
    assert (full.macs, full.weight_bytes) == (plain.macs, plain.weight_bytes)


@settings(REPEATABLE, max_examples=150)
@given(gemms() | convolutions(), sparsities(), st.floats(1, 10))
def test_denser_is_never_cheaper(layer: Layer, sparsity: Sparsity, factor: float) -> None:
    """Short of dense, which needs no indices."""
    denser = sparsity.model_copy(update={"density": min(0.99, sparsity.density * factor)})
    less, more = (
        workload(layer.model_copy(update={"sparsity": each if layer.matrix else None}))
        for each in (sparsity, denser)
    )
    assert more.macs >= less.macs
    assert more.weight_bytes >= less.weight_bytes * (1 - ROUNDING)


@REPEATABLE
@given(gemms() | convolutions(), sparsities(), st.floats(1, 10), MACHINES)
def test_denser_is_never_faster(layer: Layer, sparsity: Sparsity, factor: float, machine: Machine) -> None:
    denser = sparsity.model_copy(update={"density": min(0.99, sparsity.density * factor)})
    less, more = (
        workload(layer.model_copy(update={"sparsity": each if layer.matrix else None}))
        for each in (sparsity, denser)
    )
    not_faster(of(more, machine), of(less, machine))


# --- units


def in_unit(given: Quantity, unit: str) -> Quantity:
    ratio = UNITS[given.unit][1] / UNITS[unit][1]
    changed = {
        name: value * ratio
        for name in ("value", "low", "high")
        if (value := getattr(given, name)) is not None
    }
    return given.model_copy(update={"unit": unit, **changed})


@REPEATABLE
@given(NETWORKS, MACHINES)
def test_the_same_device_in_other_units(network: Workload, machine: Machine) -> None:
    device, tiling = machine
    units = {
        "bandwidth": "MB/s", "clock": "GHz", "launch": "ms", "host_element": "us", "host_call": "ns",
    }  # fmt: skip
    converted: dict[str, Any] = {
        field: in_unit(given, unit)
        for field, unit in units.items()
        if (given := getattr(device, field)) is not None
    }
    converted["peak"] = {bits: in_unit(peak, "TOP/s") for bits, peak in device.peak.items()}
    converted["caches"] = [
        Cache(capacity=cache.capacity, bandwidth=in_unit(cache.bandwidth, "MB/s")) for cache in device.caches
    ]
    before = of(network, machine)
    after = of(network, (device.model_copy(update=converted), tiling))
    for ours, theirs in zip(before.layers, after.layers, strict=True):
        assert theirs.latency_ms == pytest.approx(ours.latency_ms, rel=1e-9)
        assert theirs.low_ms == pytest.approx(ours.low_ms, rel=1e-9)
        assert theirs.high_ms == pytest.approx(ours.high_ms, rel=1e-9)


@pytest.mark.parametrize(
    ("unit", "smaller"),
    [
        ("GB/s", "MB/s"), ("TOP/s", "GOP/s"), ("GHz", "MHz"), ("ms", "us"), ("us", "ns"), ("MB", "KB"),
        ("MiB", "KiB"),
    ],
)  # fmt: skip
def test_a_unit_is_so_many_of_a_smaller_one(unit: str, smaller: str) -> None:
    factor = 1024 if unit == "MiB" else 1000
    assert quantity(1, unit).si == pytest.approx(quantity(factor, smaller).si)
    assert quantity(1, unit).dimension == quantity(1, smaller).dimension
