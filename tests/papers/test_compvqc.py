"""CompVQC's notebook: comparing points, checks of single gates, costs, figures, the findings' arithmetic."""

import importlib
import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.engine.cards import load_card
from lib.errors import WrongUse
from lib.project import REPOSITORY
from lib.quantum import compvqc_checks as checks
from lib.quantum import costs, experiment, figures
from lib.quantum.circuits import build
from lib.quantum.compiler import BASIS, Compiler, Lengths
from lib.quantum.compvqc import Compression
from lib.quantum.data import Samples
from lib.quantum.experiment import Point
from lib.quantum.levels import Length, LevelTable, published_depths
from lib.quantum.model import Model, Recipe
from lib.quantum.qiskit_model import checked_qiskit, trained_part

PI = math.pi
MODEL = Model(build("A"), 2, torch.Generator().manual_seed(0))


def point(depth: int, validation: float, test: float, kappa: float = 0.5) -> Point:
    return Point("any", kappa, MODEL, Lengths((Length(depth, depth, 0),)), validation, test)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- choosing and comparing points


def test_best_within_goes_by_validation_not_by_test() -> None:
    points = [point(10, 80, 99), point(20, 90, 70), point(30, 95, 95)]
    assert experiment.best_within(points, 25) is points[1]
    assert experiment.best_within(points, 9) is None


def test_of_equally_good_points_the_shorter_one_represents() -> None:
    points = [point(20, 90, 70), point(10, 90, 60)]
    assert experiment.best_within(points, 30) is points[1]


def test_shortest_within_a_point_of_validation_accuracy() -> None:
    base = point(100, 90, 90)
    points = [point(20, 88.9, 95), point(40, 89, 80), point(60, 91, 99)]
    assert experiment.shortest_within(points, base) is points[1]


def test_without_a_good_enough_point_the_circuit_stays_uncompressed() -> None:
    base = point(100, 90, 90)
    assert experiment.shortest_within([point(20, 50, 99)], base) is base
    assert experiment.shortest_within([], base) is base


def test_equal_depth_by_hand() -> None:
    ours = [point(10, 80, 80), point(30, 90, 92)]
    theirs = [point(20, 85, 84), point(40, 95, 96)]
    # from 20 on: ours 80, 92, 92 at 20, 30, 40; theirs 84, 84, 96
    assert experiment.equal_depth(ours, theirs) == pytest.approx((264 / 3, 264 / 3))


def test_a_sweep_compared_with_itself_is_a_draw() -> None:
    points = [point(10, 80, 80), point(30, 90, 92)]
    ours, theirs = experiment.equal_depth(points, points)
    assert ours == theirs == pytest.approx(86)


def test_equal_depth_of_nothing_is_refused() -> None:
    with pytest.raises(WrongUse, match="one point"):
        experiment.equal_depth([], [point(1, 1, 1)])


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 100)), min_size=1, max_size=6))
def test_equal_depth_is_antisymmetric(rows: Sequence[tuple[int, float]]) -> None:
    ours = [point(depth, accuracy, accuracy) for depth, accuracy in rows]
    theirs = [point(25, 50, 50)]
    assert experiment.equal_depth(ours, theirs) == experiment.equal_depth(theirs, ours)[::-1]


def test_means_over_data_sets() -> None:
    sweeps = [
        {"compvqc": [point(10, 0, 60, 0.3), point(4, 0, 50, 0.9)]},
        {"compvqc": [point(20, 0, 80, 0.3), point(6, 0, 70, 0.9)]},
    ]
    by_kappa = experiment.by_kappa(sweeps, "compvqc")
    assert by_kappa[0.3] == experiment.Summary(15, 70)
    assert by_kappa[0.9] == experiment.Summary(5, 60)


# --- single gates


def table(gate: str, lengths: Sequence[int], generic: int) -> LevelTable:
    return LevelTable(gate, tuple(Length(depth, 0, 0) for depth in lengths), Length(generic, 0, 0))


def test_group_lengths_are_means_over_the_angles_of_a_group() -> None:
    rx = table("rx", (0, 1, 2, 3, 3, 1, 4, 3, 0), 5)
    assert checks.group_lengths(rx) == {"pruning": 1, "half": 1, "pi": 3, "three_halves": 3, "other": 5}


def test_every_angle_of_the_table_stands_in_one_group() -> None:
    for gate, groups in checks.GROUPS.items():
        steps = [step for group in groups.values() for step in group if not math.isnan(step)]
        expected = {float(step) for step in range(9)}
        assert len(steps) == len(set(steps)), gate
        assert set(map(float, steps)) == expected, gate


def test_published_tables_agree_with_themselves_and_a_wrong_row_is_found() -> None:
    *lengths, generic = published_depths("rx")
    assert checks.agreement(table("rx", lengths, generic), published_depths("rx")) == 10
    assert checks.agreement(table("rx", [*lengths[:-1], 7], generic), published_depths("rx")) == 9


def test_two_pi_is_no_identity_under_a_control_and_four_pi_is() -> None:
    assert checks.controlled_gap(0) == 0
    assert checks.controlled_gap(8) < 1e-12
    assert checks.controlled_gap(4) == pytest.approx(2)
    assert checks.controlled_gap(2) == pytest.approx(math.sqrt(2))


