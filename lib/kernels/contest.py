"""One pruned product, recurrent step or network against its rivals: all checked, then timed in alternating
bursts.

Every function takes pruned weights or modules and gives a row of numbers; nothing here prunes or prints.
"""

import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.errors import ReproError
from lib.kernels.bands import BandPack
from lib.kernels.baseline import compile_csr
from lib.kernels.compiler import CompiledMatrix, compile_matrix
from lib.kernels.layers import Block, CompiledGRU
from lib.kernels.limits import Limits, shortest
from lib.kernels.network import compile_network, fold
from lib.kernels.peers import PEERS, SPARSE, export
from lib.kernels.toolchain import Toolchain

Row = dict[str, Any]
Value = TypeVar("Value")
Calls = dict[str, Callable[[], object]]
PRECISIONS = ("fp32", "int8")
HOPELESS = 30
"""A runtime that takes so many times as long as compiled code is timed once, not in bursts."""


def product_row(
    weight: Tensor,
    columns: int,
    limits: Limits,
    toolchain: Toolchain,
    rounds: int,
    *,
    block: Block | None = None,
) -> Row:
    """Microseconds of every product of the pruned `weight` (P, Q) with (Q, columns), and what they come to.

    `over dense` and `over csr` are the best of the rivals over ours; `most over ...` what they would be at
    the limit that binds the product; `of limit` the fraction of it that is reached. Dense rivals have weights
    without zeros."""
    dense = torch.randn(weight.shape)
    x = torch.randn(weight.shape[1], columns) if columns > 1 else torch.randn(weight.shape[1])
    ours = {kind: compile_matrix(weight, precision=kind, block=block) for kind in PRECISIONS}
    calls: Calls = {"torch dense": partial(torch.matmul, dense, x)}
    calls["numpy dense"] = partial(np.matmul, dense.numpy(), x.numpy())
    sparse = _sparse_calls(weight, x, toolchain)
    calls |= sparse
    calls |= {f"compiled {kind}": partial(matrix.multiply, x) for kind, matrix in ours.items()}
    expected = weight @ x
    for name in (*sparse, "compiled fp32", "compiled int8"):
        check(name, torch.as_tensor(calls[name]()), expected, 0.03 if "int8" in name else 1e-5)
    times = shortest(calls, rounds=rounds)
    fp32, int8 = times["compiled fp32"], times["compiled int8"]
    best_dense = min(times["torch dense"], times["numpy dense"])
    best_csr = min(times[name] for name in sparse)
    bound, limit = product_bound(ours["fp32"], columns, limits)
    return {
        "columns": columns,
        "rate": weight.numel() / ours["fp32"].nonzeros,
        "us": {name: 1e6 * seconds for name, seconds in times.items()},
        "over dense": best_dense / fp32,
        "over csr": best_csr / fp32,
        "int8 over dense": best_dense / int8,
        "int8 over csr": best_csr / int8,
        "limit": limit,
        "of limit": bound / fp32,
        "most over dense": best_dense / bound,
        "most over csr": best_csr / bound,
        "gflops": 2e-9 * ours["fp32"].nonzeros * columns / fp32,
    }


def _sparse_calls(weight: Tensor, x: Tensor, toolchain: Toolchain) -> Calls:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CSR in torch is called beta
        wide = weight.to_sparse_csr()
        crow, col = wide.crow_indices().int(), wide.col_indices().int()
        narrow = torch.sparse_csr_tensor(crow, col, wide.values(), weight.shape)
    return {
        "scipy CSR": partial(scipy.sparse.csr_array(weight.numpy()).__matmul__, x.numpy()),
        "torch CSR int64": partial(torch.matmul, wide, x),
        "torch CSR int32": partial(torch.matmul, narrow, x),
        "gcc CSR": compile_csr(weight, x, toolchain),
    }


def product_bound(matrix: CompiledMatrix, columns: int, limits: Limits) -> tuple[float, str]:
    """The least seconds of the product on this machine in its layout, and what binds it.

    Multiply-adds at the peak rate; or bytes from the cache where they fit: with several columns the rows of
    the right side as often as bands load them, and the stored matrix; with one column the stored matrix."""
    flops = 2.0 * matrix.nonzeros * columns
    pack = matrix.strips.pack if columns == 1 else matrix.bands.pack
    stored = float(pack.weights.nbytes + pack.index_bytes)
    traffic = {stored: stored}
    if isinstance(pack, BandPack):
        right = 4.0 * columns * matrix.shape[1]
        traffic[right] = traffic.get(right, 0.0) + 4.0 * columns * len(pack.columns)
    return limits.bound_s(flops, traffic)


