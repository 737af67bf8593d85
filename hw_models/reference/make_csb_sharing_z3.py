"""Writes csb_sharing_z3.csv: how well Z3 balances small cases of the sharing problem (CSB-RNN, section 5.3).

Z3 needs an environment of its own and nothing of this project:

    python3.11 -m venv z3-env
    z3-env/bin/pip install "z3-solver==5.4.1.0" "numpy==2.4.6"
    z3-env/bin/python hw_models/reference/make_csb_sharing_z3.py

It takes some minutes of one core. `rows` and `columns` are the kernel sizes n and m of the groups, row-major.
Sizes in the constraints are rounded up to multiples of the PE rows and columns (constraints 3, 4 and 6
have no common solution otherwise). Loads are in tiles, that is cycles:

- `margin` and `margin_load`: the paper's procedure. Constraints 1 to 7 with a margin of 0 weights that grows
  by P*Q until there is a solution; `margin_load` is the busiest group in the solution that Z3 then returns.
- `least_load`: the smallest load of the busiest group under constraints 1 to 6 alone, by halving. `proven` is
  1 if Z3 decided every step within its limit of effort (counted, not timed, so that every machine gives the
  same file), 0 if an undecided step was taken for impossible.
"""

import csv
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

z3: Any = importlib.import_module("z3")  # by name: the type checker does not have it

EFFORT = 200_000_000
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


def parts(
    kernel_rows: NDArray[np.int64], kernel_columns: NDArray[np.int64], p: int, q: int
) -> tuple[list[Any], list[Any]]:
    """Constraints 1 to 6 in weights, and every group's load."""
    down, across = kernel_rows.shape
    rules: list[Any] = []
    local, right, below = {}, {}, {}
    for k in range(down):
        for c in range(across):
            n, m = int(-(-kernel_rows[k, c] // p) * p), int(-(-kernel_columns[k, c] // q) * q)
            tiles = {name: z3.Int(f"{name}_{k}_{c}") for name in ("dn_h", "dm_h", "dn_v", "dm_v")}
            dn_h, dn_v = tiles["dn_h"] * p, tiles["dn_v"] * p
            dm_h, dm_v = tiles["dm_h"] * q, tiles["dm_v"] * q
            rules += [dm_h >= 0, dm_h <= m, dn_h >= 0, dn_h <= n]
            rules += [dm_v >= 0, dm_v <= m // 2, dn_v >= 0, dn_v <= n]
            by_rows, by_columns = z3.And(dm_h == m, dn_v + dn_h == n), z3.And(dn_v == n, dm_h + dm_v == m)
            rules.append(z3.Or(by_rows, by_columns))
            local[k, c], right[k, c], below[k, c] = (m - dm_v) * (n - dn_h), dm_h * dn_h, dm_v * dn_v
    loads = [local[k, c] + right[k, (c - 1) % across] + below[(k - 1) % down, c] for k, c in local]
    return rules, loads


def solve(rules: list[Any]) -> Any:
    """A model, None if there is none, or "undecided"."""
    solver = z3.Solver()
    solver.set("rlimit", EFFORT)
    solver.add(*rules)
    answer = solver.check()
    if answer == z3.sat:
        return solver.model()
    return None if answer == z3.unsat else "undecided"


def busiest(model: Any, loads: list[Any], p: int, q: int) -> int:
    """Greatest load of a model, in tiles."""
    return int(max(model.eval(load, model_completion=True).as_long() for load in loads)) // (p * q)


def row(
    seed: int, down: int, across: int, p: int, q: int, block: int, rate: float, follows: bool = False
) -> list[Any]:
    """One line of the file."""
    rng = np.random.default_rng(seed)
    kernel_rows = rng.binomial(block, rate**-0.5, (down, across))
    kernel_columns = rng.binomial(block, kernel_rows / block if follows else rate**-0.5, (down, across))
    rules, loads = parts(kernel_rows, kernel_columns, p, q)
    total, groups = int((-(-kernel_rows // p) * -(-kernel_columns // q)).sum()) * p * q, down * across

    margin, model = -p * q, None
    while model is None or model == "undecided":
        margin += p * q
        off = [groups * load - total for load in loads]
        near = [z3.And(x <= groups * margin, -x <= groups * margin) for x in off]
        model = solve(rules + near)
    margin_load = busiest(model, loads, p, q)

    low, high, proven = -(-total // (groups * p * q)), margin_load, 1
    while low < high:
        middle = (low + high) // 2
        model = solve(rules + [load <= middle * p * q for load in loads])
        if model is None or model == "undecided":
            low, proven = middle + 1, proven and int(model is None)
        else:
            high = busiest(model, loads, p, q)
    sizes = (" ".join(map(str, side.ravel().tolist())) for side in (kernel_rows, kernel_columns))
    return [seed, down, across, p, q, *sizes, margin, margin_load, high, proven, z3.get_version_string()]


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