def test_off_level_looks_at_held_angles_only() -> None:
    angles = torch.tensor([PI / 2, 1.0, 3.14], dtype=torch.float64)
    assert checks.off_level(angles, torch.tensor([True, False, False])) < 1e-12
    assert checks.off_level(angles, torch.tensor([True, False, True])) == pytest.approx(PI - 3.14)
    assert checks.off_level(angles, torch.zeros(3, dtype=torch.bool)) == 0


def test_ratio_zero_changes_nothing_but_another_angle_does() -> None:
    samples = Samples(
        torch.rand(5, 16, generator=generator(), dtype=torch.float64), torch.zeros(5, dtype=torch.long)
    )
    assert checks.identity_gap(MODEL, samples) == 0


def test_simulator_agrees_with_pennylane_on_a_batch_of_one() -> None:
    inputs = torch.rand(1, 16, generator=generator(), dtype=torch.float64)
    assert checks.simulator_gap(MODEL.circuit, inputs, MODEL.angles) < 1e-10


def test_penalty_pulls_as_the_equation_says() -> None:
    assert checks.penalty_gradient_gap(generator()) < 1e-14


def test_lengths_of_gates_off_the_table() -> None:
    compiler = Compiler("FakeValenciaV2", 2, (0,))
    assert compiler.one_gate("rx", 3.14).depth == 5
    assert compiler.one_gate("rx", PI).depth == 1
    assert compiler.one_gate("crz", 4 * PI).depth == 0


def test_u3_rows_of_the_figure() -> None:
    lengths = checks.u3_lengths(Compiler("FakeValenciaV2", 2, (0,)))
    assert list(lengths.values()) == [0, 1, 2, 3, 4, 4, 5]


# --- costs, noise, compression


def test_a_circuit_costs_as_much_as_itself() -> None:
    whole = costs.costs(MODEL, Compiler("FakeValenciaV2", 2, (0, 1)))
    assert set(costs.relative(whole, whole).values()) == {1.0}
    assert costs.measured(MODEL, MODEL.copy(), batches=(1,))["measured batch 1"] > 0


def test_half_the_cost_by_hand() -> None:
    ratios = costs.relative(costs.Costs(40, 10, 50, 30, 8.0), costs.Costs(10, 5, 20, 15, 2.0))
    assert list(ratios.values()) == [0.25, 0.5, 0.4, 0.5, 0.25]


def test_pruned_gates_cost_nothing() -> None:
    empty = MODEL.copy()
    with torch.no_grad():
        empty.angles.zero_()
    assert costs.costs(empty, Compiler("FakeValenciaV2", 2, (0,))) == costs.Costs(0, 0, 0, 0, 0)


