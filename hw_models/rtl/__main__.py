"""Simulates and synthesises the engine over the recorded settings and writes the two reference tables."""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np

from hw_models.errors import HardwareModelError
from hw_models.rtl import tools
from hw_models.rtl.simulate import build, exact_product, random_operands, simulate
from hw_models.rtl.structure import Tile
from hw_models.rtl.synthesise import resources

REFERENCE = Path(__file__).parent.parent / "reference"

SIMULATED: tuple[tuple[Tile, int], ...] = (
    ((3, 2, 2), 8),
    ((4, 4, 2), 8),
    ((8, 4, 3), 8),
    ((7, 5, 3), 6),
    ((8, 8, 4), 16),
    ((16, 8, 3), 8),
)
"""Tile (inputs, outputs, heads) and operand bits."""

SHAPES = (
    (1, 1, 1, 1),
    (1, 1, 100, 37),
    (1, 2, 5, 3),
    (1, 17, 19, 23),
    (2, 1, 3, 9),
    (3, 5, 2, 1),
    (5, 13, 11, 7),
    (7, 3, 33, 29),
    # DeiT-T: queries, keys and values; scores; weighted values.
    (1, 197, 192, 576),
    (3, 197, 64, 197),
    (3, 197, 197, 64),
)
"""Batch, m, k, n: vectors, fewer inputs or columns than a tile, batches that leave banks idle, odd sizes."""

SYNTHESISED: tuple[tuple[Tile, int], ...] = (
    ((1, 4, 2), 8),
    ((3, 2, 2), 8),
    ((3, 5, 2), 8),
    ((4, 4, 2), 8),
    ((8, 4, 3), 8),
    ((8, 8, 4), 8),
    ((16, 8, 3), 8),
    ((32, 2, 2), 8),
    ((4, 4, 2), 16),
    ((8, 4, 3), 16),
    ((8, 8, 4), 16),
    ((7, 3, 3), 12),
    ((7, 5, 3), 6),
    ((5, 4, 1), 6),
    ((4, 4, 2), 5),
    ((4, 4, 2), 4),
    ((7, 5, 2), 4),
    ((4, 4, 2), 3),
    ((5, 3, 2), 3),
    ((4, 4, 2), 2),
    ((6, 2, 2), 2),
)
"""Tile (inputs, outputs, heads) and operand bits; under 5 bits the multipliers are not in DSPs."""


def write_table(path: Path, remark: str, rows: list[dict[str, object]]) -> None:
    """Writes rows as CSV under a line that says how they were made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        file.write(f"# {remark}\n")
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def setting(tile: Tile, bits: int) -> dict[str, object]:
    """The columns that name an engine."""
    return dict(zip(("tile_inputs", "tile_outputs", "tile_heads", "bits"), (*tile, bits), strict=True))


def cycle_rows(seed: int, folder: Path) -> list[dict[str, object]]:
    """One row for each simulated setting and shape."""
    version = tools.verilator_version(tools.verilator())
    rows: list[dict[str, object]] = []
    for tile, bits in SIMULATED:
        print(f"building the simulator of tile {tile}, {bits} bits", file=sys.stderr)
        simulator = build(tile, bits, folder)
        for shape in SHAPES:
            batch, m, k, n = shape
            generator = np.random.default_rng([seed, *tile, bits, *shape])
            a, b = random_operands(batch, m, k, n, bits, generator)
            product, cycles = simulate(a, b, simulator)
            exact = bool(np.array_equal(product, exact_product(a, b)))
            print(f"  {shape}: {cycles} cycles, {'exact' if exact else 'WRONG'}", file=sys.stderr)
            rows.append(
                setting(tile, bits)
                | {"batch": batch, "m": m, "k": k, "n": n, "cycles": cycles, "bit_exact": exact}
                | {"tool": "verilator", "tool_version": version}
            )
    return rows


def resource_rows() -> list[dict[str, object]]:
    """One row for each synthesised setting."""
    rows: list[dict[str, object]] = []
    for tile, bits in SYNTHESISED:
        print(f"synthesising tile {tile}, {bits} bits", file=sys.stderr)
        cost = resources(tile, bits)
        rows.append(
            setting(tile, bits)
            | {"dsp": cost.dsp, "lut": cost.lut, "ff": cost.ff, "carry": cost.carry}
            | {"tool": "yosys", "tool_version": cost.tool_version}
        )
    return rows


def main() -> int:
    """Writes the tables asked for; 1 if a product was wrong or a tool is missing or fails."""
    parser = argparse.ArgumentParser(
        prog="python -m hw_models.rtl", description=f"{__doc__} Takes about five minutes."
    )
    parser.add_argument("--only", choices=("cycles", "resources"), help="write one table instead of both")
    parser.add_argument("--folder", type=Path, default=REFERENCE, help="where to write the tables")
    parser.add_argument("--seed", type=int, default=0, help="seed of the operands")
    wanted = parser.parse_args()
    command = f"python -m hw_models.rtl --seed {wanted.seed}"
    try:
        if wanted.only != "resources":
            with tempfile.TemporaryDirectory() as folder:
                rows = cycle_rows(wanted.seed, Path(folder))
            remark = f"{command} --only cycles: simulation of hw_models/rtl/gemm_engine.sv"
            write_table(wanted.folder / "rtl_cycles.csv", remark, rows)
            if not all(row["bit_exact"] for row in rows):
                print("a product is not exact: see the column bit_exact", file=sys.stderr)
                return 1
        if wanted.only != "cycles":
            remark = (
                f"{command} --only resources: synthesis of hw_models/rtl/gemm_engine.sv for UltraScale+, "
                "out of context; operand and accumulator memories are outside the engine and not counted, "
                "no LUT is memory, carry is CARRY4"
            )
            write_table(wanted.folder / "rtl_resources.csv", remark, resource_rows())
    except HardwareModelError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
