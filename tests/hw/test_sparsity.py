"""Index storage counted by hand, and structures recognised in masks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hw_models import HardwareModelError, Sparsity, measured_sparsity, trace
from hw_models.sparsity import Structure, bits_for

ANY: dict[Structure, tuple[int, int] | None] = {
    "unstructured": None,
    "row_balanced": None,
    "bank_balanced": (1, 4),
    "block": (2, 4),
    "channel": None,
}


@pytest.mark.parametrize(("values", "bits"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1024, 10)])
def test_bits_that_tell_values_apart(values: int, bits: int) -> None:
    assert bits_for(values) == bits


@pytest.mark.parametrize(
    ("structure", "block", "bits"),
    [
        # Eight of the 4 x 8 weights are left; five row pointers tell 0 to 8 apart.
        ("unstructured", None, 8 * 3 + 5 * 4),
        ("row_balanced", None, 8 * 3),
        ("bank_balanced", (1, 4), 8 * 2),
        ("bank_balanced", (1, 100), 8 * 3),
        # Four blocks, each with one of two rows, two of four columns, and both counts.
        ("block", (2, 4), 4 * (1 * 1 + 2 * 2 + 2 + 3)),
        # Blocks larger than the matrix: one block of 4 x 8.
        ("block", (100, 100), 2 * 2 + 4 * 3 + 3 + 4),
        ("channel", None, 2 * 2 + 4 * 3),
    ],
)
def test_index_bits_by_hand(structure: Structure, block: tuple[int, int] | None, bits: int) -> None:
    assert Sparsity(structure=structure, density=0.25, block=block).index_bits(4, 8) == bits


def test_blocks_at_the_rim_are_counted_whole() -> None:
    sparsity = Sparsity(structure="block", density=0.25, block=(2, 4))
    assert sparsity.index_bits(5, 9) == 9 * (1 * 1 + 2 * 2 + 2 + 3)


@pytest.mark.parametrize("structure", ANY)
def test_nothing_removed_needs_no_index(structure: Structure) -> None:
    assert Sparsity(structure=structure, density=1, block=ANY[structure]).index_bits(7, 13) == 0


@pytest.mark.parametrize("structure", ANY)
@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_empty_matrix_needs_no_index(structure: Structure, size: tuple[int, int]) -> None:
    assert Sparsity(structure=structure, density=0.5, block=ANY[structure]).index_bits(*size) == 0


@pytest.mark.parametrize("structure", ANY)
def test_structure_that_needs_a_block_or_has_none(structure: Structure) -> None:
    wrong = (2, 2) if ANY[structure] is None else None
    message = "has no block" if ANY[structure] is None else "needs a block"
    with pytest.raises(HardwareModelError, match=message):
        Sparsity(structure=structure, density=0.5, block=wrong)


@pytest.mark.parametrize("block", [(0, 4), (4, 0), (-1, 4)])
def test_block_without_size_is_refused(block: tuple[int, int]) -> None:
    with pytest.raises(HardwareModelError, match=r"^sparsity: block\.[01]: .* greater than 0, got -?\d$"):
        Sparsity(structure="block", density=0.5, block=block)


@pytest.mark.parametrize("density", [0, -0.1, 1.1, float("nan"), float("inf")])
def test_impossible_density_is_refused(density: float) -> None:
    with pytest.raises(HardwareModelError, match=r"^sparsity: density: [^\n]*, got \S+$"):
        Sparsity(structure="channel", density=density)


def test_text_names_structure_block_and_compression() -> None:
    assert str(Sparsity(structure="row_balanced", density=0.25)) == "row-balanced, 4x"
    assert str(Sparsity(structure="block", density=0.5, block=(8, 16))) == "block 8x16, 2x"


Mask = Callable[[int, int], torch.Tensor]


def channels(rows: int, columns: int) -> torch.Tensor:
    mask = torch.ones(rows, columns)
    mask[1] = 0
    mask[:, 2] = 0
    return mask


def blocks(rows: int, columns: int) -> torch.Tensor:
    """In each 2 x 3 block, another row or column is gone."""
    mask = torch.ones(rows, columns)
    mask[0, 0:3] = 0
    mask[3, 3:6] = 0
    mask[2:4, 1] = 0
    return mask


def balanced(rows: int, columns: int) -> torch.Tensor:
    """Two a row, one place further in every row."""
    mask = torch.zeros(rows, columns)
    for row in range(rows):
        mask[row, row % columns] = mask[row, (row + 1) % columns] = 1
    return mask


def scattered(rows: int, columns: int) -> torch.Tensor:
    mask = torch.ones(rows, columns)
    mask[0, 0] = mask[0, 1] = mask[1, 3] = 0
    return mask


def masked(module: nn.Module, mask: torch.Tensor) -> nn.Module:
    weight: Any = module.weight
    with torch.no_grad():
        weight.copy_((mask * (1 + torch.rand(mask.shape))).reshape(weight.shape))
    return module


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (9, 11)])
@pytest.mark.parametrize(
    ("mask", "structure"),
    [
        (channels, "channel"),
        (blocks, "block"),
        (balanced, "row_balanced"),
        (scattered, "unstructured"),
    ],
)
def test_structure_is_recognised(mask: Mask, structure: Structure, size: tuple[int, int]) -> None:
    kept = mask(*size)
    found = measured_sparsity(masked(nn.Linear(size[1], size[0]), kept), block=(2, 3))
    assert list(found) == ["weight"]
    assert found["weight"].structure == structure
    assert found["weight"].density == pytest.approx(kept.mean().item())
    assert found["weight"].block == ((2, 3) if structure == "block" else None)


def test_blocks_are_only_looked_for_where_a_size_is_given() -> None:
    assert measured_sparsity(masked(nn.Linear(6, 4), blocks(4, 6)))["weight"].structure == "unstructured"


def test_removed_channels_of_a_convolution_are_recognised() -> None:
    kernel = torch.ones(4, 3, 3, 3)
    kernel[0] = 0
    kernel[:, 1] = 0
    (found,) = measured_sparsity(masked(nn.Conv2d(3, 4, 3), kernel)).values()
    assert (found.structure, found.density) == ("channel", pytest.approx(0.5))


def test_names_are_paths_and_dense_weights_are_not_listed() -> None:
    module = nn.Sequential(masked(nn.Linear(6, 4), scattered(4, 6)), nn.Linear(4, 4), nn.BatchNorm1d(4))
    assert list(measured_sparsity(module)) == ["0.weight"]


def test_weight_that_is_zero_throughout_is_refused() -> None:
    with pytest.raises(HardwareModelError, match=r"^weight is zero throughout; remove the layer"):
        measured_sparsity(masked(nn.Linear(6, 4), torch.zeros(4, 6)))


@pytest.mark.parametrize("block", [(0, 4), (4, 0), (-1, 4)])
def test_blocks_without_size_cannot_be_looked_for(block: tuple[int, int]) -> None:
    with pytest.raises(HardwareModelError, match="block"):
        measured_sparsity(masked(nn.Linear(6, 4), scattered(4, 6)), block=block)


def test_multiplications_of_a_pruned_module_are_its_weights_times_its_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    kept = (torch.rand(1000, 1500, generator=generator) < 0.3).float()
    module = masked(nn.Linear(1500, 1000, bias=False), kept)
    pruned = trace(module, torch.empty(197, 1500)).with_sparsity(measured_sparsity(module))
    assert pruned.macs == 197 * int(kept.sum().item())


def test_pruned_network_with_an_embedding_takes_its_measured_sparsity() -> None:
    """The row of an embedding that stands for padding is zero, and nothing multiplies with it."""
    module = nn.Sequential(nn.Embedding(9, 6, padding_idx=0), masked(nn.Linear(6, 4), scattered(4, 6)))
    pruned = trace(module, torch.tensor([1, 2])).with_sparsity(measured_sparsity(module))
    assert pruned.macs == 2 * (24 - 3)