class Shrinking:
    """Stands for a device that halves every expectation: half of the time it reads bits at random."""

    def probabilities(self, circuit: Any, angles: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        states = MODEL.simulator.evolve(MODEL.encode(inputs), angles)
        return 0.5 * states.abs().square() + 0.5 / states.shape[1]

    def length(self, *_: Any) -> Length:
        return Length(7, 7, 0)


def test_robustness_tells_accuracy_from_margin() -> None:
    inputs = torch.rand(40, 16, generator=generator(), dtype=torch.float64)
    samples = Samples(inputs, (torch.arange(40) % 3 == 0).long())
    device: Any = Shrinking()
    with torch.no_grad():
        result = experiment.robustness(MODEL, device, samples, 100_000, generator())
        single = [experiment.robustness(MODEL, device, samples, 1, generator(seed)) for seed in range(4)]
    assert result.noisy == result.clean
    assert result.sampled == pytest.approx(result.clean, abs=5)
    assert len({each.sampled for each in single}) > 1
    assert result.kept == pytest.approx(50)
    assert result.depth == 7


def test_no_data_set_with_both_methods_is_refused() -> None:
    with pytest.raises(WrongUse, match="compvqc and random"):
        experiment.equal_depth_mean([{"compvqc": [point(1, 1, 1)]}], "compvqc", "random")


def test_compression_leaves_the_trained_circuit_alone_and_holds_its_share() -> None:
    compiler = Compiler("FakeValenciaV2", 2, (0,))
    bench = experiment.prepare("synthetic-16", compiler, 0, Recipe(epochs=1), samples=60)
    before = bench.model.angles.detach().clone()
    made = experiment.compress(bench, "nearest", Compression(kappa=0.5, rounds=1, retraining=1))
    assert torch.equal(bench.model.angles, before)
    assert made.compressed is not None
    assert int(made.compressed.held.sum()) == 9
    assert checks.off_level(made.model.angles, made.compressed.held) < 1e-12
    assert made.depth < experiment.uncompressed(bench).depth


def test_compvqc_comes_first_and_no_method_twice() -> None:
    assert experiment.arms(["pruning", "random"], ["random", "nearest"]) == [
        "compvqc",
        "pruning",
        "random",
        "nearest",
    ]
    assert experiment.arms([]) == ["compvqc"]


def test_nothing_to_compress_is_refused() -> None:
    compiler = Compiler("FakeValenciaV2", 1, (0,))
    with pytest.raises(WrongUse, match="no data set"):
        experiment.prepare_all([], compiler, 0, Recipe(epochs=1))
    bench = experiment.prepare("synthetic-16", compiler, 0, Recipe(epochs=0), samples=60)
    with pytest.raises(WrongUse, match="no ratio"):
        experiment.sweep(bench, ["compvqc"], [], Compression())


def test_training_on_moves_a_copy_and_never_loses_on_validation() -> None:
    bench = experiment.prepare("synthetic-16", Compiler("FakeValenciaV2", 1, (0,)), 0, Recipe(0), samples=60)
    before = bench.model.angles.detach().clone()
    point = experiment.trained_on(bench, Compression(rounds=1, retraining=1))
    assert torch.equal(bench.model.angles, before)
    assert not torch.equal(point.model.angles, before)
    assert point.validation >= experiment.uncompressed(bench).validation


def test_the_cards_machines_are_all_that_compile_to_cx_and_hold_four_qubits() -> None:
    provider = importlib.import_module("qiskit_ibm_runtime.fake_provider")
    card = load_card(REPOSITORY.card("compvqc"))
    choices = card.parameters["backend"].choices
    assert choices is not None
    fitting = set()
    for name in dir(provider):
        if not name.startswith("Fake") or "Provider" in name:
            continue
        machine = getattr(provider, name)()
        if machine.num_qubits >= 4 and set(BASIS) <= set(machine.operation_names):
            fitting.add(name)
    assert fitting - set(choices) <= {"FakeFractionalBackend"}  # it has gates of any angle, and so no levels
    assert set(choices) <= fitting


# --- figures


@pytest.fixture(autouse=True)
def _close_figures() -> Any:
    yield
    plt.close("all")


def test_layers_end_at_the_depth_of_the_circuit() -> None:
    program = trained_part(MODEL.circuit, MODEL.angles)
    placed = figures.layers(program)
    assert len(placed) == 18
    assert max(layer for layer, _, _ in placed) + 1 == program.depth()


def test_an_empty_circuit_can_be_drawn_beside_another() -> None:
    figure = figures.compiled_circuits(
        {"empty": checked_qiskit().QuantumCircuit(2), "full": trained_part(MODEL.circuit, MODEL.angles)}
    )
    assert [axes.get_title().split(":")[0] for axes in figure.axes] == ["empty", "full"]
    assert figure.axes[0].get_title().endswith("0 layers")


def test_the_staircase_has_a_panel_per_gate() -> None:
    figure = figures.staircase({name: table(name, range(9), 9) for name in ("rx", "ry", "rz", "crx")})
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["RX", "RY", "RZ", "CRX"]


def test_the_logical_circuit_labels_every_gate_and_breaks_into_lines() -> None:
    held = torch.zeros(18, dtype=torch.bool)
    held[2] = True
    figure = figures.logical_circuit(MODEL.circuit, MODEL.angles, held, width=4)
    assert len(figure.axes) == math.ceil((max(figures.columns(MODEL.circuit)) + 1) / 4)
    assert sum(len(axes.texts) for axes in figure.axes) == 18


def test_columns_of_a_ring_do_not_run_through_one_another() -> None:
    # CRZ 0-1 and 1-0, a layer of RY, then the ring, whose last gate spans all qubits; RX and RZ follow it
    assert figures.columns(build("A")) == [0, 1, 2, 2, 0, 0, 3, 4, 5, 6, 7, 7, 7, 7, 8, 8, 8, 8]


def test_the_frontier_has_a_line_per_method_and_the_reference() -> None:
    figure = figures.frontier(
        {"a": [(10, 80)], "b": [(20, 90), (5, 70)]}, reference=(50, 95), y="accuracy (%)"
    )
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == ["a", "b", "uncompressed"]


# --- arithmetic of the findings


def test_both_readings_of_the_depth() -> None:
    assert pytest.approx(1.026, abs=5e-4) == 1 / (1 - 0.025)
    assert pytest.approx(60) == 100 * (1 - 1 / 2.5)
    assert pytest.approx(1.76, abs=5e-3) == 51 / 29
    assert pytest.approx(43.1, abs=0.05) == 100 * (51 - 29) / 51
    assert pytest.approx(5.9, abs=0.05) == 100 * (251 / 237 - 1)
    assert min(published_depths(gate)[-1] for gate in ("rx", "ry")) > 0.025 * 51


def test_a_short_circuit_that_guesses_outscores_the_intact_one() -> None:
    assert pytest.approx(2.29, abs=5e-3) == 50 / 94.2 + 51 / 29
    assert 50 / 94.2 + 51 / 29 > 1 + 1


def test_rounded_levels_are_off() -> None:
    assert pytest.approx(-0.00159, abs=5e-6) == 3.14 - PI
    assert abs(1.57 - PI / 2) == pytest.approx(0.0008, abs=5e-5)
    assert abs(12.57 - 4 * PI) == pytest.approx(0.0036, abs=5e-5)
