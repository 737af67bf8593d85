"""Which weights of a matrix are left, in which structure, and what their indices cost in storage.

A layer's weights are seen as a matrix of `rows` outputs by `columns` inputs (a convolution's kernel positions
belong to its inputs). Formats: CSR for unstructured weights (Saad), the same without row pointers where all
rows keep equally many, offsets inside a bank (BBS, FPGA 2019), and kept rows and columns per block (CSB-RNN
section 3, GRIM).
"""

from math import ceil, log2
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from hw_models.errors import HardwareModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

Structure = Literal["unstructured", "row_balanced", "bank_balanced", "block", "channel"]


def bits_for(values: int) -> int:
    """Bits that tell `values` different values apart; none where there is only one."""
    return ceil(log2(values)) if values > 1 else 0


class Sparsity(BaseModel):
    """The share of the weights that is left (`density`, above 0 and at most 1) and how they are arranged.

    `block` is the height and width of a block for structure "block", and (1, width of a bank) for
    "bank_balanced"; the other structures have none. Raises HardwareModelError for what cannot be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    structure: Structure
    density: float = Field(gt=0, le=1, allow_inf_nan=False)
    block: tuple[PositiveInt, PositiveInt] | None = None

    def __init__(self, *, structure: Structure, density: float, block: tuple[int, int] | None = None) -> None:
        try:
            super().__init__(structure=structure, density=density, block=block)
        except ValidationError as error:
            problems = (_problem(each) for each in error.errors())
            raise HardwareModelError(f"sparsity: {'; '.join(problems)}") from error

    # Inside a workload pydantic then validates fields by itself, and names them in its own error.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="after")
    def _block_where_it_belongs(self) -> Self:
        wants = self.structure in ("block", "bank_balanced")
        if wants != (self.block is not None):
            raise ValueError(f"structure {self.structure!r} {'needs a' if wants else 'has no'} block size")
        return self

    def index_bits(self, rows: int, columns: int) -> float:
        """Bits of all indices of a (rows, columns) matrix; 0 where nothing was removed."""
        if self.density == 1 or not rows or not columns:
            return 0.0
        kept = self.density * rows * columns
        match self.structure:
            case "unstructured":
                return kept * bits_for(columns) + (rows + 1) * bits_for(ceil(kept) + 1)
            case "row_balanced":
                return kept * bits_for(columns)
            case "bank_balanced":
                assert self.block
                return kept * bits_for(min(self.block[1], columns))
            case "block":
                assert self.block
                height, width = min(self.block[0], rows), min(self.block[1], columns)
                side = self.density**0.5
                each = height * side * bits_for(height) + width * side * bits_for(width)
                counters = bits_for(height + 1) + bits_for(width + 1)
                return ceil(rows / height) * ceil(columns / width) * (each + counters)
            case "channel":
                side = self.density**0.5
                return rows * side * bits_for(rows) + columns * side * bits_for(columns)

    def __str__(self) -> str:
        block = f" {self.block[0]}x{self.block[1]}" if self.block else ""
        return f"{self.structure.replace('_', '-')}{block}, {1 / self.density:.3g}x"


def _problem(problem: Any) -> str:
    """One mistake that pydantic found."""
    given = f", got {problem['input']!r}" if problem["loc"] else ""
    place = ".".join(map(str, problem["loc"])) + ": " if problem["loc"] else ""
    return place + problem["msg"].removeprefix("Value error, ") + given


def measured_sparsity(module: "nn.Module", block: tuple[int, int] | None = None) -> dict[str, Sparsity]:
    """Sparsity of every weight of `module` with two or more axes that holds zeros, by parameter name.

    The most regular structure that explains all zeros is named: whole rows and columns of the matrix, rows
    and columns inside blocks of size `block` (if one is given), equally many weights in every row, or none
    of these. Embeddings are looked up, not multiplied with, and left out.

    Raises HardwareModelError for a weight that is zero throughout, which no format stores, and for a block
    without a size.
    """
    from torch import nn

    if block is not None and min(block) < 1:
        raise HardwareModelError(f"block sides must be at least 1, got {block}")
    embeddings = {
        id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)
    }
    found = {}
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2 and id(parameter) not in embeddings:
            kept = (parameter.detach().flatten(1) != 0).cpu()
            if not kept.any():
                raise HardwareModelError(f"{name} is zero throughout; remove the layer instead of storing it")
            if not kept.all():
                found[name] = _structure(kept, block)
    return found


def _structure(kept: "torch.Tensor", block: tuple[int, int] | None) -> Sparsity:
    """The most regular structure of the mask `kept` (rows, columns), which has zeros and ones."""
    density = kept.double().mean().item()
    if _is_product(kept):
        return Sparsity(structure="channel", density=density)
    if block:
        height, width = block
        tiles = (tile for band in kept.split(height, 0) for tile in band.split(width, 1))
        if all(_is_product(tile) for tile in tiles):
            return Sparsity(structure="block", density=density, block=block)
    counts = kept.sum(1)
    balanced = bool((counts == counts[0]).all())
    return Sparsity(structure="row_balanced" if balanced else "unstructured", density=density)


def _is_product(mask: "torch.Tensor") -> bool:
    """Whether a mask is all pairs of some rows and some columns."""
    return bool((mask == (mask.any(1)[:, None] & mask.any(0)[None, :])).all())
