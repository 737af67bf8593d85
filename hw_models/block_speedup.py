"""`block_speedup`: what block pruning gains on an FPGA array ("Mobile or FPGA?", section 4, Fig 9).

A convolution is a matrix of filters x (channels * kernel positions). A block is i filters x j channels;
inside it a kernel position is kept or removed for all of them (a column for all i filters, where the
kernel is 1 x 1). Block 1 x 1 is unstructured, block None the whole matrix with whole columns removed.

The paper gives no architecture for its experiment. Assumed here, and fitted to nothing:

- the array is that of CSB-RNN with 2-D sharing; copies of it work on different output pixels, which costs no
  balance; dense layers run on the same array in equal parts;
- a block that leaves groups without one is cut into equal parts, whose kernels have the same columns;
- an unstructured row is a kernel of one row, since the PEs of a column share one input;
- weights, activations and one byte of index per kept column, position or unstructured weight cross the memory
  interface once, in 8 bits, while the array computes; a layer takes the longer of the two times;
- every layer is pruned to the same rate, the first and the last too unless named; weights are random, so
  a group's energy is a chi-squared variable; pooling and additions take no time.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from hw_models.csb import KernelGrid
from hw_models.csb_sharing import Ints, Sharing
from hw_models.errors import HardwareModelError
from hw_models.sparse_array import PEArray, cycles


@dataclass(frozen=True)
class ConvLayer:
    """A convolution with square kernel and square maps; a linear layer has sides and kernel of 1."""

    name: str
    channels: int
    filters: int
    kernel: int
    input_side: int
    output_side: int

    @property
    def weights(self) -> int:
        return self.filters * self.channels * self.kernel**2


@dataclass(frozen=True)
class ArrayDesign:
    """`copies` of a PE array with their clock, sharing and memory bandwidth."""

    array: PEArray
    copies: int
    clock_mhz: float
    bandwidth_gbs: float
    sharing: Sharing = "2d"

    def __post_init__(self) -> None:
        for name in ("copies", "clock_mhz", "bandwidth_gbs"):
            if not getattr(self, name) > 0:
                raise HardwareModelError(f"{name} must be positive, got {getattr(self, name)}")


def packed_array(bandwidth_gbs: float) -> ArrayDesign:
    """The array that Fig 9 is held against: 16 copies of CSB-RNN's 4 x 4 groups of 4 x 4 PEs at 200 MHz.

    At 8 bits these are as many multipliers as the ZCU102's slices can do, two in each."""
    return ArrayDesign(PEArray(4, 4, 4, 4), copies=16, clock_mhz=200, bandwidth_gbs=bandwidth_gbs)


@dataclass(frozen=True)
class BlockSpeedup:
    """Time of a network pruned in blocks, and of the dense one on the same array."""

    rate: float
    """Multiply-accumulates of the dense network per one of the pruned network."""
    dense_ms: float
    pruned_ms: float
    dense_compute_ms: float
    pruned_compute_ms: float
    memory_bound: float
    """Share of the pruned network's time in layers that wait for memory."""

    @property
    def speedup(self) -> float:
        return self.dense_ms / self.pruned_ms

    @property
    def compute_speedup(self) -> float:
        """The speedup if memory took no time: rate times what utilisation is left."""
        return self.dense_compute_ms / self.pruned_compute_ms


def resnet18() -> tuple[ConvLayer, ...]:
    """The convolutions and the classifier of ResNet-18 at 224 x 224 pixels."""
    layers = [ConvLayer("conv1", 3, 64, 7, 224, 112)]
    channels, side = 64, 56
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        stride = 1 if stage == 1 else 2
        out = side // stride
        layers.append(ConvLayer(f"layer{stage}.0.conv1", channels, filters, 3, side, out))
        if stride == 2:
            layers.append(ConvLayer(f"layer{stage}.0.downsample", channels, filters, 1, side, out))
        layers += [
            ConvLayer(f"layer{stage}.{name}", filters, filters, 3, out, out)
            for name in ("0.conv2", "1.conv1", "1.conv2")
        ]
        channels, side = filters, out
    return (*layers, ConvLayer("fc", 512, 1000, 1, 1, 1))


