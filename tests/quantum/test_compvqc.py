"""CompVQC: distances on the circle, targets, projection, penalty, and what compression leaves behind."""

import math
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lib.errors import WrongUse
from lib.lab.admm import Admm
from lib.quantum.circuits import build
from lib.quantum.compiler import Compiler
from lib.quantum.compvqc import (
    Compressed,
    Compression,
    FixedProjection,
    Selection,
    TargetProjection,
    candidates,
    circular_difference,
    compress,
    nearest,
    reconstruct,
)
from lib.quantum.levels import PERIOD
from lib.quantum.model import Model
from tests.quantum.parts import CountingCompiler, random, splits, table

PI = math.pi
ANGLES = st.lists(st.floats(-50, 50), min_size=1, max_size=12)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def model(seed: int = 0) -> Model:
    return Model(build("A", 2, features=4), 2, torch.Generator().manual_seed(seed))


def counting() -> Compiler:
    return cast(Compiler, CountingCompiler())


def test_difference_on_the_circle_by_hand() -> None:
    values = circular_difference(tensor(12.5, 0.0, 2 * PI, 1.0), tensor(0.0, 12.5, -0.5 * PI, 1.0))
    expected = tensor(12.5 - PERIOD, PERIOD - 12.5, -1.5 * PI, 0.0)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-12)


@given(st.floats(-100, 100), st.floats(-100, 100), st.integers(-5, 5))
def test_difference_is_short_and_does_not_see_whole_periods(first: float, second: float, turns: int) -> None:
    one = circular_difference(tensor(first), tensor(second))
    other = circular_difference(tensor(first + turns * PERIOD), tensor(second))
    assert abs(float(one)) <= PERIOD / 2 + 1e-9
    assert abs(math.remainder(float(one - other), PERIOD)) < 1e-9


@given(ANGLES, st.floats(0, 1))
def test_projection_moves_exactly_the_share_and_is_idempotent(values: list[float], kappa: float) -> None:
    angles, targets = tensor(*values), tensor(*(PI * (index % 4) for index in range(len(values))))
    project = TargetProjection(targets, kappa)
    once = project(angles)
    count = math.ceil(kappa * len(values) - 1e-9)
    assert int(project.chosen(angles).sum()) == count
    assert int((once == targets).sum()) >= count
    assert torch.equal(project(once), once)


@given(ANGLES, st.floats(0, 1))
def test_no_other_point_of_the_set_is_nearer(values: list[float], kappa: float) -> None:
    angles, targets = tensor(*values), torch.zeros(len(values), dtype=torch.float64)
    project = TargetProjection(targets, kappa)
    distances = circular_difference(angles, targets).abs()
    chosen = project.chosen(angles)
    if chosen.any() and not chosen.all():
        assert distances[chosen].max() <= distances[~chosen].min()


def test_projection_that_compresses_nothing_changes_nothing() -> None:
    angles = random(7)
    assert torch.equal(TargetProjection(torch.zeros(7).double(), 0.0)(angles), angles)


def test_projection_of_everything() -> None:
    targets = tensor(0, PI, 2 * PI)
    assert torch.equal(TargetProjection(targets, 1.0)(random(3)), targets)


def test_angle_just_below_the_period_is_near_zero() -> None:
    project = TargetProjection(tensor(0, 0), 0.5)
    assert project.chosen(tensor(12.5, 1.0)).tolist() == [True, False]


def test_angles_without_a_target_are_never_chosen() -> None:
    project = TargetProjection(tensor(math.nan, 0), 1.0)
    assert project(tensor(1.0, 1.0)).tolist() == [1.0, 0.0]


def test_weights_make_the_worse_hardware_come_first() -> None:
    angles, targets = tensor(0.2, 0.3), tensor(0, 0)
    assert TargetProjection(targets, 0.5).chosen(angles).tolist() == [True, False]
    assert TargetProjection(targets, 0.5, tensor(1, 10)).chosen(angles).tolist() == [False, True]


def test_unusable_projections_are_refused() -> None:
    with pytest.raises(WrongUse, match="kappa is the share"):
        TargetProjection(tensor(0), 1.5)
    with pytest.raises(WrongUse, match="weights are positive"):
        TargetProjection(tensor(0), 0.5, tensor(0))
    with pytest.raises(WrongUse, match="kappa is the share"):
        Compression(kappa=-0.1)
    with pytest.raises(WrongUse, match="rho and rounds"):
        Compression(rho=-1)


def test_candidates_are_levels_of_each_gate_below_the_period() -> None:
    circuit = build("A", 2, features=4)
    tables = {gate: table(gate) for gate in ("rx", "ry", "rz", "cry", "crz")}
    assert candidates(circuit, tables) == ((0.0, PI),) * circuit.parameters
    assert candidates(circuit, tables, "pruning") == ((0.0,),) * circuit.parameters
    assert candidates(circuit, tables, "quantisation") == ((PI,),) * circuit.parameters


