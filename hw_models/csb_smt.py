"""The sharing problem of CSB-RNN (ICS 2020, section 5.3) as the paper states it, for Z3 to solve.

One iteration has K x L groups with a kernel of n x m weights each; unknown are, for every group, the part
dn_h x dm_h that its right neighbour computes and the part dn_v x dm_v that the one below computes.
Constraints 1 to 6 say which parts are possible, 7 that no group's load is further than a margin from the
mean. The margin starts at 0 and grows by P*Q until there is a solution. See `hw_models.sparse_array` for the
two readings that are shared with the solver used there, which needs no Z3; `check_constraints` there judges
the solutions of both.

Z3 is no requirement of the project: `pip install z3-solver`.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw_models.csb import KernelGrid
from hw_models.errors import HardwareModelError
from hw_models.sparse_array import Assignment, PEArray

EFFORT = 200_000_000
"""Z3's own count of work that one question may take: every machine then gives the same answer."""


@dataclass(frozen=True)
class Problem:
    """Constraints 1 to 6 of one iteration, and the load of every group, as expressions of Z3 in weights.

    `parts` are the sizes dn_h, dm_h, dn_v and dm_v of every group; groups are in row-major order
    throughout."""

    array: PEArray
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    """n and m of every kernel, rounded up to whole passes."""
    parts: tuple[tuple[Any, Any, Any, Any], ...]
    rules: tuple[Any, ...]
    loads: tuple[Any, ...]

    @property
    def total(self) -> int:
        """Weights of all kernels, rounding included."""
        return sum(n * m for n, m in zip(self.rows, self.columns, strict=True))

    def within(self, margin: int) -> tuple[Any, ...]:
        """Constraint 7: every load is at most `margin` weights from the mean."""
        z3, groups = z3_module(), self.array.groups
        off = [groups * load - self.total for load in self.loads]
        return tuple(z3.And(each <= groups * margin, -each <= groups * margin) for each in off)

    def at_most(self, load: int) -> tuple[Any, ...]:
        """No group computes more than `load` weights."""
        return tuple(each <= load for each in self.loads)


@dataclass(frozen=True, eq=False)
class Solution:
    """Who computes what, and the margin in weights at which that was found."""

    assignment: Assignment
    margin: int

    @property
    def busiest(self) -> int:
        """Weights that the busiest group computes, rounding included; P*Q of them take a cycle."""
        return int(self.assignment.loads.max())


def z3_module() -> Any:
    """Z3. Raises HardwareModelError where it is not installed."""
    try:
        return importlib.import_module("z3")
    except ImportError as error:
        raise HardwareModelError(
            "Z3 is not installed, and only the sharing problem as the paper solves it needs it: "
            "pip install z3-solver, or use hw_models.sparse_array.cycles, which needs no solver"
        ) from error


def sharing_problem(kernels: KernelGrid, array: PEArray) -> Problem:
    """The problem of one iteration; `kernels` has one block for each of the K x L groups of `array`."""
    shape = array.group_rows, array.group_columns
    if kernels.rows.shape != shape:
        raise HardwareModelError(f"kernels must be one for each of {shape} groups, not {kernels.rows.shape}")
    z3, (p, q), (down, across) = z3_module(), (array.pe_rows, array.pe_columns), shape
    sizes, parts, rules = [], [], []
    for k in range(down):
        for c in range(across):
            n, m = (
                -(-int(side[k, c]) // pes) * pes for side, pes in ((kernels.rows, p), (kernels.columns, q))
            )
            tiles = [z3.Int(f"{name}_{k}_{c}") for name in ("dn_h", "dm_h", "dn_v", "dm_v")]
            dn_h, dm_h, dn_v, dm_v = (tile * pes for tile, pes in zip(tiles, (p, q, p, q), strict=True))  # 6
            rules += [dm_h >= 0, dm_h <= m, dn_h >= 0, dn_h <= n]  # 1
            rules += [dm_v >= 0, dm_v <= m // 2, dn_v >= 0, dn_v <= n]  # 2
            by_rows = z3.And(dm_h == m, dn_v + dn_h == n)  # 3
            by_columns = z3.And(dn_v == n, dm_h + dm_v == m)  # 4
            rules.append(z3.Or(by_rows, by_columns))
            sizes.append((n, m))
            parts.append((dn_h, dm_h, dn_v, dm_v))
    loads = []
    for group, ((n, m), (dn_h, _, _, dm_v)) in enumerate(zip(sizes, parts, strict=True)):
        k, c = divmod(group, across)
        left, above = k * across + (c - 1) % across, (k - 1) % down * across + c
        local = (m - dm_v) * (n - dn_h)  # 5
        loads.append(local + parts[left][1] * parts[left][0] + parts[above][3] * parts[above][2])
    rows, columns = (tuple(side) for side in zip(*sizes, strict=True))
    return Problem(array, rows, columns, tuple(parts), tuple(rules), tuple(loads))


def satisfied(rules: Sequence[Any], effort: int = EFFORT) -> tuple[Any, bool]:
    """A model of the rules or None, and whether Z3 decided within `effort`."""
    z3 = z3_module()
    solver = z3.Solver()
    solver.set("rlimit", effort)
    solver.add(*rules)
    answer = solver.check()
    return (solver.model() if answer == z3.sat else None), answer != z3.unknown


def solve(kernels: KernelGrid, array: PEArray, effort: int = EFFORT) -> Solution:
    """The paper's procedure for one iteration: the first margin with a solution, and that solution.

    A margin that Z3 cannot decide within `effort` counts as one without. Raises HardwareModelError without
    Z3."""
    problem, step = sharing_problem(kernels, array), array.pe_rows * array.pe_columns
    for margin in range(0, problem.total + step, step):
        model, _ = satisfied([*problem.rules, *problem.within(margin)], effort)
        if model is not None:
            return Solution(assignment_of(problem, model), margin)
    raise HardwareModelError(f"Z3 decided no margin within an effort of {effort}; allow it more")


def assignment_of(problem: Problem, model: Any) -> Assignment:
    """The model's sizes as the assignment of one iteration."""
    shape = 1, problem.array.group_rows, problem.array.group_columns
    values = [
        [model.eval(part, model_completion=True).as_long() for part in group] for group in problem.parts
    ]
    dn_h, dm_h, dn_v, dm_v = (
        np.array(side, dtype=np.int64).reshape(shape) for side in zip(*values, strict=True)
    )
    rows, columns = (
        np.array(side, dtype=np.int64).reshape(shape) for side in (problem.rows, problem.columns)
    )
    return Assignment(rows, columns, dn_h, dm_h, dn_v, dm_v)
