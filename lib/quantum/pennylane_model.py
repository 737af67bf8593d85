"""The definition of the circuits: a PennyLane QNode that runs on any device PennyLane knows.

`lib.quantum.fast` computes the same numbers faster; tests hold it to these.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lib.errors import ReproError, WrongUse
from lib.quantum.circuits import Circuit, Gate

GATES = {"rx": "RX", "ry": "RY", "rz": "RZ", "crx": "CRX", "cry": "CRY", "crz": "CRZ"}


def qnode(
    circuit: Circuit, device: str = "default.qubit", *, shots: int | None = None, diff_method: str = "best"
) -> Any:
    """A QNode `node(inputs, angles)` with the expectation of Pauli Z on every qubit as its results.

    `inputs` are (features,) or, broadcast, (batch, features); `angles` are (parameters,). `device` is any
    device name of PennyLane: default.qubit, lightning.qubit, qiskit.aer, ... Amplitudes are padded with zeros
    and normalised.

    Raises WrongUse for a device that PennyLane cannot make, with what it said.
    """
    import pennylane as qml

    try:
        machine = qml.device(device, wires=circuit.qubits)
    except (qml.exceptions.DeviceError, ImportError, ValueError) as error:
        raise WrongUse(f"PennyLane has no device {device!r} here: {error}") from error

    def program(inputs: Tensor, angles: Tensor) -> list[Any]:
        wires = list(range(circuit.qubits))
        if circuit.encoder == "amplitude":
            qml.AmplitudeEmbedding(inputs, wires=wires, pad_with=0.0, normalize=True)
        for gate in circuit.gates:
            getattr(qml, GATES[gate.name])(_angle(gate, inputs, angles), wires=list(gate.wires))
        return [qml.expval(qml.PauliZ(wire)) for wire in wires]

    return qml.QNode(program, machine, interface="torch", diff_method=diff_method, shots=shots)


def expectations(node: Any, inputs: Tensor, angles: Tensor) -> Tensor:
    """What `node` answers for inputs (batch, features): a tensor (batch, qubits).

    Raises ReproError for a device that does not answer once for each sample.
    """
    answers: Sequence[Tensor] = node(inputs, angles)
    result = torch.stack([torch.as_tensor(answer) for answer in answers], dim=-1)
    if result.shape[0] != len(inputs):
        raise ReproError(f"the device answered with shape {tuple(result.shape)} to {len(inputs)} samples")
    return result


def _angle(gate: Gate, inputs: Tensor, angles: Tensor) -> Tensor:
    if gate.parameter is not None:
        return angles[gate.parameter]
    return inputs[..., gate.input]
