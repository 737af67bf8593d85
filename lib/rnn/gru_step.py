"""The recurrent network that GRIM and RTMobile time, and models of its time step on a phone and an FPGA."""

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from hw_models import Estimate, Sparsity, Workload, estimate, load_device, trace
from hw_models.csb import KernelGrid
from hw_models.sparse_array import PEArray, cycles
from lib.errors import WrongUse
from lib.rnn.row_groups import outside_blocks

INPUTS, HIDDEN, LAYERS = 39, 1024, 2
"""A GRU of two layers on 39 features a frame (CSB-RNN calls it SR2)."""

PHONE = {"gpu": "adreno_640", "cpu": "snapdragon_855_cpu"}
"""Parts of the phone, and the names of their device files."""

ENGINE, ENGINE_MHZ, ENGINE_W = PEArray(4, 4, 8, 4), 200.0, 8.9
"""CSB-RNN's engine on a ZCU102: 512 multipliers in 4 x 4 groups, clock and measured power as in its Table 3;
the shape of a group is not published for these rows."""


def network() -> nn.GRU:
    """The network without biases, as PyTorch initialises it."""
    return nn.GRU(INPUTS, HIDDEN, LAYERS, bias=False, batch_first=True)


@cache
def step(bits: int = 16) -> Workload:
    """One time step as a compiler for phones runs it: a kernel for every gate product, the rest merged in.

    PyTorch runs some twenty elementwise operations a step besides, each a launch of its own; generated code
    has no reason to.
    """
    with torch.device("meta"):  # counting needs no weights
        traced = trace(network(), torch.empty(1, 1, INPUTS), bits=bits)
    return traced.model_copy(update={"layers": tuple(layer for layer in traced.layers if layer.shape)})


def pruned_step(rate: float, bits: int = 16, block: tuple[int, int] = (64, 64)) -> Workload:
    """`step` with all weights pruned `rate` times in blocks; rate 1 is the dense step."""
    if rate == 1:
        return step(bits)
    return step(bits).with_sparsity(Sparsity(structure="block", density=1 / rate, block=block))


def on_phone(rates: Sequence[float]) -> dict[str, dict[float, Estimate]]:
    """Modelled time step by part of the phone (GPU at 16 bits, CPU at 32) and rate; rate 1 is dense."""
    return {
        part: {rate: estimate(pruned_step(rate, bits), load_device(PHONE[part])) for rate in rates}
        for part, bits in (("gpu", 16), ("cpu", 32))
    }


def launch_share(found: Estimate) -> float:
    """Share of the time that starting kernels takes, in percent."""
    return 100 * sum(layer.launch_ms for layer in found.layers) / found.latency_ms


def least_launch_share(rate: float) -> float:
    """`launch_share` of the phone's GPU at 16 bits if a launch takes the least of its assumed range."""
    device = load_device(PHONE["gpu"])
    launch = device.need("launch")
    least = launch.value if launch.low is None else launch.low
    quick = device.model_copy(update={"launch": launch.model_copy(update={"value": least})})
    return launch_share(estimate(pruned_step(rate), quick))


def dense_on_board_us(device: str = "zcu102") -> float:
    """Modelled time of the dense step at 16 bits on a matrix engine that reads all weights from memory."""
    return 1e3 * estimate(step(16), load_device(device)).latency_ms


def on_board_us(masks: Mapping[str, Tensor], block: tuple[int, int]) -> float:
    """Modelled time of the products with the pruned matrices on CSB-RNN's engine, weights kept on the chip.

    `masks` are True where a weight is kept; each must be kept rows times kept columns in every block of
    `block` (height, width). Raises WrongUse if one is not, or if the weights do not fit the chip's memory.
    """
    bits = 16 * sum(int(mask.sum()) for mask in masks.values())
    memory = load_device("zcu102").need_fabric("block_rams").value * 36 * 1024
    if bits > memory:
        raise WrongUse(
            f"{bits / 1e6:.1f} Mbit of weights do not fit {memory / 1e6:.1f} Mbit of block RAM: prune more"
        )
    total = 0
    for name, mask in masks.items():
        if outside_blocks(mask, block):
            raise WrongUse(f"{name} is not pruned by rows and columns in blocks of {block[0]} x {block[1]}")
        total += cycles(_kernels(mask, block), ENGINE, "2d").cycles
    return total / ENGINE_MHZ


def _kernels(mask: Tensor, block: tuple[int, int]) -> KernelGrid:
    bands = [band.split(block[1], 1) for band in mask.split(block[0], 0)]
    rows = torch.tensor([[int(tile.any(1).sum()) for tile in band] for band in bands])
    columns = torch.tensor([[int(tile.any(0).sum()) for tile in band] for band in bands])
    return KernelGrid(rows.numpy(), columns.numpy())
