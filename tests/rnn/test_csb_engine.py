"""The engine on the paper's networks: samples stand for the whole, and the summary is what it names."""

import numpy as np
import pytest

from hw_models.csb import KernelGrid
from hw_models.csb_validation import networks
from hw_models.sparse_array import PEArray, cycles
from lib.errors import WrongUse
from lib.rnn import csb_engine as engine

SMALL = PEArray(2, 2, 4, 4)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def grid(rows: int, columns: int) -> KernelGrid:
    rng = generator(7)
    return KernelGrid(rng.integers(0, 20, (rows, columns)), rng.integers(0, 20, (rows, columns)))


def use(block: int, busy: float, layer: str = "L") -> engine.LayerUse:
    """A layer whose utilisation is `busy` percent whatever is shared."""
    spent = dict.fromkeys(engine.SHARINGS, 100.0)
    return engine.LayerUse("M", layer, block, 2.0, busy * SMALL.pes, spent, spent, SMALL)


@pytest.mark.parametrize("count", [0, 6, 99])
def test_all_iterations_are_the_matrix_itself(count: int) -> None:
    kernels = grid(4, 6)  # 2 x 3 iterations
    assert engine.sampled(kernels, SMALL, count, generator()) == (kernels, 1.0)


def test_a_sample_holds_whole_iterations_of_the_matrix() -> None:
    kernels = grid(4, 6)
    part, scale = engine.sampled(kernels, SMALL, 2, generator())
    assert scale == 3
    assert part.rows.shape == (2, 4)
    wholes = [
        (kernels.rows[i : i + 2, j : j + 2].tolist(), kernels.columns[i : i + 2, j : j + 2].tolist())
        for i in (0, 2)
        for j in (0, 2, 4)
    ]
    for j in (0, 2):
        assert (part.rows[:, j : j + 2].tolist(), part.columns[:, j : j + 2].tolist()) in wholes


def test_ragged_edges_are_filled_with_empty_blocks() -> None:
    part, scale = engine.sampled(grid(3, 3), SMALL, 1, generator(1))
    assert (part.rows.shape, scale) == ((2, 2), 4)


def test_all_samples_of_one_take_the_cycles_of_the_whole() -> None:
    kernels = grid(6, 6)
    total = 0.0
    for seed in range(200):
        part, scale = engine.sampled(kernels, SMALL, 1, generator(seed))
        total += scale * cycles(part, SMALL, "2d").cycles / 200
    assert total == pytest.approx(cycles(kernels, SMALL, "2d").cycles, rel=0.1)


def test_a_negative_sample_is_refused() -> None:
    with pytest.raises(WrongUse, match="0 takes all"):
        engine.sampled(grid(2, 2), SMALL, -1, generator())


def test_a_layer_is_counted_whole() -> None:
    (layer,) = networks()["SR4"]
    found = engine.layer_use("SR4", layer, 25.0, 32, engine.FIG12, ("none", "2d"), seed=3)
    assert layer.weights / found.macs == pytest.approx(25, rel=0.03)
    assert 0 < found.utilisation("none") <= found.utilisation("2d") <= found.balance("2d") <= 100
    again = engine.layer_use("SR4", layer, 25.0, 32, engine.FIG12, ("none", "2d"), seed=3)
    assert again == found


def test_a_dense_layer_is_busy_all_the_time() -> None:
    layer = networks()["MT1"][1]
    found = engine.layer_use("MT1", layer, 1.0, 32, engine.FIG12, engine.SHARINGS)
    assert found.macs == layer.weights
    assert all(found.utilisation(sharing) == 100 for sharing in engine.SHARINGS)


def test_samples_and_cut_rows_stand_for_the_whole_layer() -> None:
    layer = networks()["SC1"][1]  # 2048 rows, cut to 1024
    whole = engine.layer_use("SC1", layer, 9.5, 64, engine.FIG12, ("none",))
    part = engine.layer_use("SC1", layer, 9.5, 64, engine.FIG12, ("none",), samples=3)
    assert part.macs == pytest.approx(whole.macs, rel=0.1)
    assert part.utilisation("none") == pytest.approx(whole.utilisation("none"), abs=5)


def test_means_and_losses_by_hand() -> None:
    uses = [use(32, 40), use(64, 60), use(128, 90), use(32, 20), use(64, 60), use(128, 70)]
    assert engine.mean_utilisation(uses, "none") == pytest.approx(340 / 6)
    assert engine.mean_utilisation(uses, "none", 32) == pytest.approx(30)
    assert engine.block_loss(uses, "2d") == pytest.approx((80 - 30) / 2)
    assert (
        engine.layer_loss([use(32, 40, "A"), use(64, 55, "A"), use(64, 99, "B")], "none", "A", 64, 32) == 15
    )


def test_the_summary_names_what_the_paper_says() -> None:
    uses = [use(block, 50, "MT1-L2") for block in engine.BLOCKS]
    found = engine.summary(uses)
    values = {name: value for name, (value, _) in found.items()}
    assert values["utilisation_one"] == 50
    assert values["balance_both"] == 100
    assert values["block_loss_mt1_l2_both"] == 0
    assert found["block_loss_none"][1] == "points"


def test_sharing_without_a_solver_is_within_a_percent_of_z3() -> None:
    assert len(engine.smt_cases()) == 56
    assert 0 <= engine.cycles_above_smt() <= 1
