"""The matrix products of a workload as arrays, equal ones once: what an accelerator model computes on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_models.shapes import Attention, Convolution, Gemm
from hw_models.workload import Layer, Workload

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Product:
    """`batch` independent (m, k) by (k, n) products and the bytes that they move at least.

    A convolution has its output positions as m, its groups as batch, and its input channels and kernel
    positions as k; `input_bytes` counts its input once, not once per kernel position.
    """

    batch: int
    m: int
    k: int
    n: int
    input_bytes: float
    weight_bytes: float
    """Of the second operand, indices of a sparse one included."""
    output_bytes: float
    bits: int
    """The wider of both operands."""
    density: float
    has_weights: bool
    """Whether the second operand is stored with the network, rather than computed."""

    @property
    def dense_macs(self) -> int:
        return self.batch * self.m * self.k * self.n

    @property
    def macs(self) -> float:
        """Multiply-accumulates that the weights leave to do."""
        return self.dense_macs * self.density


@dataclass(frozen=True)
class Products:
    """Distinct products as arrays of equal length, and how often each occurs."""

    batch: Ints
    m: Ints
    k: Ints
    n: Ints
    input_bytes: Floats
    weight_bytes: Floats
    output_bytes: Floats
    bits: Ints
    count: Ints

    def __len__(self) -> int:
        return len(self.m)


def products_of(layer: Layer, images: int = 1) -> Iterator[Product]:
    """The matrix products that one operation is made of, for `images` times the traced input.

    Attention is two, scores and values, whose intermediate scores stay on the chip. A weight that lost whole
    rows and columns is a smaller dense one, with the square root of the density left of each side.
    """
    inputs, outputs = layer.input_bytes * images, layer.output_bytes * images
    bits = max(layer.weight_bits, layer.activation_bits)

    def product(batch: int, m: int, k: int, n: int, first: float, second: float, out: float) -> Product:
        density = layer.density
        if layer.sparsity and layer.sparsity.structure == "channel":
            k, n, density = ceil(k * density**0.5), ceil(n * density**0.5), 1.0
        return Product(batch, m, k, n, first, second, out, bits, density, layer.matrix is not None)

    match layer.shape:
        case Gemm() as s if layer.matrix:
            yield product(s.batch, s.m * images, s.k, s.n, inputs, layer.weight_bytes, outputs)
        case Gemm() as s:
            first = s.m / (s.m + s.n) if s.m + s.n else 0.0  # operands of (m, k) and (k, n) elements
            yield product(s.batch * images, s.m, s.k, s.n, inputs * first, inputs * (1 - first), outputs)
        case Convolution() as s:
            groups, k, n = s.groups, s.channels_in // s.groups, s.channels_out // s.groups
            positions = prod(s.size_in if s.transposed else s.size_out)
            kernel = prod(s.kernel)
            k, n = (k, n * kernel) if s.transposed else (k * kernel, n)
            second = layer.weight_bytes if layer.matrix else 0.0
            yield product(groups, s.batch * positions * images, k, n, inputs, second, outputs)
        case Attention() as s:
            heads = s.batch * s.heads * images
            queries = s.queries * s.width * heads * layer.activation_bits / 8
            # Several query heads may share a key head, so that keys and values are fewer than heads say.
            shared = max(0.0, inputs - queries) / max(1, s.width + s.value_width)
            yield product(heads, s.queries, s.width, s.keys, queries, shared * s.width, 0.0)
            yield product(heads, s.queries, s.keys, s.value_width, 0.0, shared * s.value_width, outputs)


def products(workload: Workload, images: int = 1) -> Products:
    """The distinct products of a workload, `images` times the traced input at once."""
    return table([p for layer in workload.layers for p in products_of(layer, images)])


def table(each: Sequence[Product]) -> Products:
    """Products as arrays, equal ones counted."""
    counts: dict[Product, int] = {}
    for product in each:
        counts[product] = counts.get(product, 0) + 1

    def column(name: str, kind: Any) -> Any:
        return np.array([getattr(product, name) for product in counts], dtype=kind)

    integers = {name: column(name, np.int64) for name in ("batch", "m", "k", "n", "bits")}
    reals = {name: column(name, np.float64) for name in ("input_bytes", "weight_bytes", "output_bytes")}
    return Products(**integers, **reals, count=np.array(list(counts.values()), dtype=np.int64))
