"""One product of a pruned matrix: its operations, its modelled latency, and its latency on this machine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from hw_models import Sparsity, estimate, load_device, trace
from lib.errors import ReproError, WrongUse
from lib.kernels.compiler import CompiledMatrix, compile_matrix
from lib.lab.measure import latencies
from lib.rnn.csr_gru import compressed_rows
from lib.rnn.structure import measured_rate

Block = tuple[int, int]
PHONE, FPGA = "adreno_640", "zcu102"


@dataclass(frozen=True)
class ProductTimes:
    """Least microseconds of one product by contender (`dense`, `csr`, `compiled`).

    `gap` is the largest error over the largest entry of the dense product with the pruned matrix."""

    us: Mapping[str, float]
    gap: float

    @property
    def relative(self) -> float:
        """Compiled over dense."""
        return self.us["compiled"] / self.us["dense"]


def product_times(
    weight: Tensor,
    mask: Tensor,
    columns: int,
    generator: torch.Generator,
    *,
    block: Block | None = None,
    burst_s: float = 0.02,
) -> ProductTimes:
    """Times of `weight (P, Q)` and of its part in `mask` with a random `(Q, columns)`, in alternating bursts.

    `dense` multiplies with all weights, `csr` and `compiled` with those in `mask`; one column is a vector.
    Raises ReproError without a C compiler."""
    if columns < 1:
        raise WrongUse(f"a product needs at least one column, not {columns}")
    dense, pruned = weight.detach(), (weight * mask).detach()
    x = random_input(weight.shape[1], columns, generator)
    product, sparse = generated(compile_matrix(pruned, block=block)), compressed_rows(pruned)
    calls: dict[str, Callable[[], object]] = {
        "dense": partial(torch.matmul, dense, x),
        "csr": partial(torch.matmul, sparse, x),
        "compiled": partial(product.multiply, x),
    }
    return ProductTimes(
        least_us(calls, rounds=5, burst_s=burst_s), largest_gap(product.multiply(x), pruned @ x)
    )


def generated(matrix: CompiledMatrix) -> CompiledMatrix:
    """`matrix` itself. Raises ReproError if scipy stands in for its code: it is no compiled product then."""
    if matrix.is_fallback:
        raise ReproError(
            "times of compiled products need a C compiler, and none works here: install gcc or clang; "
            "./repro doctor looks for it"
        )
    return matrix


def random_input(length: int, columns: int, generator: torch.Generator) -> Tensor:
    """Normal numbers `(length, columns)`; one column is a vector."""
    return torch.randn((length,) if columns == 1 else (length, columns), generator=generator)


def largest_gap(found: Tensor, expected: Tensor) -> float:
    """The largest error of `found` over the largest entry of `expected`."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def least_us(
    calls: Mapping[str, Callable[[], object]], *, rounds: int = 7, burst_s: float
) -> dict[str, float]:
    """Least microseconds of each call, in alternating bursts."""
    times = latencies(calls, rounds=rounds, burst_s=burst_s)
    return {name: 1e6 * each.minimum_s for name, each in times.items()}


def modelled_us(shape: tuple[int, int], sparsity: Sparsity | None, device: str, bits: int = 16) -> float:
    """Modelled microseconds of a matrix-vector product of (outputs, inputs) = `shape`; None is dense."""
    outputs, inputs = shape
    with torch.device("meta"):  # counting needs no weights
        work = trace(nn.Linear(inputs, outputs, bias=False), torch.empty(1, inputs), bits=bits)
    return (
        1e3
        * estimate(work if sparsity is None else work.with_sparsity(sparsity), load_device(device)).latency_ms
    )


def relative_costs(mask: Tensor, sparsity: Sparsity, times: Mapping[int, ProductTimes]) -> dict[str, float]:
    """Pruned over dense by kind of cost: operations, modelled on a phone and an FPGA, measured at each width.

    `times` are by columns at once. 1 is no gain."""
    rows, columns = mask.shape
    costs = {"operations": 1 / measured_rate(mask)}
    for device in (PHONE, FPGA):
        dense, pruned = (modelled_us((rows, columns), kind, device) for kind in (None, sparsity))
        costs[f"modelled {device}"] = pruned / dense
    return costs | {f"measured batch {width}": each.relative for width, each in times.items()}


def times_at(
    widths: Sequence[int],
    weight: Tensor,
    mask: Tensor,
    generator: torch.Generator,
    block: Block | None = None,
) -> dict[int, ProductTimes]:
    """`product_times` by number of columns."""
    return {width: product_times(weight, mask, width, generator, block=block) for width in widths}
