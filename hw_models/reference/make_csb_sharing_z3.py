"""Writes csb_sharing_z3.csv: how well Z3 balances small cases of the sharing problem (CSB-RNN, section 5.3).

In the environment of the project, which Z3 is no part of:

    pip install "z3-solver==5.4.1.0"
    python hw_models/reference/make_csb_sharing_z3.py

It takes some minutes of one core. `rows` and `columns` are the kernel sizes n and m of the groups, row-major.
The problem is that of `hw_models.csb_smt`. Loads are in tiles, that is cycles:

- `margin` and `margin_load`: the paper's procedure. Constraints 1 to 7 with a margin of 0 weights that grows
  by P*Q until there is a solution; `margin_load` is the busiest group in the solution that Z3 then returns.
- `least_load`: the smallest load of the busiest group under constraints 1 to 6 alone, by halving. `proven` is
  1 if Z3 decided every step within its limit of effort (counted, not timed, so that every machine gives the
  same file), 0 if an undecided step was taken for impossible.
"""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hw_models.csb import KernelGrid
from hw_models.csb_smt import Problem, satisfied, sharing_problem, z3_module
from hw_models.sparse_array import PEArray

COLUMNS = (
    "seed,group_rows,group_columns,pe_rows,pe_columns,rows,columns,"
    "margin,margin_load,least_load,proven,tool_version"
)
CASES: list[tuple[Any, ...]] = [
    # seed, K, L, P, Q, block side B, rate r. n is drawn from the binomial distribution with B trials of
    # probability 1/sqrt(r), m likewise, or with n/B for it where `follows`: big kernels beside small ones.
    *((seed, 2, 2, 4, 4, 32, 8.0) for seed in range(6)),
    *((seed, 2, 3, 4, 2, 24, 4.0) for seed in range(6, 10)),
    *((seed, 3, 3, 3, 3, 32, 10.0) for seed in range(10, 16)),
    *((seed, 4, 4, 4, 4, 16, 6.0) for seed in range(16, 24)),
    *((seed, 4, 4, 4, 4, 32, 12.0) for seed in range(24, 34)),
    *((seed, 4, 4, 4, 4, 64, 10.5) for seed in range(34, 42)),
    *((seed, 4, 4, 4, 4, 32, 12.0, True) for seed in range(42, 50)),
    *((seed, 4, 4, 4, 4, 64, 20.0, True) for seed in range(50, 56)),
]


def busiest(model: Any, problem: Problem) -> int:
    """Greatest load of a model, in tiles."""
    loads = (model.eval(load, model_completion=True).as_long() for load in problem.loads)
    return int(max(loads)) // (problem.array.pe_rows * problem.array.pe_columns)


def row(
    seed: int, down: int, across: int, p: int, q: int, block: int, rate: float, follows: bool = False
) -> list[Any]:
    """One line of the file."""
    rng = np.random.default_rng(seed)
    kernel_rows = rng.binomial(block, rate**-0.5, (down, across))
    kernel_columns = rng.binomial(block, kernel_rows / block if follows else rate**-0.5, (down, across))
    array = PEArray(down, across, p, q)
    problem = sharing_problem(KernelGrid(kernel_rows, kernel_columns), array)

    margin, model = -p * q, None
    while model is None:
        margin += p * q
        model, _ = satisfied([*problem.rules, *problem.within(margin)])
    margin_load = busiest(model, problem)

    low, high, proven = -(-problem.total // (array.groups * p * q)), margin_load, 1
    while low < high:
        middle = (low + high) // 2
        model, decided = satisfied([*problem.rules, *problem.at_most(middle * p * q)])
        if model is None:
            low, proven = middle + 1, proven and int(decided)
        else:
            high = busiest(model, problem)
    sizes = (" ".join(map(str, side.ravel().tolist())) for side in (kernel_rows, kernel_columns))
    return [
        seed,
        down,
        across,
        p,
        q,
        *sizes,
        margin,
        margin_load,
        high,
        proven,
        z3_module().get_version_string(),
    ]


def main() -> None:
    with (Path(__file__).parent / "csb_sharing_z3.csv").open("w", newline="", encoding="utf-8") as file:
        file.write("# python hw_models/reference/make_csb_sharing_z3.py (environment: see its docstring)\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS.split(","))
        for case in CASES:
            writer.writerow(row(*case))
            file.flush()
            print(*case, file=sys.stderr)


if __name__ == "__main__":
    main()
