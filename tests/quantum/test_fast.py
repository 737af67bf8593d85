"""The fast simulator against PennyLane, against circuits solved by hand, and at the edges."""

import math

import pytest
import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.quantum.circuits import Circuit, Encoder, Gate, build
from lib.quantum.fast import PRODUCT_QUBITS, Simulator
from lib.quantum.pennylane_model import expectations, qnode
from tests.quantum.parts import random


def exact(found: Tensor | None, expected: Tensor | None) -> None:
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def against_pennylane(circuit: Circuit, batch: int, device: str = "default.qubit") -> None:
    inputs = random(batch, circuit.features).abs() + 0.1
    weights = random(batch, circuit.qubits, seed=1)
    results = []
    node = qnode(circuit, device)
    for run in (Simulator(circuit), lambda inputs, angles: expectations(node, inputs, angles)):
        angles = random(circuit.parameters, seed=2).requires_grad_()
        values = run(inputs, angles)
        (values * weights).sum().backward()
        results.append((values.detach(), angles.grad))
    (ours, our_slopes), (theirs, their_slopes) = results
    exact(ours, theirs)
    exact(our_slopes, their_slopes)


@pytest.mark.parametrize("encoder", ["angle", "amplitude"])
@pytest.mark.parametrize(
    ("ansatz", "qubits", "blocks"), [("A", 4, 1), ("A30", 3, 1), ("B", 4, 2), ("A22", 5, 1), ("B", 6, 1)]
)
def test_values_and_gradients_are_pennylanes(ansatz: str, qubits: int, blocks: int, encoder: Encoder) -> None:
    features = 7 if encoder == "amplitude" else 9
    against_pennylane(build(ansatz, qubits, encoder=encoder, features=features, blocks=blocks), batch=3)


def test_batch_of_one_is_pennylanes() -> None:
    against_pennylane(build("A"), batch=1)


def test_both_ways_to_compute_agree() -> None:
    """The sweep, used on more qubits, on a circuit beside as many idle qubits as it takes."""
    small = build("A30", 3, features=3)
    large = Circuit(PRODUCT_QUBITS + 1, "angle", 3, small.gates)
    inputs, angles = random(4, 3), random(small.parameters)
    together = Simulator(large)(inputs, angles)
    exact(together[:, :3], Simulator(small)(inputs, angles))
    assert torch.allclose(together[:, 3:], torch.ones(4, PRODUCT_QUBITS - 2, dtype=torch.float64))


@pytest.mark.parametrize("qubits", [4, 6])
def test_zero_angles_leave_the_encoded_states_alone(qubits: int) -> None:
    simulator = Simulator(build("B", qubits))
    states = simulator.encode(random(3, 16))
    exact(simulator.evolve(states, torch.zeros(10 * qubits)), states)


def test_one_rotation_by_hand() -> None:
    circuit = Circuit(1, "angle", 1, (Gate("ry", (0,), input=0), Gate("rx", (0,), parameter=0)))
    value = Simulator(circuit)(torch.tensor([[0.4]]), torch.tensor([0.7], dtype=torch.float64))
    assert float(value) == pytest.approx(math.cos(0.4) * math.cos(0.7), abs=1e-7)


def test_controlled_rotation_acts_only_where_the_control_is_one() -> None:
    gates = (Gate("ry", (0,), input=0), Gate("crx", (0, 1), parameter=0))
    simulator = Simulator(Circuit(2, "angle", 1, gates))
    values = simulator(torch.tensor([[0.0], [math.pi]]), torch.tensor([math.pi], dtype=torch.float64))
    torch.testing.assert_close(values, torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("qubits", [4, 6])
def test_several_sets_of_angles_at_once(qubits: int) -> None:
    simulator = Simulator(build("A", qubits))
    inputs, angles = random(3, 16), random(2, 5, 2 + 4 * qubits)
    every = simulator(inputs, angles)
    assert every.shape == (2, 5, 3, qubits)
    exact(every[1, 4], simulator(inputs, angles[1, 4]))


@pytest.mark.parametrize("qubits", [4, 6])
def test_unitary_is_unitary_and_does_what_evolve_does(qubits: int) -> None:
    simulator = Simulator(build("A30", qubits))
    angles = random(2 + 7 * qubits)
    matrix, states = simulator.unitary(angles), simulator.encode(random(2, 16))
    eye = torch.eye(2**qubits, dtype=torch.complex128)
    exact(matrix @ matrix.mH, eye)
    exact(states @ matrix.mT, simulator.evolve(states, angles))


@pytest.mark.parametrize("qubits", [2, 6])
def test_gradients_by_the_states_too(qubits: int) -> None:
    simulator = Simulator(build("A", qubits, features=2))
    angles = random(2 + 4 * qubits)

    def run(inputs: Tensor) -> Tensor:
        return simulator(inputs, angles)

    assert torch.autograd.gradcheck(run, (random(2, 2).requires_grad_(),))


def test_circuit_without_trained_gates_is_the_encoder() -> None:
    gate = Gate("rx", (0,), input=0)
    value = Simulator(Circuit(1, "angle", 1, (gate,)))(torch.tensor([[1.0]]).double(), torch.zeros(0))
    assert float(value) == pytest.approx(math.cos(1.0))


def test_all_zero_amplitudes_are_refused() -> None:
    simulator = Simulator(build("A", encoder="amplitude"))
    inputs = torch.ones(3, 16)
    inputs[1] = 0
    with pytest.raises(WrongUse, match="sample 1 is all zero"):
        simulator.encode(inputs)


def test_shapes_that_do_not_fit_are_refused() -> None:
    simulator = Simulator(build("A"))
    with pytest.raises(WrongUse, match=r"inputs are \(batch, 16\), not \(2, 15\)"):
        simulator.encode(torch.zeros(2, 15))
    with pytest.raises(WrongUse, match=r"angles are \(..., 18\), not \(17,\)"):
        simulator(torch.zeros(2, 16), torch.zeros(17))
