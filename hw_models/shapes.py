"""The arithmetic of one operation: dimensions from which its multiply-accumulates follow.

One class per loop nest. They are pydantic models so that a workload survives a round trip through JSON.
"""

from math import prod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

Sizes = tuple[NonNegativeInt, ...]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gemm(_Shape):
    """`batch` independent products of an (m, k) by a (k, n) matrix; a vector has m or n of one."""

    type: Literal["gemm"] = "gemm"
    batch: NonNegativeInt = 1
    m: NonNegativeInt
    k: NonNegativeInt
    n: NonNegativeInt

    @property
    def macs(self) -> int:
        return self.batch * self.m * self.k * self.n

    def __str__(self) -> str:
        return (f"{self.batch} x " if self.batch != 1 else "") + f"{self.m} x {self.k} x {self.n}"


class Convolution(_Shape):
    """A convolution over any number of spatial dimensions; products with padding zeros are counted."""

    type: Literal["convolution"] = "convolution"
    batch: NonNegativeInt
    channels_in: PositiveInt
    channels_out: PositiveInt
    groups: PositiveInt = 1
    kernel: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    size_in: Sizes
    size_out: Sizes
    transposed: bool = False

    @property
    def macs(self) -> int:
        # A transposed convolution scatters each input through the kernel; a plain one gathers each output.
        positions = prod(self.size_in if self.transposed else self.size_out)
        return (
            self.batch * positions * prod(self.kernel) * self.channels_in * self.channels_out // self.groups
        )

    def __str__(self) -> str:
        def times(sizes: tuple[int, ...]) -> str:
            return "x".join(map(str, sizes))

        groups = f" groups {self.groups}" if self.groups != 1 else ""
        arrow = "^T" if self.transposed else ""
        channels = f"{self.channels_in}->{self.channels_out}"
        return f"{self.batch} x {channels} {times(self.kernel)}{arrow}{groups}, {times(self.size_out)} out"


class Attention(_Shape):
    """Fused attention: scores = queries x keys over `width`, then scores x values of `value_width`.

    The whole score matrix is counted, also under a causal mask, as when the two products are separate.
    """

    type: Literal["attention"] = "attention"
    batch: NonNegativeInt
    heads: NonNegativeInt
    queries: NonNegativeInt
    keys: NonNegativeInt
    width: NonNegativeInt
    value_width: NonNegativeInt

    @property
    def macs(self) -> int:
        return self.batch * self.heads * self.queries * self.keys * (self.width + self.value_width)

    def __str__(self) -> str:
        return f"{self.batch} x {self.heads} heads, {self.queries} x {self.keys} x {self.width}"


Shape = Annotated[Gemm | Convolution | Attention, Field(discriminator="type")]


def depth_of(shape: Shape) -> int:
    """Products that are added up for one result: the length of a row of the weight, where there is one."""
    match shape:
        case Gemm():
            return shape.k
        case Convolution():
            return shape.channels_in // shape.groups * prod(shape.kernel)
        case Attention():
            return shape.width
