"""The structures that block schemes are compared with: none, balanced rows and banks, whole rows, columns
and blocks, and block-circulant matrices, which tie weights together instead of removing them.

Sources: row balance as in ESE (FPGA 2017), bank balance as in BBS (FPGA 2019), circulant blocks as in C-LSTM
(FPGA 2018) and E-RNN (HPCA 2019).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.rnn.partition import blocks_of, matrix_of, real
from lib.rnn.structure import check_counts, checked, kept_count, largest


@dataclass(frozen=True)
class Unstructured:
    """The weights of largest magnitude in the whole matrix."""

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`."""
        matrix = checked(weight, rate)
        count = kept_count(matrix.numel(), rate)
        return largest(matrix.abs().flatten(), count).view(matrix.shape)


@dataclass(frozen=True)
class RowBalanced:
    """The same number of largest weights in every row: Q/rate, rounded."""

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`."""
        matrix = checked(weight, rate)
        return largest(matrix.abs(), kept_count(matrix.shape[1], rate))


@dataclass(frozen=True)
class BankBalanced:
    """Equally many largest weights in every bank of a row cut into `banks` equal ones, Q/rate in the row.

    All largest of their banks come first, then all second largest, and so on. Where the banks do not divide
    that number, those with the larger weights keep one more: one for each would be several times too many in
    a short row. The last bank is shorter where `banks` does not divide the row."""

    banks: int

    def __post_init__(self) -> None:
        check_counts(banks=self.banks)

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`."""
        matrix = checked(weight, rate)
        rows, columns = matrix.shape
        size = -(-columns // self.banks)
        banks = blocks_of(matrix.abs(), 1, size, -1.0)
        places = banks.argsort(dim=3, descending=True, stable=True).argsort(dim=3)
        place = matrix_of(places, rows, columns)  # 0 for the largest of its bank
        falling = matrix.abs().argsort(dim=1, descending=True, stable=True)
        order = falling.gather(1, place.gather(1, falling).argsort(dim=1, stable=True))
        kept = torch.zeros(matrix.shape, dtype=torch.bool, device=matrix.device)
        return kept.scatter_(1, order[:, : kept_count(columns, rate)], True)


@dataclass(frozen=True)
class Rows:
    """Whole rows of largest l2 norm (filters of a convolution; the second step of RTMobile)."""

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`."""
        matrix = checked(weight, rate)
        kept = largest(matrix.square().sum(dim=1), kept_count(matrix.shape[0], rate))
        return kept[:, None].repeat(1, matrix.shape[1])


@dataclass(frozen=True)
class Columns:
    """Whole columns of largest l2 norm (inputs)."""

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`."""
        matrix = checked(weight, rate)
        kept = largest(matrix.square().sum(dim=0), kept_count(matrix.shape[1], rate))
        return kept.repeat(matrix.shape[0], 1)


@dataclass(frozen=True)
class WholeBlocks:
    """Block pruning: blocks of `side` x `side` weights are kept or removed whole, by their l2 norm."""

    side: int

    def __post_init__(self) -> None:
        check_counts(side=self.side)

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`."""
        matrix = checked(weight, rate)
        blocks = blocks_of(matrix.square(), self.side, self.side)
        norms = blocks.sum(dim=(2, 3))
        kept = largest(norms.flatten(), kept_count(norms.numel(), rate)).view(norms.shape)
        return matrix_of(kept[:, :, None, None].expand(blocks.shape), *matrix.shape)


@dataclass(frozen=True)
class BlockCirculant:
    """Blocks of side `block` whose every row is the one above it moved right by one: `block` parameters each.

    It has no mask: no weight is zero, but many are equal. Its rate is weights per parameter."""

    block: int

    def __post_init__(self) -> None:
        check_counts(block=self.block)

    def project(self, weight: Tensor) -> Tensor:
        """The nearest block-circulant tensor of the same shape (two or more dimensions), for ADMM.

        Every diagonal of a block takes its mean; where a block is cut off by an edge, the mean is over the
        weights that are there."""
        matrix = checked(weight.flatten(1), 1)
        rows, columns = matrix.shape
        blocks = blocks_of(matrix, self.block, self.block).reshape(-1, self.block**2)
        inside = real(rows, columns, self.block, self.block).to(matrix.device).reshape(blocks.shape)
        along = torch.arange(self.block, device=matrix.device)
        diagonal = ((along[None, :] - along[:, None]) % self.block).flatten()
        index = diagonal.expand_as(blocks)
        sums = blocks.new_zeros(len(blocks), self.block)
        counts = sums.scatter_add(1, index, inside.to(sums.dtype))
        means = sums.scatter_add(1, index, blocks) / counts.clamp(min=1)
        down, across = -(-rows // self.block), -(-columns // self.block)
        nearest = means.gather(1, index).view(down, across, self.block, self.block)
        return matrix_of(nearest, rows, columns).to(weight.dtype).reshape(weight.shape)

    def rate(self, weight: Tensor) -> float:
        """Weights per parameter of the projected tensor."""
        rows, columns = weight.flatten(1).shape
        down, across = -(-rows // self.block), -(-columns // self.block)
        return rows * columns / (down * across * self.block)