def block_speedup(
    layers: tuple[ConvLayer, ...],
    block: tuple[int, int] | None,
    rate: float,
    design: ArrayDesign,
    rng: np.random.Generator,
    dense_layers: tuple[str, ...] = (),
) -> BlockSpeedup:
    """Time of `layers` pruned `rate` times in blocks of (filters, channels), against dense; see the module.

    Layers named in `dense_layers` are not pruned."""
    if not layers:
        raise HardwareModelError("layers must not be empty")
    if block is not None and min(block) < 1:
        raise HardwareModelError(f"block must be at least 1 on each side, got {block}")
    if not rate >= 1:
        raise HardwareModelError(f"rate must be at least 1, got {rate}")
    unknown = set(dense_layers) - {layer.name for layer in layers}
    if unknown:
        raise HardwareModelError(f"dense_layers names no layer: {', '.join(sorted(unknown))}")
    dense_macs = pruned_macs = 0
    times = []
    for layer in layers:
        whole = pruned = _whole(layer, 1.0, design.array)
        index = 0
        if layer.name not in dense_layers:
            pruned, index = _pruned(layer, block, rate, design.array, rng)
        dense_macs += whole.macs * layer.output_side**2
        pruned_macs += pruned.macs * layer.output_side**2
        times.append([*_times(layer, whole, 0, design), *_times(layer, pruned, index, design)])
    dense_compute, dense_memory, compute, memory = np.array(times).T
    total = np.maximum(compute, memory)
    return BlockSpeedup(
        rate=dense_macs / pruned_macs,
        dense_ms=float(np.maximum(dense_compute, dense_memory).sum()),
        pruned_ms=float(total.sum()),
        dense_compute_ms=float(dense_compute.sum()),
        pruned_compute_ms=float(compute.sum()),
        memory_bound=float(total[memory > compute].sum() / total.sum()),
    )


def _times(layer: ConvLayer, kernels: KernelGrid, index: int, design: ArrayDesign) -> tuple[float, float]:
    """Milliseconds of arithmetic and of memory traffic."""
    vectors = ceil(layer.output_side**2 / design.copies)
    compute = vectors * cycles(kernels, design.array, design.sharing).cycles / (design.clock_mhz * 1e3)
    activations = layer.channels * layer.input_side**2 + layer.filters * layer.output_side**2
    return compute, (kernels.macs + index + activations) / (design.bandwidth_gbs * 1e6)


def _whole(layer: ConvLayer, rate: float, array: PEArray) -> KernelGrid:
    """A dense matrix with 1/rate of the columns, in equal parts over the groups."""
    columns = max(1, round(layer.channels * layer.kernel**2 / rate))
    rows = _parts(layer.filters, array.group_rows)
    return KernelGrid(*np.meshgrid(rows, _parts(columns, array.group_columns), indexing="ij"))


def _pruned(
    layer: ConvLayer, block: tuple[int, int] | None, rate: float, array: PEArray, rng: np.random.Generator
) -> tuple[KernelGrid, int]:
    """Kernel sizes of the pruned layer and its index entries."""
    if block is None:
        kernels = _whole(layer, rate, array)
        return kernels, int(kernels.columns[0].sum())
    if block == (1, 1):
        width = _parts(layer.channels * layer.kernel**2, array.group_columns)
        kept = rng.binomial(width, 1 / rate, (layer.filters, len(width)))
        return KernelGrid(np.minimum(kept, 1), kept), int(kept.sum())
    filters, channels = _blocks(layer.filters, block[0]), _blocks(layer.channels, block[1])
    # (row blocks, column blocks, groups in a block, weights in a group)
    if layer.kernel == 1:
        kept = _kept(np.broadcast_to(filters[:, None], (len(filters), layer.channels)), rate, rng)
        starts = np.arange(0, layer.channels, block[1])
        wide, index = np.add.reduceat(kept, starts, axis=1), int(kept.sum())
    else:
        sizes = filters[:, None, None] * channels[:, None]
        shape = len(filters), len(channels), layer.kernel**2
        positions = _kept(np.broadcast_to(sizes, shape), rate, rng).sum(axis=2)
        wide, index = positions * channels, int(positions.sum())
    return _cut(filters, wide, array), index


def _kept(sizes: Ints, rate: float, rng: np.random.Generator) -> Ints:
    """1 for the groups of greatest mean energy that in all come nearest to 1/rate of the weights, else 0."""
    energy = rng.chisquare(sizes) / sizes
    order = np.argsort(-energy, axis=None, kind="stable")
    total = np.cumsum(sizes.ravel()[order])
    count = int(np.abs(total - total[-1] / rate).argmin()) + 1
    kept = np.zeros(sizes.size, dtype=np.int64)
    kept[order[:count]] = 1
    return kept.reshape(sizes.shape)


def _cut(filters: Ints, wide: Ints, array: PEArray) -> KernelGrid:
    """Kernels of the blocks, each cut into equal parts where there are fewer blocks than groups."""
    down, across = ceil(array.group_rows / wide.shape[0]), ceil(array.group_columns / wide.shape[1])
    rows = np.concatenate([_parts(int(height), down) for height in filters])
    columns = np.array([[part for m in row for part in _parts(int(m), across)] for row in wide])
    columns = np.repeat(columns, down, axis=0)
    return KernelGrid(np.broadcast_to(rows[:, None], columns.shape), columns)


def _blocks(length: int, side: int) -> Ints:
    """Lengths of the blocks that a side is cut into; the last may be shorter."""
    return np.diff(np.append(np.arange(0, length, side), length))


def _parts(length: int, count: int) -> Ints:
    """`length` in `count` whole parts as equal as possible."""
    return np.diff(np.arange(count + 1) * length // count)
