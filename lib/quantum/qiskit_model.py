"""The same circuits for Qiskit, whose compiler and noise models the experiments use.

Trained angles are bound to numbers before anything is compiled: a compiler cannot shorten what it does not
know. Bit order is Qiskit's: qubit 0 is the least significant, the reverse of PennyLane and
`lib.quantum.fast`.
"""

import difflib
import importlib
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lib.errors import ReproError, WrongUse
from lib.quantum.circuits import Circuit
from lib.quantum.fast import Simulator

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

PINNED = "2.3.0"
"""Version of Qiskit whose compiled lengths are reported."""


def checked_qiskit() -> Any:
    """The module qiskit. Raises ReproError unless it is the pinned version: compiled lengths depend on it."""
    try:
        qiskit = importlib.import_module("qiskit")
    except ImportError as error:
        raise ReproError(
            f"Qiskit is not installed: pip install qiskit=={PINNED} qiskit-aer qiskit-ibm-runtime"
        ) from error
    if qiskit.__version__ != PINNED:
        raise ReproError(
            f"Qiskit {qiskit.__version__} is installed; compiled lengths are those of {PINNED} and differ "
            f"between versions: pip install qiskit=={PINNED}"
        )
    return qiskit


def fake_backend(name: str) -> Any:
    """The snapshot of an IBM machine called `name`, such as FakeValenciaV2; nothing is fetched.

    Raises WrongUse for an unknown name, with the nearest; ReproError if Qiskit's runtime is not installed.
    """
    checked_qiskit()
    try:
        provider = importlib.import_module("qiskit_ibm_runtime.fake_provider")
    except ImportError as error:
        raise ReproError("the machines' snapshots are missing: pip install qiskit-ibm-runtime") from error
    known = [entry for entry in dir(provider) if entry.startswith("Fake") and "Provider" not in entry]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise WrongUse(f"unknown backend {name!r}; {hint}")
    return getattr(provider, name)()


def trained_part(circuit: Circuit, angles: Tensor) -> "QuantumCircuit":
    """The ansatz with its angles (parameters,) as numbers: no encoder, no measurement.

    Raises WrongUse for a circuit without parameters or another number of angles.
    """
    if not circuit.parameters:
        raise WrongUse("the circuit has no trained angle: there is nothing to compile")
    if angles.shape != (circuit.parameters,):
        raise WrongUse(f"the circuit has {circuit.parameters} angles, not {tuple(angles.shape)}")
    program = checked_qiskit().QuantumCircuit(circuit.qubits)
    values = angles.detach().double().tolist()
    for gate, value in zip(circuit.ansatz, values, strict=True):
        getattr(program, gate.name)(value, *gate.wires)
    return program


def whole(circuit: Circuit, angles: Tensor, features: Tensor | None = None) -> "QuantumCircuit":
    """Encoder, ansatz and a measurement of every qubit.

    With the angle encoder the inputs are Qiskit parameters x[0], x[1], ...: compile once, bind many samples.
    The amplitude encoder prepares one sample, `features` (features,).

    Raises WrongUse without `features` for the amplitude encoder, and as `trained_part` does.
    """
    program = checked_qiskit().QuantumCircuit(circuit.qubits, circuit.qubits)
    from qiskit.circuit import ParameterVector
    from qiskit.circuit.library import StatePreparation

    if circuit.encoder == "amplitude":
        if features is None:
            raise WrongUse("the amplitude encoder prepares one sample at a time: give its features")
        state = Simulator(circuit).encode(features[None])[0]
        # Qubit 0 becomes Qiskit's least significant bit.
        reordered = state.reshape((2,) * circuit.qubits).permute(*reversed(range(circuit.qubits))).flatten()
        program.append(StatePreparation(reordered.real.tolist()), range(circuit.qubits))
    else:
        vector = ParameterVector("x", circuit.features)
        for gate in circuit.encoding:
            getattr(program, gate.name)(vector[gate.input], *gate.wires)
    program.compose(trained_part(circuit, angles), range(circuit.qubits), inplace=True)
    program.measure(range(circuit.qubits), range(circuit.qubits))
    return program
