"""The engine's formulas against simulation and synthesis: recorded and, where the tools are, made anew."""

import csv
from pathlib import Path

import numpy as np
import pytest

from hw_models.rtl import tools
from hw_models.rtl.simulate import BadOperands, build, exact_product, random_operands, simulate
from hw_models.rtl.structure import BadTile, Tile, check_tile, datapath, depth, engine_cycles, inside_dsp
from hw_models.rtl.synthesise import resources

REFERENCE = Path(tools.__file__).parent.parent / "reference"
SMALL: Tile = (3, 2, 2)


def table(name: str) -> list[dict[str, str]]:
    with (REFERENCE / name).open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def tile_of(row: dict[str, str]) -> Tile:
    return int(row["tile_inputs"]), int(row["tile_outputs"]), int(row["tile_heads"])


def resource_errors(column: str) -> list[tuple[int, int]]:
    """Recorded cells and formula minus recorded, of each row."""
    place = ("dsp", "lut", "ff").index(column)
    rows = table("rtl_resources.csv")
    return [
        (int(row[column]), datapath(tile_of(row), int(row["bits"]))[place] - int(row[column])) for row in rows
    ]


def test_cycles_are_the_recorded_ones_exactly() -> None:
    rows = table("rtl_cycles.csv")
    assert len(rows) >= 24
    assert len({tile_of(row) for row in rows}) >= 4
    for row in rows:
        batch, m, k, n = (int(row[name]) for name in ("batch", "m", "k", "n"))
        assert engine_cycles(batch, m, k, n, tile_of(row)) == int(row["cycles"]), row


def test_recorded_products_are_exact() -> None:
    assert {row["bit_exact"] for row in table("rtl_cycles.csv")} == {"True"}


def test_cycles_by_hand() -> None:
    # 2 groups of 2 products, 2 tiles of 2 columns, 3 tiles of 3 inputs, 5 rows; depth 1 + 1 + 2 + 1.
    assert engine_cycles(3, 5, 7, 3, SMALL) == 2 * 2 * 3 * 5 + 5


def test_a_single_product_is_split_over_the_banks() -> None:
    assert engine_cycles(1, 10, 3, 8, SMALL) - depth(3) == 10 * 2
    assert engine_cycles(2, 10, 3, 8, SMALL) - depth(3) == 10 * 4


@pytest.mark.parametrize(("inputs", "cycles"), [(1, 3), (2, 4), (3, 5), (4, 5), (5, 6), (16, 7)])
def test_depth(inputs: int, cycles: int) -> None:
    assert depth(inputs) == cycles


def test_multipliers_are_the_recorded_ones_exactly() -> None:
    errors = resource_errors("dsp")
    assert len(errors) >= 8
    assert all(error == 0 for _, error in errors)


def test_flip_flops_are_within_the_stated_error() -> None:
    assert all(0 <= error <= 3 for _, error in resource_errors("ff"))


def test_luts_are_within_the_stated_error() -> None:
    assert all(abs(error) <= 5 for _, error in resource_errors("lut"))


def test_registers_inside_the_dsps_are_a_part_of_all() -> None:
    for row in table("rtl_resources.csv"):
        assert 0 <= inside_dsp(tile_of(row), int(row["bits"])) < int(row["ff"])


@pytest.mark.parametrize(("tile", "bits"), [((0, 1, 1), 8), ((1, 1, 1), 1), ((1, 1, 1), 17)])
def test_an_engine_that_cannot_be_built_is_refused(tile: Tile, bits: int) -> None:
    with pytest.raises(BadTile):
        check_tile(tile, bits)


def test_operands_that_do_not_match_are_refused(tmp_path: Path) -> None:
    a, b = np.ones((1, 2, 3), np.int32), np.ones((1, 4, 2), np.int32)
    with pytest.raises(BadOperands, match="shapes"):
        simulate(a, b, tmp_path / "none")


def test_operands_that_are_not_integers_are_refused(tmp_path: Path) -> None:
    a = np.ones((1, 2, 2))
    with pytest.raises(BadOperands, match="integers"):
        simulate(a, a, tmp_path / "none")  # type: ignore[arg-type]


def test_a_missing_simulator_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tools.ToolMissing, match=r"edgerepro\[rtl\]"):
        build(SMALL, 8, tmp_path)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tools.ToolMissing, match=r"g\+\+"):
        tools.require_compiler()


def test_a_missing_synthesis_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tools.ToolMissing, match=r"edgerepro\[rtl\]"):
        resources(SMALL, 8)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        tools.verilator()
        tools.require_compiler()
    except tools.ToolMissing as error:
        pytest.skip(str(error))
    return build(SMALL, 8, tmp_path_factory.mktemp("rtl"))


@pytest.mark.slow
def test_simulation_is_exact_and_takes_the_cycles_of_the_formula(simulator: Path) -> None:
    generator = np.random.default_rng(1)
    for noise in range(1, 31):
        batch, m, k, n = (int(generator.integers(1, limit)) for limit in (8, 20, 30, 20))
        a, b = random_operands(batch, m, k, n, 8, generator)
        product, cycles = simulate(a, b, simulator, noise=noise)
        np.testing.assert_array_equal(product, exact_product(a, b))
        assert cycles == engine_cycles(batch, m, k, n, SMALL), (batch, m, k, n)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_a_single_row_adds_to_the_sum_just_written(simulator: Path, batch: int) -> None:
    # The accumulator memory cannot give it back yet: without the register at the adder this is wrong.
    a, b = random_operands(batch, 1, 29, 9, 8, np.random.default_rng(2))
    product, cycles = simulate(a, b, simulator)
    np.testing.assert_array_equal(product, exact_product(a, b))
    assert cycles == engine_cycles(batch, 1, 29, 9, SMALL)


@pytest.mark.slow
def test_the_largest_operands_do_not_overflow(simulator: Path) -> None:
    a, b = np.full((2, 1, 50), -128, np.int32), np.full((2, 50, 3), -128, np.int32)
    product, _ = simulate(a, b, simulator)
    assert (product == 50 * 2**14).all()


@pytest.mark.slow
def test_an_operand_wider_than_the_engine_is_refused(simulator: Path) -> None:
    a = np.full((1, 1, 1), 128, np.int32)
    with pytest.raises(tools.ToolFailed, match="does not fit"):
        simulate(a, a, simulator)


@pytest.mark.slow
def test_an_existing_simulator_is_not_built_again(simulator: Path) -> None:
    made = simulator.stat().st_mtime_ns
    assert build(SMALL, 8, simulator.parent.parent.parent) == simulator
    assert simulator.stat().st_mtime_ns == made


@pytest.mark.slow
def test_synthesis_gives_the_cells_of_the_formula() -> None:
    try:
        tools.yosys()
    except tools.ToolMissing as error:
        pytest.skip(str(error))
    cost = resources(SMALL, 8)
    dsp, lut, ff = datapath(SMALL, 8)
    assert cost.dsp == dsp == 12
    assert abs(cost.lut - lut) <= 5
    assert abs(cost.ff - ff) <= 3
