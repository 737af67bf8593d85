"""Small devices, and workloads made of operations whose sizes are given by hand."""

from math import prod
from typing import Any, Literal

from hw_models import Device, Layer, Sparsity, Workload
from hw_models.products import Product
from hw_models.quantity import Quantity
from hw_models.shapes import Attention, Convolution, Gemm
from hw_models.workload import Kind


def quantity(value: float, unit: str, low: float | None = None, high: float | None = None) -> Quantity:
    return Quantity(value=value, unit=unit, confidence="derived", basis="test", low=low, high=high)


def processor(kind: Literal["cpu", "gpu"] = "cpu", **changes: Any) -> Device:
    """10 GOP/s at 32 bits, 20 at 16, 40 at 8; 5 GB/s; 2 us to start an operation; no caches."""
    numbers: dict[str, Any] = {
        "peak": {bits: quantity(320 / bits, "GOP/s") for bits in (8, 16, 32)},
        "bandwidth": quantity(5, "GB/s"),
        "utilisation": quantity(0.5, "fraction"),
        "launch": quantity(2, "us"),
        "vector": quantity(4, "count"),
        "half_outputs": quantity(100, "count"),
        "half_depth": quantity(10, "count"),
    }
    return Device(**{"name": "toy", "title": "A toy", "kind": kind} | numbers | changes)


def fabric(dsp: float, block_rams: float = 1e3, luts: float = 1e6, flip_flops: float = 1e6) -> Any:
    counts = {"dsp": dsp, "block_rams": block_rams, "luts": luts, "flip_flops": flip_flops}
    return {name: quantity(count, "count") for name, count in counts.items()}


def board(**changes: Any) -> Device:
    """An FPGA of 1000 slices at 100 MHz, 1 GB/s, whose processor takes 2 ns an element and 10 us a call."""
    numbers: dict[str, Any] = {
        "fabric": fabric(1000),
        "usable": quantity(1, "fraction"),
        "clock": quantity(100, "MHz"),
        "bandwidth": quantity(1, "GB/s"),
        "launch": quantity(5, "us"),
        "host_element": quantity(2, "ns"),
        "host_call": quantity(10, "us"),
    }
    return Device(**{"name": "toy_board", "title": "A toy", "kind": "fpga"} | numbers | changes)


def gemm(
    m: int,
    k: int,
    n: int,
    batch: int = 1,
    bits: int = 8,
    *,
    weight: str | None = "weight",
    sparsity: Sparsity | None = None,
    name: str = "product",
    sources: tuple[int, ...] | None = None,
) -> Layer:
    """(m, k) by (k, n), a weight; of two activations where `weight` is None."""
    stored = batch * k * n if weight else 0
    return Layer(
        name=name,
        operation="aten.mm",
        kind="gemm" if weight else "batched_gemm",
        shape=Gemm(batch=batch, m=m, k=k, n=n),
        params=stored,
        input_elements=batch * m * k + (0 if weight else batch * k * n),
        output_elements=batch * m * n,
        weight_elements=stored,
        weight=weight,
        matrix=(batch * n, k) if weight else None,
        weight_params=stored,
        sparsity=sparsity,
        sources=sources,
        weight_bits=bits,
        activation_bits=bits,
    )


def convolution(
    channels_in: int,
    channels_out: int,
    size: tuple[int, int],
    kernel: tuple[int, int] = (3, 3),
    groups: int = 1,
    bits: int = 8,
    *,
    transposed: bool = False,
    sparsity: Sparsity | None = None,
) -> Layer:
    """One image, stride one, no padding; `size` is the input's."""
    reach = [side - 1 for side in kernel]
    out = tuple(n + r if transposed else n - r for n, r in zip(size, reach, strict=True))
    stored = channels_in * channels_out // groups * prod(kernel)
    return Layer(
        name="convolution",
        operation="aten.convolution",
        kind="convolution",
        shape=Convolution(
            batch=1,
            channels_in=channels_in,
            channels_out=channels_out,
            groups=groups,
            kernel=kernel,
            stride=(1, 1),
            padding=(0, 0),
            dilation=(1, 1),
            size_in=size,
            size_out=out,
            transposed=transposed,
        ),
        params=stored,
        input_elements=channels_in * prod(size),
        output_elements=channels_out * prod(out),
        weight_elements=stored,
        matrix=(channels_out, channels_in // groups * prod(kernel)),
        weight_params=stored,
        weight="kernel",
        sparsity=sparsity,
        weight_bits=bits,
        activation_bits=bits,
    )


def attention(
    heads: int, queries: int, keys: int, width: int, value_width: int | None = None, bits: int = 8
) -> Layer:
    value_width = value_width or width
    return Layer(
        name="attention",
        operation="aten._scaled_dot_product_flash_attention_for_cpu",
        kind="attention",
        shape=Attention(
            batch=1, heads=heads, queries=queries, keys=keys, width=width, value_width=value_width
        ),
        input_elements=heads * (queries * width + keys * (width + value_width)),
        output_elements=heads * queries * value_width,
        weight_elements=0,
        weight_bits=bits,
        activation_bits=bits,
    )


def other(
    kind: Kind,
    elements: int,
    reads: int | None = None,
    operation: str | None = None,
    bits: int = 8,
    params: int = 0,
    sources: tuple[int, ...] | None = None,
) -> Layer:
    """An operation that is no product: it writes `elements`, and reads as many or `reads`."""
    return Layer(
        name=kind,
        operation=operation or f"aten.{kind}",
        kind=kind,
        params=params,
        input_elements=elements if reads is None else reads,
        output_elements=elements,
        weight_elements=params,
        sources=sources,
        weight_bits=bits,
        activation_bits=bits,
    )


def workload(*layers: Layer) -> Workload:
    return Workload(
        network="toy", layers=layers, params=sum(layer.params for layer in layers), execution="fake"
    )


def product(m: int, k: int, n: int, batch: int = 1, bits: int = 8) -> Product:
    """A product whose operands are as large as its dimensions say."""
    size = batch * bits / 8
    return Product(batch, m, k, n, m * k * size, k * n * size, m * n * size, bits, 1.0, True)
