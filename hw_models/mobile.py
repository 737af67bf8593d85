"""Processors: a roofline per operation, whose roof depends on the operation's shape.

    t = max(operations / (peak * utilisation * shape), bytes / bandwidth) + launch

    shape = outputs / (outputs + half_outputs) * depth / (depth + half_depth) * channels / rounded channels

for every matrix product, where outputs are the independent results, depth is the length of each sum, and
channels are rounded up to whole vectors (and outputs with them). Few outputs leave lanes idle, short sums
spend their time storing. Each operation is a kernel of its own (`fusion.fused` merges those that runtimes
merge) and reads its operands from the nearest memory that holds them: activations by their size, weights by
that of the whole network's.
"""

from hw_models.device import Cache, Device
from hw_models.products import Product, products_of
from hw_models.result import LayerEstimate
from hw_models.span import Span
from hw_models.traffic import layer_work
from hw_models.workload import Layer, Workload

S_TO_MS = 1e3


def layer_estimates(workload: Workload, device: Device, batch: int) -> tuple[LayerEstimate, ...]:
    """Time of every operation on a CPU or GPU.

    Raises DeviceError if the device file lacks a number that one of the operations needs."""
    weights = workload.weight_bytes
    return tuple(_estimate(layer, device, batch, weights) for layer in workload.layers)


def _estimate(layer: Layer, device: Device, batch: int, network_weights: float) -> LayerEstimate:
    products = list(products_of(layer, batch))
    peak = device.need_peak(max(layer.weight_bits, layer.activation_bits)).span
    rate = peak * device.need("utilisation").span
    if products:
        compute = Span.sum(_product_time(product, rate, layer, device) for product in products)
    else:
        compute = Span.exact(layer.ops * batch) / rate
    activations, weights = layer.activation_bytes * batch, layer.weight_bytes
    memory = _move(activations, activations, device) + _move(weights, network_weights, device)
    launch = device.need("launch").span
    main = sum(
        moved
        for moved, held in ((activations, activations), (weights, network_weights))
        if _nearest(held, device) is None
    )
    return LayerEstimate(
        work=layer_work(layer, batch, main, _on_chip(products, activations + weights)),
        compute_ms=S_TO_MS * compute.value,
        memory_ms=S_TO_MS * memory.value,
        launch_ms=S_TO_MS * launch.value,
        latency=(_longer(compute, memory) + launch) * S_TO_MS,
    )


def _product_time(product: Product, rate: Span, layer: Layer, device: Device) -> Span:
    """Seconds of arithmetic of one product."""
    outputs, channels = product.batch * product.m * product.n, product.n
    if product.has_weights:
        channels *= product.batch  # groups lie side by side
    if not outputs or not product.k:
        return Span.exact(0)
    vector = device.need("vector").value
    rounding = -(-channels // vector) * vector / channels
    idle = device.need("half_outputs").span / (outputs * rounding) + Span.exact(1)
    short = device.need("half_depth").span / product.k + Span.exact(1)
    dense = Span.exact(2 * product.dense_macs * rounding) * idle * short / rate
    if not layer.sparsity or product.density == 1:
        return dense
    # A runtime keeps its dense kernel where too few weights are missing for the sparse one to be faster.
    share = device.need_sparse_utilisation(layer.sparsity.structure).span
    return _shorter(dense, dense * product.density / share)


def _move(moved: float, held: float, device: Device) -> Span:
    """Seconds to move bytes that lie in the nearest memory with room for `held` bytes."""
    cache = _nearest(held, device)
    return Span.exact(moved) / (cache.bandwidth if cache else device.need("bandwidth")).span


def _nearest(held: float, device: Device) -> Cache | None:
    """The first cache with room for `held` bytes; None for main memory."""
    return next((cache for cache in device.caches if held <= cache.capacity.si), None)


def _on_chip(products: list[Product], moved: float) -> Span:
    """Bytes through the caches: at least each byte once, at most an operand from there per multiplication.

    How often registers save the trip depends on the kernel; the value between is the geometric mean."""
    most = max(moved, sum(product.macs * product.bits / 8 for product in products))
    return Span((moved * most) ** 0.5, moved, most)


def _longer(a: Span, b: Span) -> Span:
    return Span(max(a.value, b.value), max(a.low, b.low), max(a.high, b.high))


def _shorter(a: Span, b: Span) -> Span:
    return Span(min(a.value, b.value), min(a.low, b.low), min(a.high, b.high))
