"""Circuits for Qiskit: the same states as the fast simulator, and clear refusals."""

import types

import pytest
import torch
from torch import Tensor

from lib.errors import ReproError, WrongUse
from lib.quantum import qiskit_model
from lib.quantum.circuits import Circuit, Encoder, Gate, build
from lib.quantum.fast import Simulator
from tests.quantum.parts import random

pytest.importorskip("qiskit", reason="Qiskit is not installed")


def reversed_bits(states: Tensor, qubits: int) -> Tensor:
    return states.reshape((2,) * qubits).permute(*reversed(range(qubits))).flatten()


@pytest.mark.parametrize("encoder", ["angle", "amplitude"])
def test_states_are_qiskits_with_bits_reversed(encoder: Encoder) -> None:
    from qiskit.quantum_info import Statevector

    circuit = build("A30", 3, encoder=encoder, features=5)
    features, angles = random(5), random(circuit.parameters)
    program = qiskit_model.whole(circuit, angles, features).remove_final_measurements(inplace=False)
    bound = program.assign_parameters({entry: float(features[entry.index]) for entry in program.parameters})
    theirs = torch.from_numpy(Statevector(bound).data)
    simulator = Simulator(circuit)
    ours = simulator.evolve(simulator.encode(features[None]), angles)[0]
    assert abs(torch.vdot(reversed_bits(ours, 3), theirs)) == pytest.approx(1, abs=1e-10)


def test_trained_angles_are_numbers_before_compilation() -> None:
    assert not qiskit_model.trained_part(build("B"), random(40)).parameters


def test_trained_part_has_neither_encoder_nor_measurement() -> None:
    program = qiskit_model.trained_part(build("A"), random(18))
    assert sum(program.count_ops().values()) == 18
    assert "measure" not in program.count_ops()


def test_circuit_without_parameters_is_refused() -> None:
    circuit = Circuit(1, "angle", 1, (Gate("ry", (0,), input=0),))
    with pytest.raises(WrongUse, match="no trained angle"):
        qiskit_model.trained_part(circuit, torch.zeros(0))


def test_wrong_number_of_angles_is_refused() -> None:
    with pytest.raises(WrongUse, match=r"has 18 angles, not \(17,\)"):
        qiskit_model.trained_part(build("A"), torch.zeros(17))


def test_amplitudes_need_a_sample() -> None:
    with pytest.raises(WrongUse, match="give its features"):
        qiskit_model.whole(build("A", encoder="amplitude"), torch.zeros(18))


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = types.SimpleNamespace(__version__="1.4.0")
    monkeypatch.setattr(qiskit_model.importlib, "import_module", lambda name: other)
    with pytest.raises(ReproError, match=r"Qiskit 1\.4\.0 is installed.*pip install qiskit=="):
        qiskit_model.checked_qiskit()


def test_missing_qiskit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(qiskit_model.importlib, "import_module", missing)
    with pytest.raises(ReproError, match="Qiskit is not installed: pip install"):
        qiskit_model.checked_qiskit()


def test_unknown_backend_is_named_with_the_nearest() -> None:
    with pytest.raises(WrongUse, match=r"unknown backend 'FakeQuitV2'; did you mean 'FakeQuitoV2'"):
        qiskit_model.fake_backend("FakeQuitV2")
