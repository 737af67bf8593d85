"""How a matrix is cut: into blocks of a given size with padding, or into a given number of even parts."""

from itertools import pairwise

import torch
from torch import Tensor

from lib.errors import WrongUse


def blocks_of(matrix: Tensor, high: int, wide: int, fill: float = 0.0) -> Tensor:
    """The matrix (P, Q) as blocks (down, across, high, wide); ragged edges are padded with `fill`."""
    rows, columns = matrix.shape
    down, across = -(-rows // high), -(-columns // wide)
    padded = matrix.new_full((down * high, across * wide), fill)
    padded[:rows, :columns] = matrix
    return padded.view(down, high, across, wide).transpose(1, 2)


def matrix_of(blocks: Tensor, rows: int, columns: int) -> Tensor:
    """The matrix (rows, columns) whose padded blocks are (down, across, high, wide): undoes `blocks_of`."""
    down, across, high, wide = blocks.shape
    return blocks.transpose(1, 2).reshape(down * high, across * wide)[:rows, :columns].contiguous()


def even_parts(length: int, count: int) -> list[slice]:
    """`count` adjoining parts of a side, none longer than another by more than one.

    Raises WrongUse when there are more parts than positions."""
    if count > length:
        raise WrongUse(f"a side of {length} cannot be cut into {count} parts: ask for at most {length}")
    bounds = [part * length // count for part in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def real(rows: int, columns: int, high: int, wide: int) -> Tensor:
    """Which positions of a matrix's blocks are not padding: bool (down, across, high, wide)."""
    return blocks_of(torch.ones(rows, columns, dtype=torch.bool), high, wide, False)
