"""What every structure must do: rate 1 changes nothing, the rate is met, malformed weights are refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.errors import WrongUse
from lib.rnn.baselines import BankBalanced, Columns, RowBalanced, Rows, Unstructured
from lib.rnn.csb_rnn import CompressedBlocks
from lib.rnn.darb import BlockMax, DensityAdaptive
from lib.rnn.grim import BlockColumnRow
from lib.rnn.rtmobile import BlockStructured
from lib.rnn.structure import Structure, check_names, kept, largest, measured_rate, projection, retained_norm
from tests.rnn.parts import gaussian, uneven

STRUCTURES: dict[str, Structure] = {
    "unstructured": Unstructured(),
    "row balanced": RowBalanced(),
    "bank balanced": BankBalanced(3),
    "rows": Rows(),
    "columns": Columns(),
    "bcr": BlockColumnRow(4, 8),
    "bcr as printed": BlockColumnRow(4, 8, exact_rate=False),
    "bsp": BlockStructured(1, 1, row_rate=2.0),
    "bsp as printed": BlockStructured(1, 1, row_rate=2.0, exact_rate=False),
    "csb": CompressedBlocks((4, 8)),
    "csb as printed": CompressedBlocks((4, 8), exact_rate=False),
    "bmwm": BlockMax(),
    "darb": DensityAdaptive(),
    "darb as rounded": DensityAdaptive(exact_rate=False),
    "darb without empty rows": DensityAdaptive(empty_rows="drop", reference_rate=30),
}
EVERY = pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES.keys())
FINE = ("unstructured", "bcr", "csb", "darb")


@EVERY
@settings(deadline=None, max_examples=15)
@given(st.integers(1, 25), st.integers(1, 25), st.floats(1, 40), st.integers(0, 9))
def test_mask_of_any_shape(structure: Structure, rows: int, columns: int, rate: float, seed: int) -> None:
    weight = gaussian(rows, columns, seed=seed)
    before = weight.clone()
    mask = structure.mask(weight, rate)
    assert mask.shape == weight.shape
    assert mask.dtype == torch.bool
    assert mask.any()
    assert torch.equal(mask, structure.mask(weight, rate))
    assert torch.equal(weight, before)
    assert structure.mask(weight, 1).all()


@EVERY
def test_zero_matrix_keeps_something(structure: Structure) -> None:
    assert 1 <= int(structure.mask(torch.zeros(12, 20), 4).sum()) < 240


@EVERY
def test_scale_of_the_weights_is_irrelevant(structure: Structure) -> None:
    weight = uneven(24, 32)
    assert torch.equal(structure.mask(weight, 6), structure.mask(-8 * weight, 6))


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("shape", [(96, 128), (192, 39), (65, 100)])
@pytest.mark.parametrize("rate", [1.5, 4, 10, 20])
def test_rate_is_met(name: str, shape: tuple[int, int], rate: float) -> None:
    mask = STRUCTURES[name].mask(uneven(*shape), rate)
    assert measured_rate(mask) == pytest.approx(rate, rel=0.03)


@EVERY
def test_malformed_arguments_are_named(structure: Structure) -> None:
    for weight, rate, message in [
        (torch.ones(3), 2, "matrices"),
        (torch.ones(0, 3), 2, "matrices"),
        (torch.full((2, 2), torch.nan), 2, "not finite"),
        (torch.tensor([[1.0, torch.inf]]), 2, "not finite"),
        (torch.ones(2, 2), 0.5, "rate"),
        (torch.ones(2, 2), float("nan"), "rate"),
        (torch.ones(2, 2), float("inf"), "rate"),
    ]:
        with pytest.raises(WrongUse, match=message):
            structure.mask(weight, rate)


def test_convolutions_are_matrices_of_filters() -> None:
    weight = gaussian(8, 3, 5, 5)
    mask = kept(Rows(), weight, 4)
    assert mask.shape == weight.shape
    whole = mask.flatten(1)
    assert torch.equal(whole.any(dim=1), whole.all(dim=1))
    assert int(whole.all(dim=1).sum()) == 2
    assert torch.equal(projection(Rows(), 4)(weight), weight * mask)


def test_projection_of_a_parameter_keeps_type_and_gradient() -> None:
    weight = nn.Parameter(gaussian(8, 8))
    projected = projection(Unstructured(), 4)(weight)
    assert projected.dtype == torch.float32
    projected.sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, (projected != 0).float())


# DARB draws its classes of rows from the weights anew; with the classes fixed it is a projection too
@pytest.mark.parametrize("structure", [STRUCTURES[name] for name in STRUCTURES if "darb" not in name])
@settings(deadline=None, max_examples=15)
@given(st.integers(4, 40), st.integers(4, 40), st.floats(1, 10), st.integers(0, 9))
def test_projecting_twice_is_projecting_once(
    structure: Structure, rows: int, columns: int, rate: float, seed: int
) -> None:
    project = projection(structure, rate)
    once = project(gaussian(rows, columns, seed=seed))
    assert torch.equal(project(once), once)


def test_a_bias_is_no_matrix() -> None:
    with pytest.raises(WrongUse, match="two dimensions"):
        projection(Unstructured(), 2)(torch.ones(4))


def test_measures_by_hand() -> None:
    weight, mask = torch.tensor([[3.0, 4.0], [0.0, 12.0]]), torch.tensor([[True, True], [False, False]])
    assert measured_rate(mask) == 2
    assert retained_norm(weight, mask) == pytest.approx(5 / 13)
    assert retained_norm(torch.zeros(2, 2), mask) == 1
    assert measured_rate(torch.zeros(2, 2, dtype=torch.bool)) == float("inf")


def test_first_of_equals_wins() -> None:
    assert largest(torch.ones(2, 4), 2).tolist() == [[True, True, False, False]] * 2


def test_finer_structures_keep_more_of_the_norm() -> None:
    weight = gaussian(256, 256)
    coarse_to_fine: list[Structure] = [
        Rows(),
        BlockColumnRow(64, 64),
        BlockColumnRow(16, 16),
        RowBalanced(),
        Unstructured(),
    ]
    norms = [retained_norm(weight, structure.mask(weight, 8)) for structure in coarse_to_fine]
    assert norms == sorted(norms)


def test_names_of_structures_are_checked() -> None:
    check_names(["own", "other"], ["own", "other", "third"], "own")
    with pytest.raises(WrongUse, match="no structure 'else'; known: own, other"):
        check_names(["own", "else"], ["own", "other"], "own")
    with pytest.raises(WrongUse, match="structures must hold 'own'"):
        check_names(["other"], ["own", "other"], "own")
