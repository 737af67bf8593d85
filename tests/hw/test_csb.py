"""Compressed structured blocks: the projection, the five arrays, and what CSB-RNN prints about them."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hw_models.csb import (
    CsbMatrix,
    KernelGrid,
    csr_index_overhead,
    dense,
    fitted_block,
    index_overhead,
    project,
    project_literally,
)
from hw_models.csb_validation import (
    Weights,
    index_overhead_table,
    latency_table,
    networks,
    synthetic,
    utilisation_table,
)
from hw_models.errors import HardwareModelError
from hw_models.reference_points import points
from hw_models.sparse_array import PEArray

FRACTIONS: Any = np.ones((2, 2))
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))
BLOCKS = st.tuples(st.integers(1, 12), st.integers(1, 12))


def gaussian(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(shape)


def test_projection_by_hand() -> None:
    # norms of the row segments, left: 5, 1, 4, 0.2, right: 0.1, 0.3, 0.2, 6
    weights = np.array([[5, 0.1, 0.1, 0], [1, 0, 0.3, 0], [0, 4, 0.2, 0], [0, 0.2, 0, 6]])
    pattern = project_literally(weights, 4, 2)  # keeps half of the rows per block-column, then of the columns
    # left keeps rows 0 and 2, right rows 1 and 3; above columns 0 (5) and 2 (0.3), below 1 (4) and 3 (6)
    kept = np.zeros((4, 4), dtype=bool)
    kept[0, 0] = kept[1, 2] = kept[2, 1] = kept[3, 3] = True
    assert np.array_equal(pattern.mask(), kept)
    assert pattern.kernels.rows.tolist() == [[1, 1], [1, 1]]
    assert pattern.rate == 4


@pytest.mark.parametrize(("rate", "block", "undershot"), [(13.5, 32, 11.6), (13, 16, 10.3)])
def test_literal_projection_undershoots(rate: float, block: int, undershot: float) -> None:
    # the figures are not published: they come from one draw of another generator, hence 3 %
    rates = [project_literally(gaussian((1024, 1024), seed), rate, block).rate for seed in range(3)]
    assert np.mean(rates) == pytest.approx(undershot, rel=0.03)


@pytest.mark.parametrize("weights", ["gaussian", "uneven"])
@pytest.mark.parametrize("shape", [(1024, 512), (768, 39), (300, 301)])
@pytest.mark.parametrize(("rate", "block"), [(13.5, 32), (4, 16), (1.5, 128), (25, 64)])
def test_searched_projection_hits_the_rate(
    weights: Weights, shape: tuple[int, int], rate: float, block: int
) -> None:
    pattern = project(synthetic(shape, weights, np.random.default_rng(1)), rate, block)
    assert pattern.rate == pytest.approx(rate, rel=0.02)


@settings(deadline=None, max_examples=60)
@given(SHAPES, BLOCKS, st.floats(1, 30), st.integers(0, 9))
def test_pattern_is_rows_by_columns_of_every_block(
    shape: tuple[int, int], block: tuple[int, int], rate: float, seed: int
) -> None:
    pattern = project(gaussian(shape, seed), rate, block)
    mask = pattern.mask()
    assert mask.shape == shape
    assert mask.sum() == pattern.nonzeros > 0  # nothing is kept in the padding
    high, wide = block
    for i in range(pattern.kernels.rows.shape[0]):
        for j in range(pattern.kernels.rows.shape[1]):
            part = mask[i * high : (i + 1) * high, j * wide : (j + 1) * wide]
            rows, columns = part.any(axis=1), part.any(axis=0)
            assert np.array_equal(part, np.outer(rows, columns))
            assert rows.sum() == pattern.kernels.rows[i, j]
            assert columns.sum() == pattern.kernels.columns[i, j]


@settings(deadline=None, max_examples=40)
@given(SHAPES, BLOCKS, st.integers(0, 9))
def test_rate_of_one_keeps_everything(shape: tuple[int, int], block: tuple[int, int], seed: int) -> None:
    assert project(gaussian(shape, seed), 1, block).mask().all()
    assert dense(shape, block).rate == 1


def test_projection_is_deterministic_and_leaves_its_input() -> None:
    weights = gaussian((100, 70))
    before = weights.copy()
    first, second = (project(weights, 5, 16).mask() for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(weights, before)


def test_scale_of_the_weights_is_irrelevant() -> None:
    weights = gaussian((96, 64))
    assert np.array_equal(project(weights, 6, 16).mask(), project(8 * weights, 6, 16).mask())


def test_storage_by_hand() -> None:
    stored = dense((5, 8), (4, 8)).storage(value_bits=16)  # blocks of 4 x 8 and, at the edge, 1 x 8
    assert (stored.blocks, stored.row_entries, stored.column_entries, stored.values) == (2, 5, 16, 40)
    assert stored.size_bits == 2 * (3 + 4)  # 0 to 4 rows, 0 to 8 columns
    assert stored.index_bits == 5 * 2 + 16 * 3
    assert stored.index_overhead == 21 / 40
    assert stored.bit_overhead == (14 + 58) / 640


def test_index_overhead_of_even_kernels_is_the_closed_form() -> None:
    assert index_overhead(9, 32) == pytest.approx(2 * 3 / 32)
    assert dense((64, 64), 16).storage().index_overhead == index_overhead(1, 16)


def test_correlated_kernel_sizes_need_fewer_indices() -> None:
    # a block that keeps many rows keeps many columns too: sum nm exceeds the product of the means
    pattern = project(gaussian((1024, 1024)), 13.5, 32)
    rows, columns = pattern.kernels.rows.ravel(), pattern.kernels.columns.ravel()
    assert np.corrcoef(rows, columns)[0, 1] > 0.3
    assert 0.85 < pattern.storage().index_overhead / index_overhead(13.5, 32) < 0.95


def published_and_formula(model: str) -> list[tuple[float, float]]:
    return [
        (float(row["nio_percent"]), 100 * index_overhead(float(row["rate"]), int(row["block"])))
        for row in (point.model_dump() for point in points("csb_index_overhead"))
        if row["model"] == model
    ]


@pytest.mark.parametrize(
    ("model", "points_off"),
    # sides that blocks do not divide (39, 50, 1 inputs) add edge kernels, which the formula does not know
    [
        *[(model, 0.06) for model in ("MT1", "SR1", "SR2", "SC1", "QA")],
        ("MT2", 0.31),
        ("SC2", 0.75),
        ("SPP", 1.35),
        ("SR4", 1.4),
    ],
)
def test_closed_form_reproduces_published_index_overhead(model: str, points_off: float) -> None:
    pairs = published_and_formula(model)
    assert len(pairs) == 4
    for published, formula in pairs:
        assert formula == pytest.approx(published, abs=points_off)


def test_published_overhead_of_sr3_is_half_as_much_again_as_the_closed_form() -> None:
    # unexplained: all four blocks are off by this factor, so it is no misprint of one label
    for published, formula in published_and_formula("SR3"):
        assert published / formula == pytest.approx(1.5, abs=0.02)


def test_projected_matrices_need_what_is_published_or_less() -> None:
    table = index_overhead_table(0, models=("MT1", "SR4", "SPP", "SC2", "QA"))
    assert len(table) == 20
    for row in table:
        # correlation lowers the count by up to a fifth at block 16; edge blocks raise it above the formula
        assert 0.78 * row["published"] < row["measured"] < 1.04 * row["published"]
    edges = {(row["model"], row["block"]): row for row in table}
    for where in (("SR4", 128), ("SC2", 128)):  # where the formula is off, the true shapes come nearer
        row = edges[where]
        assert abs(row["measured"] - row["published"]) < abs(row["closed_form"] - row["published"]) / 2


def test_csr_overhead_by_hand_and_as_published() -> None:
    assert csr_index_overhead(nonzeros=10, rows=4) == 1.5
    for row in index_overhead_table(0, models=("MT1", "SC2")):
        # the paper does not say whether gates and inputs are one matrix or several
        assert row["csr_layers"] < row["csr_published"] < row["csr_matrices"]


def test_short_sides_get_a_block_per_group() -> None:
    assert fitted_block((768, 39), 128, (4, 4)) == (128, 10)
    assert fitted_block((4096, 1), (32, 64), (4, 4)) == (32, 1)
    assert fitted_block((6000, 1500), 128, (4, 4)) == (128, 128)


def test_networks_have_the_published_weights() -> None:
    weights = {model: [layer.weights for layer in layers] for model, layers in networks().items()}
    assert sum(map(len, weights.values())) == 20
    assert weights["MT1"] == [393_216, 524_288]
    assert weights["SR1"] == [3_248_128, 4_718_592]
    assert weights["SR2"] == [3_265_536, 6_291_456]
    assert weights["SR3"] == [564_224, 1_048_576]
    assert weights["SPP"] == [66_048, 131_072]
    assert weights["SC1"] == [1_114_112, 2_097_152, 2_097_152]
    assert weights["MT2"] == [18_000_000] * 2
    assert weights["SR4"] == [226_560]
    assert weights["SC2"] == [313_344]
    assert weights["QA"] == [313_344, 524_288, 524_288]


def test_uneven_weights_spread_as_stated() -> None:
    weights = synthetic((512, 128), "uneven", np.random.default_rng(0)).astype(float)
    rows = np.log(np.sqrt((weights**2).mean(axis=1)))
    assert 0.17 < rows.std() < 0.27
    tiles = np.log(np.sqrt((weights**2).reshape(16, 32, 4, 32).mean(axis=(1, 3))))
    assert 0.07 < tiles.std() < 0.15


def test_utilisation_of_the_published_layers() -> None:
    models = ("MT1", "SR3", "SR4", "SC2", "QA")
    table = utilisation_table(0, PEArray(4, 4, 4, 4), blocks=(32, 64), models=models)
    mean = {key: np.mean([row[key] for row in table]) for key in ("none", "horizontal", "2d", "2d_balance")}
    for row in table:
        assert row["measured_rate"] == pytest.approx(row["rate"], rel=0.02)
        assert 0 < row["none"] <= row["horizontal"] <= row["2d"] <= row["2d_balance"] <= 1
    # published means over 20 layers and three blocks: 42, 72, 94 %. Chance alone leaves 10 points either way
    # without sharing; rounding kernels up to passes costs what separates 2-D sharing from its balance.
    assert mean["none"] == pytest.approx(0.42, abs=0.1)
    assert mean["none"] + 0.1 < mean["horizontal"] < mean["2d"] - 0.1
    assert mean["2d_balance"] == pytest.approx(0.94, abs=0.06)
    by_block = [np.mean([row["2d"] for row in table if row["block"] == block]) for block in (32, 64)]
    assert all(smaller < larger for smaller, larger in pairwise(by_block))


def test_published_latency_implies_the_published_utilisation() -> None:
    table = latency_table(0, PEArray(4, 8, 4, 4), 32, models=("MT1",))
    (row,) = table
    assert row["full_us"] == pytest.approx(0.717, abs=5e-4)
    # 94 % is a mean over 20 layers on other arrays; these are three designs
    assert row["implied"] == pytest.approx(0.94, abs=0.05)
    # rounding to 4 x 4 passes at block 32 does not allow what is implied
    assert row["modelled_us"] > row["published_us"]


def test_published_efficiency_follows_from_latency_and_power() -> None:
    rows = [point.model_dump() for point in points("csb_rnn")]
    assert len(rows) == 8
    for row in rows:
        expected = 1000 / (float(row["latency_us"]) * float(row["power_w"]))
        assert float(row["kframes_per_s_per_w"]) == pytest.approx(expected, rel=0.005, abs=0.006)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: project(np.zeros(3), 2, 4), "weights"),
        (lambda: project(np.zeros((0, 3)), 2, 4), "weights"),
        (lambda: project(np.full((2, 2), np.nan), 2, 4), "weights"),
        (lambda: project(np.ones((2, 2)), 0.5, 4), "rate"),
        (lambda: project(np.ones((2, 2)), float("inf"), 4), "rate"),
        (lambda: project(np.ones((2, 2)), 2, 0), "block"),
        (lambda: project_literally(np.ones((2, 2)), 2, (4, -1)), "block"),
        (lambda: index_overhead(0, 4), "rate"),
        (lambda: csr_index_overhead(0, 4), "nonzeros"),
        (lambda: csr_index_overhead(4, 0), "rows"),
        (lambda: dense((4, 4), 2).storage(value_bits=0), "value_bits"),
        (
            lambda: KernelGrid(np.ones((2, 2), dtype=int), np.ones((2, 3), dtype=int)),
            "rows .* and columns .* differ",
        ),
        (lambda: KernelGrid(FRACTIONS, FRACTIONS), "rows must hold whole numbers"),
        (lambda: KernelGrid(np.ones((2, 2), dtype=int), np.full((2, 2), -1)), "columns must"),
        (lambda: utilisation_table(0, PEArray(1, 1, 1, 1), models=("MT9",)), "models unknown: MT9"),
        (lambda: synthetic((2, 2), "odd", np.random.default_rng(0)), "weights"),  # type: ignore[arg-type]
    ],
)
def test_malformed_arguments_are_named(call: Callable[[], object], field: str) -> None:
    with pytest.raises(HardwareModelError, match=field):
        call()


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (np.ones((1, 1, 2), dtype=bool), np.ones((2, 1, 2), dtype=bool), "kept_columns"),
        (np.ones((1, 2, 2), dtype=bool), np.ones((1, 2, 2), dtype=bool), r"has \(2, 2\)"),
        (np.ones((2, 2, 2), dtype=bool), np.ones((2, 2, 2), dtype=bool), "padding"),
        (np.ones((2, 2), dtype=bool), np.ones((2, 2, 2), dtype=bool), "kept_rows must"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2), dtype=bool), "kept_rows must"),
    ],
)
def test_patterns_that_do_not_fit_the_matrix_are_refused(
    rows: np.ndarray, columns: np.ndarray, message: str
) -> None:
    with pytest.raises(HardwareModelError, match=message):
        CsbMatrix(3, 4, rows, columns)
