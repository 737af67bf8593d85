"""Variational quantum circuits as plain lists of gates: what PennyLane, Qiskit and the fast simulator share.

An encoder puts the features x of a sample into the state of the qubits, the ansatz turns the state by the
trained angles theta, and the expectations of Pauli Z on the qubits are the answer. Ansatz A with its
variants, ansatz B, and the four-layer angle encoder are those of the authors' public code
(https://github.com/mit-han-lab/torchquantum, examples/ICCAD22_tutorial, and
https://github.com/JQub/quantum_seismic_detection), written here for any number of qubits.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lib.errors import WrongUse

Encoder = Literal["angle", "amplitude"]
Ansatz = Literal["A", "A22", "A30", "B"]

ROTATIONS = ("rx", "ry", "rz")
CONTROLLED = ("crx", "cry", "crz")
ENCODING_LAYERS = ("ry", "rz", "rx", "ry")
"""Rotations of the angle encoder, layer by layer; further layers begin again from the first."""
LARGEST = 12
"""Most qubits: beyond, a state vector per sample is no longer small."""


@dataclass(frozen=True)
class Gate:
    """A rotation of `wires[-1]`, controlled by `wires[0]` if there are two, by one angle.

    The angle is entry `parameter` of the trained angles or entry `input` of the sample's features.
    Raises WrongUse for an unknown name, wrong wires, or an angle from nowhere or from two places.
    """

    name: str
    wires: tuple[int, ...]
    parameter: int | None = None
    input: int | None = None

    def __post_init__(self) -> None:
        known = ROTATIONS + CONTROLLED
        if self.name not in known:
            raise WrongUse(f"unknown gate {self.name!r}; known: {', '.join(known)}")
        wanted = 2 if self.name in CONTROLLED else 1
        if len(self.wires) != wanted or len(set(self.wires)) != wanted or min(self.wires) < 0:
            raise WrongUse(f"{self.name} acts on {wanted} different qubit(s), not on {self.wires}")
        if (self.parameter is None) == (self.input is None):
            raise WrongUse(
                f"{self.name} on {self.wires} takes its angle from a parameter or from an input: name one"
            )

    @property
    def controlled(self) -> bool:
        """Whether the first wire is a control."""
        return len(self.wires) == 2


@dataclass(frozen=True)
class Circuit:
    """Gates in the order of time: the encoder's (with `input`), then the ansatz's (with `parameter`).

    `features` is how many features a sample has; with the amplitude encoder there are no encoding gates.
    Raises WrongUse for wires that do not exist, parameters not numbered 0, 1, ... without a gap, or encoding
    gates after trained or controlled ones.
    """

    qubits: int
    encoder: Encoder
    features: int
    gates: tuple[Gate, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.qubits <= LARGEST:
            raise WrongUse(f"a circuit has 1 to {LARGEST} qubits, not {self.qubits}")
        if self.encoder not in get_args(Encoder):
            raise WrongUse(f"unknown encoder {self.encoder!r}; known: {', '.join(get_args(Encoder))}")
        if self.features < 1 or (self.encoder == "amplitude" and self.features > 2**self.qubits):
            raise WrongUse(
                f"{self.features} features do not fit the {self.encoder} encoder on {self.qubits} qubits"
            )
        for gate in self.gates:
            if max(gate.wires) >= self.qubits:
                raise WrongUse(f"{gate.name} on {gate.wires}: the circuit has {self.qubits} qubits")
        used = [gate.parameter for gate in self.ansatz]
        if used != list(range(len(used))):
            raise WrongUse("the gates of an ansatz use parameters 0, 1, 2, ... each once and in order")
        first = self.gates[: len(self.encoding)]
        if any(gate.input is None or gate.controlled for gate in first):
            raise WrongUse("encoding gates come before the ansatz and act on one qubit each")
        taken = sorted(gate.input for gate in self.encoding if gate.input is not None)
        wanted = list(range(self.features)) if self.encoder == "angle" else []
        if taken != wanted:
            raise WrongUse(f"the {self.encoder} encoder uses inputs {wanted} by gates, not {taken}")

    @property
    def encoding(self) -> tuple[Gate, ...]:
        """The gates whose angles are features."""
        return tuple(gate for gate in self.gates if gate.input is not None)

    @property
    def ansatz(self) -> tuple[Gate, ...]:
        """The gates with trained angles: gate i uses parameter i."""
        return tuple(gate for gate in self.gates if gate.parameter is not None)

    @property
    def parameters(self) -> int:
        """How many angles are trained."""
        return len(self.ansatz)


def build(
    ansatz: str = "A", qubits: int = 4, *, encoder: Encoder = "angle", features: int = 16, blocks: int = 1
) -> Circuit:
    """The circuit of `blocks` times an ansatz.

    On 4 qubits A, A22, A30 and B have 18, 22, 30 and 40 parameters.

    Raises WrongUse for an unknown ansatz or encoder, fewer than 2 qubits, fewer than 1 block, or features
    that do not fit.
    """
    if ansatz not in get_args(Ansatz):
        near = difflib.get_close_matches(ansatz.upper(), get_args(Ansatz), n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(get_args(Ansatz))}"
        raise WrongUse(f"unknown ansatz {ansatz!r}; {hint}")
    if qubits < 2 or blocks < 1:
        raise WrongUse(f"an ansatz needs 2 qubits and 1 block at least, not {qubits} and {blocks}")
    layers = [layer for _ in range(blocks) for layer in _layers(ansatz, qubits)]
    trained = tuple(Gate(name, wires, parameter=index) for index, (name, wires) in enumerate(layers))
    encoding = angle_encoding(qubits, features) if encoder == "angle" else ()
    return Circuit(qubits, encoder, features, (*encoding, *trained))


def angle_encoding(qubits: int, features: int) -> tuple[Gate, ...]:
    """Feature j as the angle of a rotation of qubit j mod `qubits`, in layers RY, RZ, RX, RY."""
    return tuple(
        Gate(ENCODING_LAYERS[index // qubits % len(ENCODING_LAYERS)], (index % qubits,), input=index)
        for index in range(features)
    )


def class_scores(expectations: Tensor, classes: int) -> Tensor:
    """Scores (..., classes): the sum of the expectations (..., qubits) of each class's share of the qubits.

    With two classes and four qubits: Z0 + Z1 and Z2 + Z3. Raises WrongUse if qubits cannot be shared evenly.
    """
    qubits = expectations.shape[-1]
    if classes < 2 or qubits % classes:
        fitting = " or ".join(str(number) for number in range(2, qubits + 1) if qubits % number == 0)
        raise WrongUse(
            f"{qubits} qubits cannot be shared evenly among {classes} classes; classes that fit: {fitting}"
        )
    return expectations.unflatten(-1, (classes, qubits // classes)).sum(-1)


def z_signs(qubits: int) -> Tensor:
    """Eigenvalues (2^qubits, qubits) of Pauli Z of each qubit in each basis state, qubit 0 first."""
    bits = torch.arange(2**qubits)[:, None] >> torch.arange(qubits).flip(0) & 1
    return 1.0 - 2.0 * bits.double()


def _layers(ansatz: str, qubits: int) -> list[tuple[str, tuple[int, ...]]]:
    if ansatz == "B":
        names: Sequence[str] = ("ry", "cry", "ry", "rx", "crx", "rx", "rz", "crz", "rz", "crz")
        return [gate for name in names for gate in _layer(name, qubits)]
    names = ("ry", "cry", "rx", "rz")
    names += {"A": (), "A22": ("crx",), "A30": ("crx", "ry", "rx")}[ansatz]
    first = [("crz", (0, 1)), ("crz", (1, 0))]
    return [*first, *(gate for name in names for gate in _layer(name, qubits))]


def _layer(name: str, qubits: int) -> list[tuple[str, tuple[int, ...]]]:
    """One gate per qubit; controlled gates go round the ring, the first of each pair being the control."""
    if name in CONTROLLED:
        return [(name, (wire, (wire + 1) % qubits)) for wire in range(qubits)]
    return [(name, (wire,)) for wire in range(qubits)]
