"""What can be counted of GRIM: the networks it prunes, published gains of its group, and its pruned matrices.

Nothing here is trained or timed. GRIM's own tables could not be read; the published figures are those of a
sibling, "Mobile or FPGA?" (TECS 2022), by the same group on the same phone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn

from hw_models import Workload, trace
from hw_models.reference_points import PhonePoint, points
from hw_models.workload import Layer
from lib.errors import WrongUse
from lib.hardware.consistency import pruned_gains, stated_power_w
from lib.hardware.networks import network
from lib.kernels.formats.bcrc import Bcrc
from lib.lab.torchvision_ops import prepare_torchvision
from lib.rnn.grim import BlockColumnRow
from lib.rnn.gru_step import network as gru
from lib.rnn.gru_step import step
from lib.rnn.row_groups import (
    block_index_bits,
    block_loads,
    coo_index_bits,
    csr_index_bits,
    group_heights,
    imbalance,
    loads,
    outside_blocks,
    reordered,
)
from lib.rnn.structure import Structure

CNNS = ("vgg16", "resnet18", "mobilenet_v2")
"""Convolutional networks of the paper, by their names in the reference files."""

RIVALS = ("mnn", "tvm", "tflite")
"""Runtimes that both papers compare with."""


# --- the networks


def small_image_network(name: str) -> nn.Module:
    """VGG-16 (batch normalisation, one linear layer) or ResNet-18 (3 x 3 stem, no pooling), as for CIFAR.

    Input (batch, 3, 32, 32), ten classes. Raises WrongUse for another name.
    """
    prepare_torchvision()
    import timm

    if name == "vgg16":
        features = timm.create_model("vgg16_bn").get_submodule("features")
        return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    if name == "resnet18":
        model = timm.create_model("resnet18", num_classes=10)
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        return model
    raise WrongUse(f"no form of {name!r} for small images; choose vgg16 or resnet18")


def workloads() -> dict[str, Workload]:
    """Every network of the paper by name, `_32` added for those on 32-pixel images; the GRU does one step."""
    found = {name: network(name) for name in CNNS}
    for name in ("vgg16", "resnet18"):
        with torch.device("meta"):  # counting needs no weights
            model = small_image_network(name)
        found[f"{name}_32"] = trace(model, torch.empty(1, 3, 32, 32))
    return {**found, "gru": step(32)}


def convolutions(work: Workload) -> tuple[Layer, ...]:
    """The convolutions of VGG-16 and ResNet-18, without those in which timm writes VGG's classifier."""
    return tuple(
        layer for layer in work.layers if layer.kind == "convolution" and "pre_logits" not in layer.name
    )


def network_counts(work: Mapping[str, Workload]) -> dict[str, int]:
    """Parameters and multiply-accumulates of each network, and of VGG-16's convolutions, by metric name."""
    found = {}
    for name, each in work.items():
        found[f"params_{name}"], found[f"macs_{name}"] = each.params, each.macs
    chosen = convolutions(work["vgg16"])
    found["conv_weights_vgg16"] = sum(layer.weight_params for layer in chosen)
    found["conv_macs_vgg16"] = sum(layer.macs for layer in chosen)
    return found


# --- published gains


def plausible_gains() -> dict[str, float]:
    """Efficiency of the group's pruned networks over a runtime's dense ones on a Galaxy S10.

    Keys are `<network>_<runtime>`. Frames a joule are frames a second only if all draw the same power."""
    rows = {(row.network, row.framework): row.value for row in _published("adreno_640", "frames_per_s_per_w")}
    return {f"{name}_{rival}": rows[name, "own"] / rows[name, rival] for name in CNNS for rival in RIVALS}


def published_split() -> dict[str, float]:
    """The group's gain over MNN on a Galaxy S20 in two factors, by metric name.

    `published_compiler_gain_*` is MNN's dense latency over theirs, `published_pruning_gain_*` their pruned
    efficiency over their dense one (latency and the stated power).
    """
    latency = {
        (row.network, row.framework): row.value
        for row in _published("adreno_650", "latency_ms")
        if row.weights == "dense"
    }
    found = {}
    for gain in pruned_gains(stated_power_w()):
        if gain.network in CNNS:
            dense = latency[gain.network, "own"]
            found[f"published_compiler_gain_{gain.network}"] = latency[gain.network, "mnn"] / dense
            found[f"published_pruning_gain_{gain.network}"] = gain.gain
    return found


