"""A tiled matrix engine on an FPGA: cycles and memory traffic of any product under any tiling.

The structure is the one that HeatViT describes (section VI): `heads` banks, each with `outputs` dot products
of `inputs` multipliers, work through output tiles, input tiles and rows; operands come from double-buffered
on-chip memory that is filled from DRAM while the previous tile is computed. `rtl/gemm_engine.sv` is this loop
in Verilog; a call of it takes the cycles of `rtl.structure.engine_cycles`, and so does a buffer tile here.

Everything is vectorised: tilings run along the first axis, products along the second.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from math import inf
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hw_models.errors import HardwareModelError
from hw_models.products import Floats, Ints, Products
from hw_models.rtl.structure import ACCUMULATOR_BITS, depth


@dataclass(frozen=True)
class Tiling:
    """Multipliers and buffers of one engine, in elements.

    In every cycle `heads` x `outputs` x `inputs` products are formed. A buffer tile holds `rows` x `depth`
    first operands, `depth` x `columns` second operands and `rows` x `columns` results, all of them twice.
    """

    inputs: int
    outputs: int
    heads: int
    rows: int
    depth: int
    columns: int

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise HardwareModelError(
                    f"tiling: {field.name} must be at least 1, got {getattr(self, field.name)}"
                )
        # Each head owns a share of the buffers, so that a share must hold whole array tiles.
        for held, step, name in (
            (self.depth, self.inputs * self.heads, "depth must be a multiple of inputs x heads"),
            (self.columns, self.outputs * self.heads, "columns must be a multiple of outputs x heads"),
        ):
            if held % step:
                raise HardwareModelError(f"tiling: {name} = {step}, got {held}")

    @property
    def macs_per_cycle(self) -> int:
        return self.inputs * self.outputs * self.heads

    def __str__(self) -> str:
        return (
            f"{self.heads} heads x {self.outputs} outputs x {self.inputs} inputs a cycle, "
            f"buffers of {self.rows} rows, {self.depth} deep, {self.columns} columns"
        )


@dataclass(frozen=True)
class Tilings:
    """Many tilings as arrays of equal length."""

    inputs: Ints
    outputs: Ints
    heads: Ints
    rows: Ints
    depth: Ints
    columns: Ints

    @classmethod
    def of(cls, each: Iterable[Tiling]) -> Self:
        listed = list(each)
        return cls(*(np.array([getattr(t, f.name) for t in listed], dtype=np.int64) for f in fields(Tiling)))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Tiling:
        return Tiling(*(int(getattr(self, field.name)[index]) for field in fields(self)))

    def where(self, chosen: NDArray[Any]) -> Self:
        """Those that a mask, or a list of places, chooses."""
        return type(self)(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class Work:
    """What each product takes under each tiling, of shape (tilings, products)."""

    compute: Floats
    """Cycles of the array, pipeline included."""
    traffic: Floats
    """Bytes from and to DRAM while computing."""
    exposed: Floats
    """Bytes that no computation hides: the first operands of a product and its last results."""
    on_chip: Floats
    """Bytes read from and written to on-chip memory by the array."""


def pipeline_depth(inputs: Ints) -> Ints:
    """`rtl.structure.depth` of every entry."""
    distinct, where = np.unique(inputs, return_inverse=True)
    return np.array([depth(int(value)) for value in distinct], dtype=np.int64)[where].reshape(inputs.shape)


def work(products: Products, tilings: Tilings, bytes_per_cycle: float = inf) -> Work:
    """Cycles and bytes of every product under every tiling, with a memory of that speed.

    A product of several heads runs a head on each bank, or head after head with its columns spread over all
    banks, whichever is sooner done. Loops run over rows or columns first, whichever moves fewer bytes.
    """
    t = {field.name: getattr(tilings, field.name)[:, None] for field in fields(tilings)}
    t["pipeline"] = pipeline_depth(t["inputs"])
    spread, by_head = _mode(products, t, 1), _mode(products, t, t["heads"])
    sooner = busy_cycles(by_head, bytes_per_cycle) < busy_cycles(spread, bytes_per_cycle)
    return Work(*(np.where(sooner, getattr(by_head, f.name), getattr(spread, f.name)) for f in fields(Work)))


def busy_cycles(done: Work, bytes_per_cycle: float) -> Floats:
    """Cycles from the first operand's arrival to the last result's departure.

    Either memory never rests, or the array, once it has begun, works on without a pause."""
    return np.maximum(done.compute + done.exposed / bytes_per_cycle, done.traffic / bytes_per_cycle)


def _mode(p: Products, t: dict[str, Ints], heads: Any) -> Work:
    """Work with `heads` products side by side (1, or as many as there are banks)."""
    width = t["outputs"] * t["heads"] // heads
    deep, columns = t["depth"] // heads, t["columns"] // heads
    groups = np.asarray(_ceil(p.batch, heads))
    row_tiles, column_tiles, depth_tiles = (
        _ceil(p.m, t["rows"]),
        _ceil(p.n, columns),
        _ceil(p.k, deep),
    )
    # Floating point from here on: products of counts leave 64-bit integers behind.
    passes = groups.astype(np.float64) * _ceil(p.n, width) * _ceil(p.k, t["inputs"])
    calls = groups.astype(np.float64) * row_tiles * column_tiles * depth_tiles
    compute = passes * p.m + calls * t["pipeline"]

    whole_depth = depth_tiles == 1
    rows_first = p.input_bytes * np.where(whole_depth, 1, column_tiles) + p.weight_bytes * np.where(
        column_tiles * depth_tiles == 1, 1, row_tiles
    )
    columns_first = p.input_bytes * np.where(
        row_tiles * depth_tiles == 1, 1, column_tiles
    ) + p.weight_bytes * np.where(whole_depth, 1, row_tiles)
    traffic = np.minimum(rows_first, columns_first) + p.output_bytes

    row_share, column_share, depth_share, head_share = (
        np.minimum(1, t["rows"] / np.maximum(p.m, 1)),
        np.minimum(1, columns / np.maximum(p.n, 1)),
        np.minimum(1, deep / np.maximum(p.k, 1)),
        np.minimum(1, heads / np.maximum(p.batch, 1)),
    )
    exposed = head_share * (
        p.input_bytes * row_share * depth_share
        + p.weight_bytes * column_share * depth_share
        + p.output_bytes * row_share * column_share
    )
    size = p.bits / 8
    reads = passes * t["inputs"] * (p.m * heads + row_tiles * width * heads) * size
    accumulations = 2 * passes * width * heads * p.m * ACCUMULATOR_BITS / 8
    return Work(compute, traffic + 0.0, exposed, reads + accumulations)


def _ceil(a: Any, b: Any) -> Any:
    return -(-a // b)
