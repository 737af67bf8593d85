"""Times of one pruned layer as a matrix product on this machine: dense, in sparse rows, and compiled.

A layer is its matrix `(P, Q)` times the columns `(Q, N)` that its input is laid out in; N is 1 for a
recurrent step and the number of output pixels for a convolution. Laying out is not timed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.kernels.compiler import compile_matrix
from lib.rnn.baselines import Unstructured
from lib.rnn.csr_gru import compressed_rows
from lib.rnn.grim import BlockColumnRow
from lib.rnn.products import Block, generated, largest_gap, least_us, random_input

LAYERS: dict[str, tuple[int, int, int]] = {
    "gru": (3 * 1024, 1024, 1),
    "gru_16": (3 * 1024, 1024, 16),
    "vgg16": (512, 512 * 9, 14 * 14),
    "resnet18": (256, 256 * 9, 14 * 14),
}
"""P, Q and N by name: a recurrent matrix of the GRU, the same for 16 utterances side by side, VGG-16's last
block and ResNet-18's third stage."""


@dataclass(frozen=True)
class LayerTimes:
    """Least microseconds by contender, and the largest error of a compiled product over its largest entry.

    Contenders: `dense` and `csr` (PyTorch), `compiled_dense`, `unstructured` and `bcr` (compiled).
    """

    us: Mapping[str, float]
    gap: float

    @property
    def compiler_gain(self) -> float:
        """Dense in PyTorch over dense compiled."""
        return self.us["dense"] / self.us["compiled_dense"]

    @property
    def pruning_gain(self) -> float:
        """Dense compiled over pruned compiled."""
        return self.us["compiled_dense"] / self.us["bcr"]


def layer_times(
    name: str, rate: float, block: Block, generator: torch.Generator, *, burst_s: float
) -> LayerTimes:
    """All contenders on one layer with normal weights, in alternating bursts.

    Raises WrongUse for a layer that is not in `LAYERS`, ReproError without a C compiler.
    """
    if name not in LAYERS:
        raise WrongUse(f"no layer {name!r} to time; choose from {', '.join(LAYERS)}")
    rows, columns, width = LAYERS[name]
    weight = torch.randn(rows, columns, generator=generator)
    x = random_input(columns, width, generator)
    pruned = weight * BlockColumnRow(*block).mask(weight, rate)
    loose = weight * Unstructured().mask(weight, rate)
    sparse = compressed_rows(pruned)
    compiled = {"compiled_dense": weight, "unstructured": loose, "bcr": pruned}
    products = {
        key: generated(compile_matrix(matrix, block=block if key == "bcr" else None))
        for key, matrix in compiled.items()
    }
    calls: dict[str, Callable[[], object]] = {"dense": partial(torch.matmul, weight, x)}
    calls["csr"] = partial(torch.matmul, sparse, x)
    calls |= {key: partial(product.multiply, x) for key, product in products.items()}
    gap = max(largest_gap(products[key].multiply(x), matrix @ x) for key, matrix in compiled.items())
    return LayerTimes(least_us(calls, burst_s=burst_s), gap)


def block_times(
    name: str,
    rate: float,
    weights: Mapping[str, tuple[Tensor, Block]],
    generator: torch.Generator,
    *,
    burst_s: float,
) -> dict[str, float]:
    """Least microseconds of compiled products with `weights`, each pruned in its own blocks, by their key.

    All have the shape of the layer `name` and meet the same input. Raises ReproError without a C compiler.
    """
    _, columns, width = LAYERS[name]
    x = random_input(columns, width, generator)
    calls: dict[str, Callable[[], object]] = {}
    for key, (weight, block) in weights.items():
        pruned = weight * BlockColumnRow(*block).mask(weight, rate)
        calls[key] = partial(generated(compile_matrix(pruned, block=block)).multiply, x)
    return least_us(calls, burst_s=burst_s)
