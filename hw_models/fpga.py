"""A network on an FPGA: every product on one tiled matrix engine, the rest where HeatViT puts it.

The engine is that of `engine.py`. Assumptions about everything around it, each visible in the result:
- The processor beside the fabric starts every product (`launch`).
- Batch normalisation is folded into weights. Every other normalisation runs on that processor, element by
  element (`host_element`), after a round trip (`host_call`), as in HeatViT section VI.
- Activation functions and softmax sit between the engine and its output buffer and add no time; a second
  operand, as of a residual addition, is read from DRAM. Pooling and resampling stream through DRAM once.
- Copies and permutations are addresses, not operations; elements that are looked up come from DRAM.
- Scores of attention stay on the chip, between its two products, however many there are.
- Every multiplication is done: also by zeros of a sparse weight, which is only stored and read without them.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np

from hw_models.device import Device
from hw_models.engine import Tiling, Tilings, busy_cycles, work
from hw_models.fusion import FOLDED
from hw_models.products import Floats, Product, Products, products, products_of, table
from hw_models.result import LayerEstimate
from hw_models.span import Span
from hw_models.traffic import layer_work
from hw_models.workload import Layer, Workload

S_TO_MS = 1e3
STREAMED = ("pooling", "resampling", "reduction", "uncounted")
LOOKED_UP = ("embedding", "index", "gather", "take")
"""Operations that fetch chosen elements: these come from DRAM, which copies and permutations need not."""


@dataclass(frozen=True)
class Constants:
    """The device's numbers at one end of their ranges, in SI units."""

    clock: float
    bandwidth: float
    launch: float
    host_element: float
    host_call: float

    @property
    def bytes_per_cycle(self) -> float:
        return self.bandwidth / self.clock

    @classmethod
    def of(cls, device: Device, workload: Workload) -> "Ends":
        """The constants as they are, all favourable, all unfavourable.

        Raises DeviceError if the device file lacks one that the workload needs."""
        rates = device.need("clock").span, device.need("bandwidth").span
        host = any(on_host(layer) for layer in workload.layers)
        times = (
            device.need("launch").span,
            device.need("host_element").span if host else Span.exact(0),
            device.need("host_call").span if host else Span.exact(0),
        )
        return (
            cls(*(s.value for s in rates), *(s.value for s in times)),
            cls(*(s.high for s in rates), *(s.low for s in times)),
            cls(*(s.low for s in rates), *(s.high for s in times)),
        )


Ends = tuple[Constants, Constants, Constants]


def on_host(layer: Layer) -> bool:
    """Whether the processor beside the fabric does this: a normalisation that needs its data first."""
    return layer.kind == "normalisation" and FOLDED not in layer.operation


def product_seconds(products: Products, tilings: Tilings, constants: Constants) -> Floats:
    """Seconds of every product under every tiling."""
    done = work(products, tilings, constants.bytes_per_cycle)
    return busy_cycles(done, constants.bytes_per_cycle) / constants.clock


def around_seconds(layer: Layer, images: int, constants: Constants) -> float:
    """Seconds that an operation which is no product takes outside the engine."""
    size = layer.activation_bits / 8
    if on_host(layer):
        return layer.input_elements * images * constants.host_element + constants.host_call
    if layer.kind == "elementwise":
        second_operand = max(0, layer.input_elements - layer.output_elements) * images * size
        return (second_operand + layer.weight_bytes) / constants.bandwidth
    if layer.kind in STREAMED or (layer.kind == "memory" and any(n in layer.operation for n in LOOKED_UP)):
        return (layer.activation_bytes * images + layer.weight_bytes) / constants.bandwidth
    return 0.0


@dataclass(frozen=True)
class Network:
    """A workload prepared for many designs: distinct products, and seconds that no design changes."""

    products: Products
    around: float
    """Seconds outside the engine, starts of products included."""
    constants: Constants

    @classmethod
    def of(cls, workload: Workload, device: Device, images: int = 1) -> "Network":
        constants, *_ = Constants.of(device, workload)
        found = products(workload, images)
        outside = [around_seconds(layer, images, constants) for layer in workload.layers if not layer.shape]
        return cls(found, sum(outside) + float(found.count.sum()) * constants.launch, constants)

    def latency_s(self, tilings: Tilings) -> Floats:
        """Seconds of the network under every tiling, at the constants as they are."""
        if not len(self.products):
            return np.full(len(tilings), self.around)
        each = product_seconds(self.products, tilings, self.constants)
        return each @ self.products.count + self.around


def layer_estimates(
    workload: Workload, device: Device, batch: int, tiling: Tiling
) -> tuple[LayerEstimate, ...]:
    """Time of every operation on an engine of this `tiling`.

    `macs` of the result are those that are done, zeros included: only whole removed channels save any.
    `sparse_array` models arrays that skip zeros.
    Raises DeviceError if the device file lacks a number."""
    ends = Constants.of(device, workload)
    tilings = Tilings.of([tiling])
    parts = [list(products_of(layer, batch)) for layer in workload.layers]
    distinct = {product: place for place, product in enumerate(dict.fromkeys(chain.from_iterable(parts)))}
    every = table(list(distinct))
    done = work(every, tilings, ends[0].bytes_per_cycle)
    seconds = [product_seconds(every, tilings, end)[0] for end in ends]

    def on_engine(layer: Layer, products: list[Product]) -> LayerEstimate:
        places = [distinct[product] for product in products]
        compute, traffic, on_chip = (
            float(column[0, places].sum()) for column in (done.compute, done.traffic, done.on_chip)
        )
        starts = [end.launch * len(products) for end in ends]
        times = [float(each[places].sum()) + start for each, start in zip(seconds, starts, strict=True)]
        return LayerEstimate(
            work=layer_work(layer, batch, traffic, Span.exact(on_chip), sum(p.dense_macs for p in products)),
            compute_ms=S_TO_MS * compute / ends[0].clock,
            memory_ms=S_TO_MS * traffic / ends[0].bandwidth,
            launch_ms=S_TO_MS * starts[0],
            latency=Span(times[0], times[1], times[2]) * S_TO_MS,
        )

    return tuple(
        on_engine(layer, products) if products else _around(layer, batch, ends)
        for layer, products in zip(workload.layers, parts, strict=True)
    )


def _around(layer: Layer, batch: int, ends: Ends) -> LayerEstimate:
    seconds = Span(*(around_seconds(layer, batch, end) for end in ends))
    call = ends[0].host_call if on_host(layer) else 0.0
    moved = layer.activation_bytes * batch if on_host(layer) else seconds.value * ends[0].bandwidth
    return LayerEstimate(
        work=layer_work(layer, batch, moved, Span.exact(0)),
        compute_ms=S_TO_MS * (seconds.value - call) if on_host(layer) else 0.0,
        memory_ms=0.0 if on_host(layer) else S_TO_MS * seconds.value,
        launch_ms=S_TO_MS * call,
        latency=seconds * S_TO_MS,
    )
