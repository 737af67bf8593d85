"""Circuits: how many gates, which wires, and what is refused."""

import pytest
import torch

from lib.errors import WrongUse
from lib.quantum.circuits import Circuit, Gate, build, class_scores


@pytest.mark.parametrize(("ansatz", "parameters"), [("A", 18), ("A22", 22), ("A30", 30), ("B", 40)])
def test_parameters_on_four_qubits(ansatz: str, parameters: int) -> None:
    assert build(ansatz).parameters == parameters
    assert build(ansatz, blocks=2).parameters == 2 * parameters


@pytest.mark.parametrize("qubits", [2, 5, 8])
def test_parameters_on_other_numbers_of_qubits(qubits: int) -> None:
    assert build("A", qubits).parameters == 2 + 4 * qubits
    assert build("B", qubits).parameters == 10 * qubits


def test_ansatz_a_gate_by_gate() -> None:
    gates = [(gate.name, gate.wires) for gate in build("A").ansatz]
    assert gates[:2] == [("crz", (0, 1)), ("crz", (1, 0))]
    assert gates[2:6] == [("ry", (wire,)) for wire in range(4)]
    assert gates[6:10] == [("cry", pair) for pair in ((0, 1), (1, 2), (2, 3), (3, 0))]
    assert [name for name, _ in gates[10:]] == ["rx"] * 4 + ["rz"] * 4


def test_angle_encoder_has_four_layers_for_sixteen_features() -> None:
    encoding = build("A").encoding
    assert [gate.name for gate in encoding] == ["ry"] * 4 + ["rz"] * 4 + ["rx"] * 4 + ["ry"] * 4
    assert [gate.wires for gate in encoding] == [(index % 4,) for index in range(16)]
    assert [gate.input for gate in encoding] == list(range(16))


def test_features_need_not_fill_the_last_layer() -> None:
    assert [gate.name for gate in build("A", 3, features=5).encoding] == ["ry"] * 3 + ["rz"] * 2


def test_amplitude_encoder_has_no_gates() -> None:
    circuit = build("A", encoder="amplitude")
    assert not circuit.encoding
    assert circuit.features == 16


def test_class_scores_sum_the_qubits_of_each_class() -> None:
    z = torch.tensor([[0.1, 0.2, -0.3, 0.5]])
    assert torch.allclose(class_scores(z, 2), torch.tensor([[0.3, 0.2]]))
    assert torch.equal(class_scores(z, 4), z)


@pytest.mark.parametrize("classes", [1, 3, 8])
def test_qubits_that_cannot_be_shared_are_refused(classes: int) -> None:
    with pytest.raises(WrongUse, match="shared evenly"):
        class_scores(torch.zeros(4), classes)


def test_misspelt_ansatz_is_named_with_the_nearest() -> None:
    with pytest.raises(WrongUse, match=r"unknown ansatz 'a22'; did you mean 'A22'"):
        build("a22")


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"name": "cx", "wires": (0, 1), "parameter": 0}, "unknown gate 'cx'"),
        ({"name": "rx", "wires": (0, 1), "parameter": 0}, "acts on 1"),
        ({"name": "crx", "wires": (1, 1), "parameter": 0}, "acts on 2 different"),
        ({"name": "rx", "wires": (0,)}, "name one"),
        ({"name": "rx", "wires": (0,), "parameter": 0, "input": 0}, "name one"),
    ],
)
def test_gates_that_make_no_sense(gate: dict[str, object], message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        Gate(**gate)  # type: ignore[arg-type]


def test_circuits_that_make_no_sense() -> None:
    trained, encoding = Gate("rx", (0,), parameter=0), Gate("ry", (0,), input=0)
    with pytest.raises(WrongUse, match="before the ansatz"):
        Circuit(1, "angle", 1, (trained, encoding))
    with pytest.raises(WrongUse, match="the circuit has 1 qubits"):
        Circuit(1, "angle", 1, (encoding, Gate("crx", (0, 1), parameter=0)))
    with pytest.raises(WrongUse, match="each once and in order"):
        Circuit(1, "angle", 1, (encoding, Gate("rx", (0,), parameter=1)))
    with pytest.raises(WrongUse, match="uses inputs"):
        Circuit(1, "amplitude", 2, (encoding, trained))
    with pytest.raises(WrongUse, match="17 features do not fit"):
        build("A", encoder="amplitude", features=17)
    with pytest.raises(WrongUse, match="2 qubits and 1 block"):
        build("A", 1)
