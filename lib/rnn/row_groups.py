"""What reordering rows and sharing loads are worth on a pruned matrix, and what its indices cost in bits.

GRIM and RTMobile compile a pruned matrix `(P, Q)` alike: rows that keep the same columns are put side by
side, neighbours are computed together, and an input that several of them need is loaded once. Everything
here is counted from the mask `(P, Q)` of kept weights, True for kept; nothing is timed.
"""

from math import ceil

import numpy as np
import torch
from torch import Tensor

from hw_models.sparsity import bits_for
from lib.errors import WrongUse
from lib.kernels.formats.csb import Csb
from lib.kernels.formats.csr import Csr


def reordered(mask: Tensor) -> Tensor:
    """An order of the rows `(P,)` in which equal patterns are neighbours, the longest first, empty rows last.

    Rows of equal length keep the order in which their pattern first occurs. Raises WrongUse for what is no
    matrix of booleans.
    """
    _check(mask)
    _, pattern = torch.unique(mask, dim=0, return_inverse=True)
    first = torch.full((int(pattern.max()) + 1,), len(mask)).scatter_reduce_(
        0, pattern, torch.arange(len(mask)), "amin"
    )
    by_pattern = torch.argsort(first[pattern], stable=True)
    return by_pattern[torch.argsort(mask.sum(1)[by_pattern], descending=True, stable=True)]


def group_heights(mask: Tensor) -> list[int]:
    """Rows in each group of rows that keep exactly the same columns, empty rows left out."""
    _check(mask)
    filled = mask[mask.any(1)]
    return torch.unique(filled, dim=0, return_counts=True)[1].tolist() if len(filled) else []


def imbalance(mask: Tensor, lanes: int) -> float:
    """Time of rows computed `lanes` at a time, in the order given, over that of perfectly even work.

    Lanes move in step, so that a bundle takes as long as its longest row: sum of (longest x lanes in use)
    over the weights kept; 1 is even. Raises WrongUse if nothing is kept or there is no lane.
    """
    _check(mask)
    if lanes < 1:
        raise WrongUse(f"lanes must be at least 1, not {lanes}")
    lengths = mask.sum(1)
    if not lengths.any():
        raise WrongUse("nothing is kept in this matrix: its work has no balance")
    slots = sum(int(bundle.max()) * len(bundle) for bundle in lengths.split(lanes))
    return slots / int(lengths.sum())


def loads(mask: Tensor, unroll: int) -> int:
    """Loads of inputs in a product with a vector if `unroll` rows at a time share them, in the order given.

    An input is loaded once for a bundle in which any row keeps it; `unroll` 1 shares nothing, which makes a
    load of every kept weight. Raises WrongUse for an `unroll` below 1.
    """
    _check(mask)
    if unroll < 1:
        raise WrongUse(f"unroll must be at least 1, not {unroll}")
    return sum(int(bundle.any(0).sum()) for bundle in mask.split(unroll))


def block_loads(mask: Tensor, block: tuple[int, int], unroll: int) -> int:
    """Loads of inputs if each block (height, width) is computed by itself, `unroll` kept rows at a time.

    An input of the block is loaded once for each bundle of its rows. Raises WrongUse for an `unroll` below 1
    or a block without a size.
    """
    _check(mask)
    if unroll < 1:
        raise WrongUse(f"unroll must be at least 1, not {unroll}")
    _check_block(block)
    return sum(int(tile.any(0).sum()) * ceil(int(tile.any(1).sum()) / unroll) for tile in _tiles(mask, block))


def csr_index_bits(mask: Tensor) -> int:
    """Bits of the indices of compressed sparse rows: a column a weight, an offset a row and one more."""
    _check(mask)
    kept = mask.numpy()
    return Csr.encode(kept.astype(np.float32), kept).index_bits


def coo_index_bits(mask: Tensor) -> int:
    """Bits of the indices of a list of coordinates: a row and a column a weight."""
    _check(mask)
    rows, columns = mask.shape
    return int(mask.sum()) * (bits_for(rows) + bits_for(columns))


def block_index_bits(mask: Tensor, block: tuple[int, int]) -> int:
    """Bits of kept rows and columns of every block, and of their numbers, as in CSB-RNN (section 4.1).

    `block` is the height and width of a block; blocks at the edge may be smaller. Raises WrongUse if a
    block's kept weights are not all pairs of some rows and some columns.
    """
    _check(mask)
    if outside_blocks(mask, block):
        raise WrongUse(f"the mask keeps more than rows and columns in blocks of {block[0]} x {block[1]}")
    kept = mask.numpy()
    return Csb.encode(kept.astype(np.float32), kept, block=block).index_bits


def outside_blocks(mask: Tensor, block: tuple[int, int]) -> int:
    """Weights that are pruned although their block keeps both their row and their column.

    0 for every mask that is kept rows times kept columns in each block of `block` (height, width), which is
    the definition of block-based column-row pruning. Raises WrongUse for a block without a size.
    """
    _check(mask)
    _check_block(block)
    return sum(
        int((tile.any(1)[:, None] & tile.any(0)[None, :] & ~tile).sum()) for tile in _tiles(mask, block)
    )


def _tiles(mask: Tensor, block: tuple[int, int]) -> list[Tensor]:
    return [tile for band in mask.split(block[0], 0) for tile in band.split(block[1], 1)]


def _check_block(block: tuple[int, int]) -> None:
    if min(block) < 1:
        raise WrongUse(f"a block must have at least one row and one column, not {block[0]} x {block[1]}")


def _check(mask: Tensor) -> None:
    if mask.ndim != 2 or mask.dtype is not torch.bool or mask.numel() == 0:
        raise WrongUse(f"need a filled matrix of booleans, not {tuple(mask.shape)} of {mask.dtype}")