def check(name: str, result: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raises ReproError if `result` is further from `expected` than `tolerance`, by norms; NaN is."""
    error = float((result - expected).norm() / expected.norm())
    if not error <= tolerance:
        raise ReproError(f"{name} is wrong by {error:.1e} of its result: do not compare its time")


def gru_row(dense: nn.GRU, pruned: nn.GRU, rounds: int, *, block: Block | None = None) -> Row:
    """Microseconds of one time step at batch 1: torch's and numpy's with all weights, ours of the pruned
    ones."""
    x, state = torch.randn(1, 1, dense.input_size), torch.randn(dense.num_layers, 1, dense.hidden_size)
    with torch.inference_mode():
        layers = {kind: CompiledGRU(pruned, block=block, precision=kind) for kind in PRECISIONS}
        expected = pruned(x, state)[0].flatten()
        check("compiled fp32", layers["fp32"](x, state)[0].flatten(), expected, 1e-5)
        check("compiled int8", layers["int8"](x, state)[0].flatten(), expected, 0.05)
        check("numpy", torch.from_numpy(numpy_step(pruned, x, state)()), expected, 1e-5)
        calls: Calls = {"torch dense": partial(dense, x, state), "numpy dense": numpy_step(dense, x, state)}
        calls |= {f"compiled {kind}": partial(layer, x, state) for kind, layer in layers.items()}
        times = shortest(calls, rounds=rounds)
    best = min(times["torch dense"], times["numpy dense"])
    return {
        "us": {name: 1e6 * seconds for name, seconds in times.items()},
        "over dense": best / times["compiled fp32"],
        "int8 over dense": best / times["compiled int8"],
    }


def numpy_step(gru: nn.GRU, x: Tensor, state: Tensor) -> Callable[[], NDArray[np.float32]]:
    """One dense step by numpy's matrix-vector product, quicker than torch's layer on some machines."""
    arrays = {name: parameter.detach().numpy() for name, parameter in gru.named_parameters()}
    first, hidden, size = x.flatten().numpy(), state[:, 0].numpy(), gru.hidden_size

    def step() -> NDArray[np.float32]:
        value = first
        for layer, h in enumerate(hidden):
            given = arrays[f"weight_ih_l{layer}"] @ value + arrays[f"bias_ih_l{layer}"]
            work = arrays[f"weight_hh_l{layer}"] @ h + arrays[f"bias_hh_l{layer}"]
            r, z = (1 / (1 + np.exp(-(given + work)[: 2 * size]))).reshape(2, size)
            fresh = np.tanh(given[2 * size :] + r * work[2 * size :])
            value = fresh + z * (h - fresh)
        return value

    return step


def without(all_of_them: Mapping[str, Value], names: Collection[str]) -> dict[str, Value]:
    """The rest, in its order."""
    return {name: value for name, value in all_of_them.items() if name not in names}


def network_row(model: nn.Module, image: Tensor, rounds: int, *, block: Block | None = None) -> Row:
    """Milliseconds of a pruned network, or of one layer, compiled and in every other runtime that is
    installed.

    `over dense` is the best runtime that takes no notice of zeros over ours, `over sparse` the best of the
    others."""
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        folded, compiled = fold(model), compile_network(model, block=block)
        expected = folded(image)
        calls: Calls = {"torch": partial(folded, image), "compiled": partial(compiled, image)}
        if there := {name: peer for name, peer in PEERS.items() if not peer.missing}:
            exported = export(folded, image, Path(folder) / "network.onnx")
            calls |= {name: peer.load(exported) for name, peer in there.items()}
        for name, call in calls.items():  # runtimes that transform convolutions (Winograd) lose digits
            check(name, torch.as_tensor(call()).reshape(expected.shape), expected, 5e-3)
        once = shortest(calls, rounds=1, burst_s=0.0)
        slow = {name: seconds for name, seconds in once.items() if seconds > HOPELESS * once["compiled"]}
        times = slow | shortest(without(calls, slow), rounds=rounds, burst_s=0.06)
    dense = without(times, ("compiled", *SPARSE))
    best = min(dense, key=dense.__getitem__)
    row: Row = {
        "ms": {name: 1e3 * seconds for name, seconds in times.items()},
        "best dense": best,
        "over dense": dense[best] / times["compiled"],
    }
    if sparse := [times[name] for name in SPARSE if name in times]:
        row["over sparse"] = min(sparse) / times["compiled"]
    return row