def test_nearest_candidate_on_the_circle() -> None:
    targets = nearest(tensor(12.5, 2.0, 1.0), [(0.0, PI), (0.0, PI), ()])
    assert targets[:2].tolist() == [0.0, PI]
    assert math.isnan(targets[2])
    with pytest.raises(WrongUse, match="one list each"):
        nearest(tensor(1.0), [])


def test_reconstruction_asks_for_accuracy_and_length() -> None:
    """Every target makes the circuit equally short, so accuracy decides, and between equals distance."""
    trained, task = model(), splits()
    levels = [(0.0, PI)] * 10
    targets = reconstruct(trained, task.validation, counting(), levels)
    for index in range(10):
        variants = trained.angles.detach().repeat(2, 1)
        variants[:, index] = tensor(0.0, PI)
        accuracies = trained.accuracies(task.validation, variants)
        if accuracies[0] == accuracies[1]:
            near = circular_difference(trained.angles.detach()[index], tensor(0.0, PI)).abs().argmin()
        else:
            near = accuracies.argmax()
        assert float(targets[index]) == (0.0, PI)[int(near)]


def test_reconstruction_prefers_the_shorter_circuit_at_equal_accuracy() -> None:
    trained, task = model(), splits()
    with torch.no_grad():
        trained.angles.fill_(1.0)
    # 1.0 itself is a candidate that changes nothing; pi changes accuracy but is shorter by one of ten.
    trained.accuracies = lambda samples, angles: torch.ones(len(angles))  # type: ignore[method-assign]
    targets = reconstruct(trained, task.validation, counting(), [(1.0, PI)] * 10)
    assert torch.equal(targets, torch.full((10,), PI, dtype=torch.float64))


def test_gradient_of_the_penalty() -> None:
    """rho (theta - z + u) on the circle: a penalty that is cut off from theta has none."""
    angles = torch.nn.Parameter(tensor(0.3, 12.0, 5.0))
    project = TargetProjection(tensor(0, 0, PI), 2 / 3)
    admm = Admm({"angles": angles}, {"angles": project}, 0.7, difference=circular_difference)
    with torch.no_grad():
        angles.add_(0.05)
    admm.update()
    admm.penalty().backward()
    expected = 0.7 * circular_difference(angles.detach(), admm.z["angles"] - admm.u["angles"])
    torch.testing.assert_close(angles.grad, expected)
    assert float(expected.abs().max()) > 0


def compressed(kappa: float, **others: float) -> tuple[Model, Compressed]:
    trained, task = model(), splits()
    targets = nearest(trained.angles, [(0.0, PI)] * 10)
    settings = Compression(kappa, rounds=2, retraining=2, **others)  # type: ignore[arg-type]
    projection = TargetProjection(targets, kappa)
    generator = torch.Generator().manual_seed(0)
    return trained, compress(trained, task, projection, counting(), settings, generator)


def test_compressed_angles_are_on_their_targets_exactly_and_the_others_are_free() -> None:
    trained, result = compressed(0.5)
    before = trained.angles.detach().clone()
    angles = result.model.angles.detach()
    assert int(result.held.sum()) == 5
    assert torch.equal(angles[result.held], result.targets[result.held])
    assert not (angles[~result.held] == before[~result.held]).any()
    assert torch.equal(trained.angles, before)
    assert len(result.residuals) == 2


def test_compressing_nothing_holds_nothing() -> None:
    _, result = compressed(0.0)
    assert not result.held.any()


def test_compressing_everything_leaves_nothing_to_train() -> None:
    _, result = compressed(1.0)
    assert torch.equal(result.model.angles, result.targets)


def test_no_rounds_and_no_retraining_are_the_projection_alone() -> None:
    trained, task = model(), splits()
    projection = TargetProjection(torch.zeros(10).double(), 0.3)
    settings = Compression(0.3, rounds=0, retraining=0)
    result = compress(trained, task, projection, counting(), settings, torch.Generator())
    assert torch.equal(result.model.angles, projection(trained.angles.detach()))


def test_fixed_projection_keeps_its_mask() -> None:
    mask = torch.tensor([False, True, True])
    project = FixedProjection(tensor(0, 0, math.nan), mask)
    assert project(tensor(0.1, 9.0, 1.0)).tolist() == [0.1, 0.0, 1.0]


def test_selection_weighs_accuracy_and_length_of_before_and_after() -> None:
    before, task = model(), splits()
    after = before.copy()
    select = Selection(before, after, task.validation, counting())
    assert select() == pytest.approx(2.0)
    with torch.no_grad():
        after.angles[:5] = 0.0
    expected = after.accuracy(task.validation) / before.accuracy(task.validation) + 10 / 5
    assert select() == pytest.approx(expected)
