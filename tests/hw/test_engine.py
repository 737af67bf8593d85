"""Cycles and traffic of the tiled engine: by hand, and as its Verilog takes them."""

import csv
from importlib.resources import files

import numpy as np
import pytest

from hw_models.engine import Tiling, Tilings, pipeline_depth, work
from hw_models.errors import HardwareModelError
from hw_models.products import Product, table
from hw_models.rtl.structure import Tile, depth, engine_cycles
from tests.hw.toys import product

SMALL = Tiling(inputs=4, outputs=2, heads=2, rows=8, depth=16, columns=8)


def done(each: Product, tiling: Tiling) -> tuple[float, float, float, float]:
    """Cycles, traffic, exposed and on-chip bytes of one product."""
    found = work(table([each]), Tilings.of([tiling]))
    return tuple(float(part[0, 0]) for part in (found.compute, found.traffic, found.exposed, found.on_chip))  # type: ignore[return-value]


def rtl_rows() -> list[dict[str, str]]:
    text = files("hw_models").joinpath("reference", "rtl_cycles.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def sizes(row: dict[str, str]) -> tuple[Tile, int, int, int, int]:
    """Array, batch, m, k and n of a recorded run."""
    array = int(row["tile_inputs"]), int(row["tile_outputs"]), int(row["tile_heads"])
    return array, int(row["batch"]), int(row["m"]), int(row["k"]), int(row["n"])


def roomy(array: Tile, m: int, k: int, n: int) -> Tiling:
    """Buffers that hold the whole operands, in every bank."""
    inputs, outputs, heads = array
    return Tiling(
        inputs=inputs,
        outputs=outputs,
        heads=heads,
        rows=m,
        depth=-(-k // inputs) * inputs * heads,
        columns=-(-n // outputs) * outputs * heads,
    )


def test_cycles_by_hand() -> None:
    # 3 tiles of 4 columns, 5 of 4 inputs, 10 rows; 2 x 2 x 2 buffer tiles, each filling 3 + 2 stages.
    assert done(product(10, 20, 9), SMALL)[0] == 3 * 5 * 10 + 8 * 5


def test_traffic_by_hand_where_a_sum_takes_several_buffers() -> None:
    # Two row, column and depth tiles: both operands, 200 and 180 bytes, are read twice; 90 are written once.
    assert done(product(10, 20, 9), SMALL)[1] == 2 * 200 + 2 * 180 + 90


def test_traffic_by_hand_where_a_buffer_holds_whole_sums() -> None:
    deep = Tiling(inputs=4, outputs=2, heads=2, rows=8, depth=32, columns=8)
    # The first operand is read once and the second for both row tiles: less than the other way round.
    assert done(product(10, 20, 9), deep)[1] == 200 + 2 * 180 + 90


def test_traffic_is_each_operand_once_where_all_fits() -> None:
    assert done(product(10, 20, 9), roomy((4, 2, 2), 10, 20, 9))[1] == 200 + 180 + 90


def test_exposed_bytes_are_those_of_one_buffer_tile() -> None:
    # 8 of 10 rows, 16 of 20 deep, 8 of 9 columns.
    assert done(product(10, 20, 9), SMALL)[2] == pytest.approx(8 * 16 + 16 * 8 + 8 * 8)


def test_on_chip_bytes_by_hand() -> None:
    # In 15 passes, 4 inputs of 10 rows, and of 4 columns for both row tiles;
    # 4 sums of 4 bytes are read and written.
    assert done(product(10, 20, 9), SMALL)[3] == 15 * 4 * (10 + 2 * 4) + 15 * 10 * 2 * 4 * 4


def test_wider_operands_move_more_bytes_in_as_many_cycles() -> None:
    narrow, wide = (done(product(10, 20, 9, bits=bits), SMALL) for bits in (8, 16))
    assert wide[0] == narrow[0]
    assert wide[1] == 2 * narrow[1]


def test_products_of_a_batch_run_side_by_side() -> None:
    # Two groups of two products, one tile of 2 columns and 4 inputs, 10 rows; a buffer tile a group.
    assert done(product(10, 4, 2, batch=3), roomy((4, 2, 2), 10, 4, 2))[0] == 2 * 10 + 2 * 5


def test_products_of_a_batch_run_one_after_the_other_where_that_is_faster() -> None:
    # Two groups of two tiles of 2 columns leave a bank idle; 4 columns fill both banks three times.
    assert done(product(100, 4, 4, batch=3), roomy((4, 2, 2), 100, 4, 4))[0] == 3 * 100 + 3 * 5


@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 5, 16, 17])
def test_a_lone_multiplication_takes_the_pipeline(inputs: int) -> None:
    assert done(product(1, 1, 1), Tiling(inputs, 1, 1, 1, inputs, 1))[0] == 1 + depth(inputs)


def test_pipeline_depth_of_many() -> None:
    inputs = np.array([[1], [4], [5], [4]])
    assert pipeline_depth(inputs).tolist() == [[3], [5], [6], [5]]


def test_one_product_in_one_buffer_tile_takes_the_recorded_cycles() -> None:
    rows = [row for row in rtl_rows() if row["batch"] == "1"]
    assert len(rows) >= 12
    for row in rows:
        array, _, m, k, n = sizes(row)
        assert done(product(m, k, n), roomy(array, m, k, n))[0] == int(row["cycles"]), row


def test_a_batch_takes_the_recorded_cycles_where_it_fills_the_banks_once() -> None:
    """A product a bank, unless spreading each product over all banks takes fewer cycles."""
    rows = [row for row in rtl_rows() if 1 < int(row["batch"]) <= int(row["tile_heads"])]
    assert len(rows) >= 3
    for row in rows:
        array, batch, m, k, n = sizes(row)
        spread = batch * engine_cycles(1, m, k, n, array)
        cycles = done(product(m, k, n, batch), roomy(array, m, k, n))[0]
        assert cycles == min(int(row["cycles"]), spread), row


def test_a_larger_batch_starts_the_recorded_engine_once_a_group() -> None:
    rows = [row for row in rtl_rows() if int(row["batch"]) > int(row["tile_heads"]) > 1]
    assert len(rows) >= 3
    for row in rows:
        array, batch, m, k, n = sizes(row)
        groups = -(-batch // array[2])
        by_head = int(row["cycles"]) + (groups - 1) * depth(array[0])
        spread = batch * engine_cycles(1, m, k, n, array)
        cycles = done(product(m, k, n, batch), roomy(array, m, k, n))[0]
        assert cycles == min(by_head, spread), row


def test_many_tilings_and_products_at_once_equal_each_alone() -> None:
    each = [product(10, 20, 9), product(7, 3, 50, batch=5)]
    tilings = [SMALL, Tiling(3, 5, 1, 4, 6, 10), Tiling(1, 1, 3, 2, 3, 3)]
    together = work(table(each), Tilings.of(tilings))
    assert together.compute.shape == (3, 2)
    for row, tiling in enumerate(tilings):
        for column, one in enumerate(each):
            alone = done(one, tiling)
            assert together.compute[row, column] == alone[0]
            assert together.traffic[row, column] == alone[1]


def test_tilings_give_back_what_they_were_made_of() -> None:
    tilings = Tilings.of([SMALL, Tiling(3, 5, 1, 4, 6, 10)])
    assert len(tilings) == 2
    assert tilings[0] == SMALL
    assert tilings.where(np.array([False, True]))[0] == Tiling(3, 5, 1, 4, 6, 10)


def test_multiplications_a_cycle() -> None:
    assert SMALL.macs_per_cycle == 4 * 2 * 2


@pytest.mark.parametrize("field", ["inputs", "outputs", "heads", "rows", "depth", "columns"])
@pytest.mark.parametrize("value", [0, -4])
def test_a_tiling_without_size_names_the_field(field: str, value: int) -> None:
    sizes = {"inputs": 4, "outputs": 2, "heads": 2, "rows": 8, "depth": 16, "columns": 8} | {field: value}
    with pytest.raises(HardwareModelError, match=f"tiling: {field} must be at least 1, got {value}"):
        Tiling(**sizes)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depth": 12}, r"depth must be a multiple of inputs x heads = 8, got 12"),
        ({"columns": 6}, r"columns must be a multiple of outputs x heads = 4, got 6"),
    ],
)
def test_buffers_that_hold_parts_of_array_tiles_are_refused(changed: dict[str, int], message: str) -> None:
    sizes = {"inputs": 4, "outputs": 2, "heads": 2, "rows": 8, "depth": 16, "columns": 8} | changed
    with pytest.raises(HardwareModelError, match=message):
        Tiling(**sizes)


def test_text_names_array_and_buffers() -> None:
    assert str(SMALL) == "2 heads x 2 outputs x 4 inputs a cycle, buffers of 8 rows, 16 deep, 8 columns"