def _published(device: str, quantity: str) -> list[PhonePoint]:
    return [row for row in points("phones", "seen") if (row.device, row.quantity) == (device, quantity)]


# --- pruned matrices


@dataclass(frozen=True)
class Pruned:
    """A matrix `(P, Q)` and the mask that a structure with blocks of `block` (height, width) leaves of it."""

    weight: Tensor
    mask: Tensor
    block: tuple[int, int]

    @property
    def rate(self) -> float:
        return self.mask.numel() / int(self.mask.sum())

    @property
    def outside(self) -> int:
        """Weights that break the pattern, see `outside_blocks`."""
        return outside_blocks(self.mask, self.block)

    @property
    def group_height(self) -> float:
        """Mean number of rows that keep exactly the same columns across the whole matrix."""
        heights = group_heights(self.mask)
        return sum(heights) / len(heights)


def gaussian(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Independent normal weights: no row, column or block is more important but by chance."""
    return torch.randn(shape, generator=generator)


def compile_time_facts(pruned: Pruned, *, lanes: int = 32, unroll: int = 4) -> dict[str, float]:
    """What the compiler's steps are worth on one matrix, by metric name.

    `neighbours_differ` is the share (percent) of horizontally adjacent blocks that keep different rows or
    columns. `imbalance_*` is the time of `lanes` rows in step over even work, before and after reordering;
    `loads_*` the loads of inputs a weight, apart and shared by `unroll` rows of one block.
    """
    order = reordered(pruned.mask)
    kept = int(pruned.mask.sum())
    return {
        "neighbours_differ": 100 * _different_neighbours(pruned),
        "imbalance_as_stored": imbalance(pruned.mask, lanes),
        "imbalance_reordered": imbalance(pruned.mask[order], lanes),
        "loads_apart": loads(pruned.mask, 1) / kept,
        "loads_shared": block_loads(pruned.mask, pruned.block, unroll) / kept,
    }


def _different_neighbours(pruned: Pruned) -> float:
    different, pairs = 0, 0
    for band in pruned.mask.split(pruned.block[0], 0):
        tiles = [tile for tile in band.split(pruned.block[1], 1) if tile.shape[1] == pruned.block[1]]
        pairs += len(tiles) - 1
        different += sum(not torch.equal(a, b) for a, b in pairwise(tiles))
    return different / pairs if pairs else 0.0


def storage(pruned: Pruned) -> dict[str, float]:
    """Index bits a kept weight by format, and weights not given back by compact storage (`mismatches`)."""
    weight, mask = pruned.weight.numpy(), pruned.mask.numpy()
    compact = Bcrc.encode(weight, mask)
    kept = int(mask.sum())
    bits = {
        "bcrc": compact.index_bits,
        "csb": block_index_bits(pruned.mask, pruned.block),
        "csr": csr_index_bits(pruned.mask),
        "coo": coo_index_bits(pruned.mask),
    }
    found = {name: value / kept for name, value in bits.items()}
    return {**found, "mismatches": int((compact.decode() != weight * mask).sum())}


def retained_norm_at(matrices: Iterable[Tensor], rate: float, side: int) -> float:
    """||W * mask|| / ||W|| over all `matrices (P, Q)`, each pruned by itself in blocks of `side` x `side`."""
    left, whole = 0.0, 0.0
    for matrix in matrices:
        weight = matrix.detach().double()
        left += float((weight * BlockColumnRow(side, side).mask(weight, rate)).square().sum())
        whole += float(weight.square().sum())
    if not whole:
        raise WrongUse("matrices of zeros have no norm to retain")
    return sqrt(left / whole)


def whole_networks(
    structure: Structure, rate: float, block: tuple[int, int], generator: torch.Generator
) -> dict[tuple[int, int], Pruned]:
    """A normal matrix of every shape (P, Q) in the convolutions of two networks and the GRU, pruned."""
    shapes = [(weight.shape[0], weight.shape[1]) for weight in gru().parameters()]
    for name in ("vgg16", "resnet18"):
        shapes += [layer.matrix for layer in convolutions(network(name)) if layer.matrix]
    found = {}
    for shape in dict.fromkeys(shapes):
        weight = gaussian(shape, generator)
        found[shape] = Pruned(weight, structure.mask(weight, rate), block)
    return found
