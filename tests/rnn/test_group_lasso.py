"""Reweighted group lasso against sums worked out by hand, and the pattern it leaves."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Parameter

from lib.errors import ReproError, WrongUse
from lib.rnn.group_lasso import ReweightedGroupLasso
from lib.rnn.row_groups import outside_blocks


def lasso(
    matrix: torch.Tensor, block: tuple[int, int], strength: float = 1.0, eps: float = 1.0
) -> ReweightedGroupLasso:
    return ReweightedGroupLasso({"w": Parameter(matrix)}, block, strength, eps)


def test_penalty_by_hand() -> None:
    found = lasso(torch.tensor([[1.0, 2.0], [0.0, 3.0]]), (2, 2), strength=0.5)
    # squared norms: rows 5 and 9, columns 1 and 13; each over (itself + 1) squared
    groups = 5 / 36 + 9 / 100 + 1 / 4 + 13 / 196
    assert found.penalty().item() == pytest.approx(0.5 * groups)


def test_groups_do_not_cross_blocks() -> None:
    found = lasso(torch.tensor([[1.0, 2.0]]), (1, 1))
    # each weight is a row and a column of its own
    assert found.penalty().item() == pytest.approx(2 * (1 / 4 + 4 / 25))


def test_weights_of_groups_are_constant_until_taken_anew() -> None:
    matrix = Parameter(torch.tensor([[1.0]]))
    found = ReweightedGroupLasso({"w": matrix}, (1, 1), 1.0, 1.0)
    with torch.no_grad():
        matrix.fill_(2.0)
    assert found.penalty().item() == pytest.approx(2 * 4 / 4)
    found.reweight()
    assert found.penalty().item() == pytest.approx(2 * 4 / 25)


def test_gradient_pushes_weak_groups_harder_relative_to_their_size() -> None:
    matrix = Parameter(torch.tensor([[0.1, 0.0], [0.0, 1.0]]))
    ReweightedGroupLasso({"w": matrix}, (1, 2), 1.0, 1.0e-3).penalty().backward()
    assert matrix.grad is not None
    assert matrix.grad[0, 0] / 0.1 > 100 * matrix.grad[1, 1] / 1.0


def test_strength_zero_is_no_penalty() -> None:
    matrix = Parameter(torch.randn(5, 7, generator=torch.Generator().manual_seed(0)))
    penalty = ReweightedGroupLasso({"w": matrix}, (2, 3), 0.0).penalty()
    penalty.backward()
    assert penalty.item() == 0
    assert matrix.grad is not None
    assert not matrix.grad.any()


def test_rate_one_keeps_everything_even_zeros() -> None:
    matrix = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert lasso(matrix, (2, 2)).masks(1)["w"].all()


def test_strong_rows_and_columns_stay() -> None:
    matrix = torch.full((4, 4), 0.01)
    matrix[:2, 1] = 1.0  # upper left block: rows 0 and 1, column 1
    matrix[3, 2:] = 1.0  # lower right block: row 3, columns 2 and 3
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[:2, 1] = expected[3, 2:] = True
    assert torch.equal(lasso(matrix, (2, 2)).masks(4)["w"], expected)


def test_rates_emerge_matrix_by_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    weak = Parameter(0.5 * torch.randn(32, 32, generator=generator))
    strong = Parameter(torch.randn(32, 32, generator=generator))
    masks = ReweightedGroupLasso({"weak": weak, "strong": strong}, (4, 4), 1.0).masks(4)
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    assert kept["strong"] > 2 * kept["weak"] > 0
    assert sum(kept.values()) == pytest.approx(2 * 32 * 32 / 4, rel=0.02)


def test_a_convolution_is_pruned_as_its_matrix() -> None:
    kernel = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    mask = ReweightedGroupLasso({"w": Parameter(kernel)}, (2, 4), 1.0).masks(3)["w"]
    flat = ReweightedGroupLasso({"w": Parameter(kernel.flatten(1))}, (2, 4), 1.0).masks(3)["w"]
    assert mask.shape == kernel.shape
    assert torch.equal(mask.flatten(1), flat)


@given(
    st.integers(2, 13),
    st.integers(2, 13),
    st.integers(1, 20),
    st.integers(1, 20),
    st.floats(1, 6),
    st.integers(0, 99),
)
def test_every_pattern_is_rows_times_columns_of_blocks(
    rows: int, columns: int, high: int, wide: int, rate: float, seed: int
) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    mask = lasso(matrix, (high, wide)).masks(rate)["w"]
    assert mask.any()
    assert outside_blocks(mask, (high, wide)) == 0


def test_a_short_block_at_the_edge_is_not_held_against_its_groups() -> None:
    # 3 columns in blocks of 2: the last block is one column wide, its rows as strong as the others
    mask = lasso(torch.ones(2, 3), (2, 2)).masks(1.5)["w"]
    assert mask.all()


def test_a_matrix_that_would_be_emptied_is_refused_by_name() -> None:
    parameters = {"large": Parameter(torch.ones(4, 4)), "small": Parameter(torch.full((4, 4), 0.01))}
    with pytest.raises(ReproError, match="small"):
        ReweightedGroupLasso(parameters, (2, 2), 1.0).masks(2)


def test_training_on_the_penalty_alone_empties_weak_groups() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = Parameter(torch.randn(8, 8, generator=generator))
    with torch.no_grad():
        matrix[::2] *= 0.1
    found = ReweightedGroupLasso({"w": matrix}, (8, 8), 0.1, eps=0.1)
    optimizer = torch.optim.SGD([matrix], lr=0.01)
    before = matrix.detach().clone()
    for _ in range(50):
        optimizer.zero_grad()
        found.penalty().backward()
        optimizer.step()
        found.reweight()
    left = matrix.detach().norm(dim=1) / before.norm(dim=1)
    assert left[::2].max() < left[1::2].min()


@pytest.mark.parametrize(
    ("block", "strength", "eps", "named"),
    [((0, 2), 1.0, 1.0, "block"), ((2, 2), -1.0, 1.0, "strength"), ((2, 2), 1.0, 0.0, "eps")],
)
def test_numbers_that_make_no_sense_are_refused(
    block: tuple[int, int], strength: float, eps: float, named: str
) -> None:
    with pytest.raises(WrongUse, match=named):
        lasso(torch.ones(2, 2), block, strength, eps)


def test_rate_below_one_and_nothing_to_prune_are_refused() -> None:
    with pytest.raises(WrongUse, match="rate"):
        lasso(torch.ones(2, 2), (2, 2)).masks(0.5)
    with pytest.raises(WrongUse, match="no parameter"):
        ReweightedGroupLasso({}, (2, 2), 1.0)
