"""BMWM and DARB: survivors by hand, row classes, the rounding point, empty rows, padding."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.errors import WrongUse
from lib.rnn.baselines import Unstructured
from lib.rnn.darb import BlockMax, DensityAdaptive, block_max_mask
from lib.rnn.structure import measured_rate, retained_norm
from tests.rnn.parts import gaussian, uneven


def test_block_maxima_by_hand() -> None:
    weight = torch.tensor([[1.0, -3, 2, 2, 0, 0, -1], [0.0, 0, 5, 4, 1, 1, 1]])
    assert block_max_mask(weight, 4).int().tolist() == [[0, 1, 0, 0, 0, 0, 1], [0, 0, 1, 0, 1, 0, 0]]
    assert block_max_mask(weight, torch.tensor([2, 0])).int().tolist() == [[0, 1, 1, 0, 1, 0, 1], [0] * 7]
    assert block_max_mask(weight, 1).all()


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 40))
def test_every_block_has_one_survivor(rows: int, columns: int, block: int) -> None:
    weight = gaussian(rows, columns)
    mask = block_max_mask(weight, block)
    for start in range(0, columns, block):
        part, magnitudes = mask[:, start : start + block], weight[:, start : start + block].abs()
        assert (part.sum(dim=1) == 1).all()
        assert torch.equal(magnitudes[part], magnitudes.max(dim=1).values)


@pytest.mark.parametrize("block", [0, -1, torch.tensor([1, -1]), torch.tensor([1.0, 2.0]), torch.tensor([1])])
def test_malformed_blocks_are_named(block: int | torch.Tensor) -> None:
    with pytest.raises(WrongUse, match="block"):
        block_max_mask(torch.ones(2, 4), block)


def test_literal_classes_by_hand() -> None:
    # at 2x, 16 of 32 weights stay: 8, 5, 2 and 1 of them in the rows, a density of 1, 0.625, 0.25, 0.125
    weight = torch.zeros(4, 8)
    for row, count in enumerate((8, 5, 2, 1)):
        weight[row, :count] = 1
    sizes = DensityAdaptive(exact_rate=False).block_sizes(weight, 2)
    assert sizes.tolist() == [1, 2, 4, 8]  # log2(1 / 0.625) = 0.68 rounds to 1
    assert DensityAdaptive(1, 4, exact_rate=False).block_sizes(weight, 2).tolist() == [1, 2, 4, 4]
    assert DensityAdaptive(2, 8, exact_rate=False).block_sizes(weight, 2).tolist() == [2, 2, 4, 8]
    # twice the rate from the same densities: every class doubles
    doubled = DensityAdaptive(reference_rate=2, exact_rate=False).block_sizes(weight, 4)
    assert doubled.tolist() == [2, 4, 8, 16]


def test_tuned_classes_by_hand() -> None:
    # all rows are alike, so those of smaller norm take larger blocks first: 8 + 8 + 4 + 4 = 24 of 32
    weight = torch.ones(4, 8) * torch.tensor([[4.0], [1], [2], [3]])
    sizes = DensityAdaptive(reference_rate=1).block_sizes(weight, 4 / 3)
    assert sizes.tolist() == [1, 2, 2, 1]


@pytest.mark.parametrize("rate", [1.5, 3, 10, 13, 25])
def test_rate_is_met_where_rounding_misses_it(rate: float) -> None:
    weight = uneven(256, 256)
    missed = []
    for reference in (4.0, 16.0):
        tuned = DensityAdaptive(reference_rate=reference)
        assert measured_rate(tuned.mask(weight, rate)) == pytest.approx(rate, rel=0.01)
        literal = DensityAdaptive(reference_rate=reference, exact_rate=False)
        missed.append(abs(measured_rate(literal.mask(weight, rate)) / rate - 1))
    assert max(missed) > 0.02


def test_denser_rows_get_smaller_blocks() -> None:
    weight = uneven(128, 128)
    density = Unstructured().mask(weight, 16).sum(dim=1)
    sizes = DensityAdaptive(reference_rate=16).block_sizes(weight, 16)
    order = density.argsort(stable=True)
    classes = [sizes[density == value].float().mean() for value in density[order].unique()]
    assert classes == sorted(classes, reverse=True)
    assert len(sizes.unique()) > 2


def test_classes_of_a_pruned_matrix_stay() -> None:
    structure, weight = DensityAdaptive(reference_rate=4), uneven(96, 128)
    sizes = structure.block_sizes(weight, 8)
    pruned = weight * block_max_mask(weight, sizes)
    assert torch.equal(structure.block_sizes(pruned, 8), sizes)
    assert torch.equal(pruned * block_max_mask(pruned, sizes), pruned)


def test_rules_for_empty_rows() -> None:
    weight = uneven(16, 64)
    weight[3] = 0
    for structure, size in [
        (DensityAdaptive(k_max=32), 32),
        (DensityAdaptive(k_max=32, empty_rows="drop"), 0),
        (DensityAdaptive(k_max=32, exact_rate=False), 32),
    ]:
        assert int(structure.block_sizes(weight, 4)[3]) == size
        assert int(structure.mask(weight, 4)[3].sum()) == (2 if size else 0)


def test_density_classes_lie_between_uniform_blocks_and_no_structure() -> None:
    # one draw of another generator gave 0.284 for uniform blocks and 0.398 without structure
    weight = uneven(512, 512, spread=0.3)
    energies = [
        retained_norm(weight, structure.mask(weight, 16)) ** 2
        for structure in (BlockMax(), DensityAdaptive(reference_rate=16), Unstructured())
    ]
    assert energies == sorted(energies)
    assert energies[0] == pytest.approx(0.284, abs=0.015)
    assert energies[2] == pytest.approx(0.398, abs=0.03)


@pytest.mark.parametrize(("block", "energy"), [(4, 0.617), (8, 0.432), (16, 0.284), (32, 0.179)])
def test_energy_of_block_maxima_of_gaussian_weights(block: int, energy: float) -> None:
    # integral of the largest square of k normal variables, over k
    weight = gaussian(512, 1024)
    assert retained_norm(weight, block_max_mask(weight, block)) ** 2 == pytest.approx(energy, abs=0.005)


def test_one_class_leaves_nothing_to_tune() -> None:
    assert DensityAdaptive(8, 8).block_sizes(uneven(6, 32), 8).tolist() == [8] * 6


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"k_min": 0}, "k_min"),
        ({"k_max": 12}, "k_max must be a power"),
        ({"k_min": 8, "k_max": 4}, "above k_max"),
        ({"reference_rate": 0.5}, "reference_rate"),
        ({"empty_rows": "keep"}, "empty_rows"),
    ],
)
def test_malformed_settings_are_named(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        DensityAdaptive(**settings_)


def test_rate_beyond_the_widest_blocks_is_refused() -> None:
    with pytest.raises(WrongUse, match="k_max = 8"):
        DensityAdaptive(k_max=8).mask(gaussian(4, 64), 9)
