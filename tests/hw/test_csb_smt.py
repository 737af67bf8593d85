"""The sharing problem for Z3: solutions against their constraints, and what happens without Z3."""

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hw_models.csb import KernelGrid, project
from hw_models.csb_smt import Solution, satisfied, sharing_problem, solve, z3_module
from hw_models.errors import HardwareModelError
from hw_models.sparse_array import Assignment, PEArray, check_constraints, cycles

TWO = PEArray(2, 2, 4, 4)
KERNELS = KernelGrid(np.array([[12, 10], [7, 6]]), np.array([[14, 15], [12, 13]]))


def one(*sizes: int) -> Any:
    return np.array(sizes, dtype=np.int64).reshape(1, 2, 2)


SOLVED = Solution(
    Assignment(
        rows=one(12, 12, 8, 8),
        columns=one(16, 16, 12, 16),
        horizontal_rows=one(8, 12, 4, 8),
        horizontal_columns=one(16, 8, 12, 12),
        vertical_rows=one(4, 12, 4, 8),
        vertical_columns=one(0, 8, 0, 4),
    ),
    margin=16,
)
"""What Z3 5.4.1 answered for KERNELS: a solution to check where there is no Z3."""


def needs_z3() -> None:
    pytest.importorskip("z3", reason="Z3 is not installed (pip install z3-solver)")


def test_a_solution_fulfils_the_constraints() -> None:
    check_constraints(SOLVED.assignment, TWO, SOLVED.margin)


@pytest.mark.parametrize(
    ("field", "sizes", "constraint"),
    [
        ("horizontal_columns", (20, 8, 12, 12), "1"),  # more columns than the kernel has
        ("horizontal_rows", (8, -4, 4, 8), "1"),
        ("vertical_columns", (0, 12, 0, 4), "2"),  # more than half of the columns
        ("horizontal_columns", (12, 8, 12, 12), "3 or 4"),  # neither through the whole kernel
        ("horizontal_rows", (7, 12, 4, 8), "3 or 4"),
        ("rows", (16, 12, 8, 8), "3 or 4"),
    ],
)
def test_a_broken_solution_is_noticed(field: str, sizes: tuple[int, ...], constraint: str) -> None:
    broken = replace(SOLVED.assignment, **{field: one(*sizes)})
    with pytest.raises(HardwareModelError, match=f"constraint {constraint}"):
        check_constraints(broken, TWO, margin=10**6)


def test_a_solution_outside_its_margin_is_noticed() -> None:
    with pytest.raises(HardwareModelError, match="constraint 7"):
        check_constraints(SOLVED.assignment, TWO, float(SOLVED.assignment.margin.max()) - 1)


def test_parts_that_are_no_whole_passes_are_noticed() -> None:
    with pytest.raises(HardwareModelError, match="constraint 6"):
        check_constraints(SOLVED.assignment, PEArray(2, 2, 3, 4), SOLVED.margin)


def test_without_z3_a_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(HardwareModelError, match="pip install z3-solver"):
        z3_module()
    with pytest.raises(HardwareModelError, match="pip install z3-solver"):
        solve(KERNELS, TWO)


def test_blocks_must_be_one_for_each_group() -> None:
    with pytest.raises(HardwareModelError, match=r"\(2, 2\) groups, not \(1, 2\)"):
        solve(KernelGrid(np.array([[3, 4]]), np.array([[3, 4]])), TWO)


@pytest.mark.parametrize("array", [TWO, PEArray(2, 2, 2, 4), PEArray(1, 4, 4, 4), PEArray(4, 1, 3, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_solutions_of_z3_fulfil_the_constraints(array: PEArray, seed: int) -> None:
    needs_z3()
    rows, columns = np.random.default_rng(seed).integers(0, 17, (2, array.group_rows, array.group_columns))
    solution = solve(KernelGrid(rows, columns), array)
    check_constraints(solution.assignment, array, solution.margin)
    assert solution.busiest >= solution.assignment.loads.mean()


def test_z3_finds_no_smaller_margin() -> None:
    needs_z3()
    solution = solve(KERNELS, TWO)
    assert solution.margin == SOLVED.margin
    problem = sharing_problem(KERNELS, TWO)
    assert satisfied([*problem.rules, *problem.within(0)]) == (None, True)


@pytest.mark.parametrize("seed", range(3))
def test_the_search_without_z3_is_as_good(seed: int) -> None:
    needs_z3()
    weights = np.random.default_rng(seed).standard_normal((64, 64))
    kernels = project(weights, 4, 32).kernels
    ours, theirs = cycles(kernels, TWO, "2d"), solve(kernels, TWO)
    assert ours.cycles * TWO.pe_rows * TWO.pe_columns <= theirs.busiest


def test_equal_kernels_are_balanced_without_sharing() -> None:
    needs_z3()
    kernels = KernelGrid(np.full((2, 2), 8), np.full((2, 2), 8))
    solution = solve(kernels, TWO)
    assert (solution.margin, solution.busiest) == (0, 64)


def test_empty_kernels_have_a_solution() -> None:
    needs_z3()
    empty = np.zeros((2, 2), dtype=int)
    assert solve(KernelGrid(empty, empty), TWO).busiest == 0


def test_too_little_effort_is_said() -> None:
    needs_z3()
    with pytest.raises(HardwareModelError, match="effort of 1"):
        solve(KERNELS, TWO, effort=1)
