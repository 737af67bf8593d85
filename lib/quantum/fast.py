"""Exact expectations of a circuit for a whole batch at once, differentiable, in double precision.

The same numbers as PennyLane's `default.qubit` (`lib.quantum.pennylane_model` defines the circuit), faster,
because

- the encoder has no trained angle: its states are made once for a data set, as products of single-qubit
  states;
- the ansatz does not depend on the sample. On few qubits its unitary is multiplied together once per step,
  all gates' matrices being made in one operation and multiplied pairwise in a tree; on more qubits the batch
  of states is swept gate by gate, and back again for the gradient, without a stored graph (the adjoint
  method: Jones and Gacon, https://arxiv.org/abs/2009.02823).

A gate is exp(-i theta/2 G), where G is a Pauli matrix P on the target, or |1><1| x P if there is a control.
As G^3 = G it equals (1 - G^2) + cos(theta/2) G^2 - i sin(theta/2) G.

States are (..., 2^qubits) with qubit 0 as the most significant bit, PennyLane's order (Qiskit's is the
reverse).
"""

import functools
from typing import Any

import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.quantum.circuits import Circuit, Gate, z_signs

PRODUCT_QUBITS = 5
"""Most qubits for which multiplying the gates' whole matrices beats sweeping the states."""


class Simulator:
    """Expectations of Pauli Z of every qubit of `circuit`.

    Raises WrongUse for inputs or angles whose shape does not fit the circuit, and for amplitudes that are all
    zero.
    """

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        size = 2**circuit.qubits
        self._signs = z_signs(circuit.qubits)
        self._layers, self._paulis = _encoding_layers(circuit)
        self._parts: tuple[Tensor, Tensor, Tensor] | None = None
        if circuit.qubits <= PRODUCT_QUBITS and circuit.parameters:
            generators = torch.stack([_generator(gate, circuit.qubits) for gate in circuit.ansatz])
            squares = generators @ generators
            self._parts = (torch.eye(size) - squares, squares, -1j * generators)

    def __call__(self, inputs: Tensor, angles: Tensor) -> Tensor:
        """Expectations (..., batch, qubits) for inputs (batch, features) and angles (..., parameters)."""
        return self.expectations(self.encode(inputs), angles)

    def encode(self, inputs: Tensor) -> Tensor:
        """The states (batch, 2^qubits) that the encoder makes of inputs (batch, features)."""
        circuit = self.circuit
        if inputs.ndim != 2 or inputs.shape[1] != circuit.features:
            raise WrongUse(f"inputs are (batch, {circuit.features}), not {tuple(inputs.shape)}")
        inputs = inputs.double()
        if circuit.encoder == "amplitude":
            return self._amplitudes(inputs)
        # One more column, always zero, stands for "no gate on this qubit in this layer".
        half = torch.cat([inputs, torch.zeros_like(inputs[:, :1])], 1) / 2
        cosines, sines = torch.cos(half)[:, self._layers], torch.sin(half)[:, self._layers]
        gates = cosines[..., None, None] * torch.eye(2) - 1j * sines[..., None, None] * self._paulis
        qubits = gates[:, 0, :, :, 0]
        for layer in range(1, gates.shape[1]):
            qubits = (gates[:, layer] @ qubits[..., None])[..., 0]
        states = qubits[:, 0]
        for wire in range(1, circuit.qubits):
            states = (states[:, :, None] * qubits[:, wire, None, :]).flatten(1)
        return states

    def expectations(self, states: Tensor, angles: Tensor) -> Tensor:
        """Expectations (..., batch, qubits) after the ansatz, for states (batch, 2^qubits)."""
        return self.evolve(states, angles).abs().square() @ self._signs

    def evolve(self, states: Tensor, angles: Tensor) -> Tensor:
        """States (..., batch, 2^qubits) after the ansatz with angles (..., parameters)."""
        self._check(angles)
        if not self.circuit.parameters:
            return states.expand(*angles.shape[:-1], *states.shape)
        if self._parts is not None:
            return states @ self.unitary(angles).mT
        flat = [_Sweep.apply(states, row, self.circuit) for row in angles.reshape(-1, angles.shape[-1])]
        return torch.stack(flat).reshape(*angles.shape[:-1], *states.shape)

    def unitary(self, angles: Tensor) -> Tensor:
        """The matrix (..., 2^qubits, 2^qubits) of the ansatz for angles (..., parameters)."""
        self._check(angles)
        size = 2**self.circuit.qubits
        if self._parts is None:
            return self.evolve(torch.eye(size, dtype=torch.complex128), angles).mT
        still, cosine, sine = self._parts
        half = angles.double()[..., None, None] / 2
        gates = still + torch.cos(half) * cosine + torch.sin(half) * sine
        while (count := gates.shape[-3]) > 1:
            later, earlier = gates[..., 1::2, :, :], gates[..., 0 : count - 1 : 2, :, :]
            pairs = later @ earlier
            gates = pairs if count % 2 == 0 else torch.cat([pairs, gates[..., -1:, :, :]], -3)
        return gates[..., 0, :, :]

    def _amplitudes(self, inputs: Tensor) -> Tensor:
        norms = inputs.norm(dim=1, keepdim=True)
        if (empty := (norms == 0).nonzero()[:, 0]).numel():
            raise WrongUse(
                f"sample {int(empty[0])} is all zero: it has no direction that amplitudes could encode"
            )
        padded = torch.zeros(len(inputs), 2**self.circuit.qubits, dtype=torch.complex128)
        padded[:, : self.circuit.features] = (inputs / norms).to(torch.complex128)
        return padded

    def _check(self, angles: Tensor) -> None:
        if angles.ndim < 1 or angles.shape[-1] != self.circuit.parameters:
            raise WrongUse(f"angles are (..., {self.circuit.parameters}), not {tuple(angles.shape)}")


class _Sweep(torch.autograd.Function):
    """States after the ansatz, one gate at a time; the gradient undoes the gates one at a time."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, angles: Tensor, circuit: Circuit) -> Tensor:
        ctx.circuit = circuit
        out = _copy(states)
        for gate, angle in zip(circuit.ansatz, angles.tolist(), strict=True):
            _turn(out, gate, circuit.qubits, angle)
        ctx.save_for_backward(out, angles)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        out, angles = ctx.saved_tensors
        circuit: Circuit = ctx.circuit
        states, costates = _copy(out), _copy(gradients[0])
        slopes = torch.empty_like(angles)
        for index, (gate, angle) in reversed(
            list(enumerate(zip(circuit.ansatz, angles.tolist(), strict=True)))
        ):
            # d/dtheta exp(-i theta/2 G) psi = -i/2 G (the state after the gate), as G commutes with the gate.
            product = _part(costates, gate, circuit.qubits).conj() * _pauli(states, gate, circuit.qubits)
            slopes[index] = product.sum().imag / 2
            _turn(states, gate, circuit.qubits, -angle)
            _turn(costates, gate, circuit.qubits, -angle)
        return costates, slopes, None


def _copy(states: Tensor) -> Tensor:
    """A contiguous copy: a gradient may be one number expanded."""
    return states.to(torch.complex128).clone(memory_format=torch.contiguous_format)


def _turn(states: Tensor, gate: Gate, qubits: int, angle: float) -> None:
    """Apply the gate to the states in place."""
    half = torch.tensor(angle / 2, dtype=torch.float64)
    turned = _pauli(states, gate, qubits).mul_(-1j * float(torch.sin(half)))
    _part(states, gate, qubits).mul_(float(torch.cos(half))).add_(turned)


def _part(states: Tensor, gate: Gate, qubits: int) -> Tensor:
    """View of the states that the gate acts on, the target's bit as the last axis."""
    view = states.view(*states.shape[:-1], *(2,) * qubits)
    lead = states.ndim - 1
    view = view.movedim(lead + gate.wires[-1], -1)
    if not gate.controlled:
        return view
    control, target = gate.wires
    return view.select(lead + control - (control > target), 1)


def _pauli(states: Tensor, gate: Gate, qubits: int) -> Tensor:
    """A new tensor: the Pauli matrix of the gate applied to the part it acts on."""
    part = _part(states, gate, qubits)
    if gate.name.endswith("z"):
        return torch.stack([part[..., 0], -part[..., 1]], -1)
    if gate.name.endswith("x"):
        return part.flip(-1)
    return torch.stack([-1j * part[..., 1], 1j * part[..., 0]], -1)


def _pauli_matrix(name: str) -> Tensor:
    entries = {"x": [[0, 1], [1, 0]], "y": [[0, -1j], [1j, 0]], "z": [[1, 0], [0, -1]]}[name[-1]]
    return torch.tensor(entries, dtype=torch.complex128)


def _generator(gate: Gate, qubits: int) -> Tensor:
    """G of the gate as a matrix on all qubits."""
    factors = [torch.eye(2, dtype=torch.complex128) for _ in range(qubits)]
    factors[gate.wires[-1]] = _pauli_matrix(gate.name)
    if gate.controlled:
        factors[gate.wires[0]] = torch.tensor([[0, 0], [0, 1]], dtype=torch.complex128)
    return functools.reduce(torch.kron, factors)


def _encoding_layers(circuit: Circuit) -> tuple[Tensor, Tensor]:
    """Which input turns each qubit in each layer (layers, qubits), and its Pauli matrix (..., 2, 2).

    A qubit without a gate in a layer is turned by the input after the last, which `encode` sets to zero.
    """
    queues: list[list[Gate]] = [[] for _ in range(circuit.qubits)]
    for gate in circuit.encoding:
        queues[gate.wires[0]].append(gate)
    depth = max((len(queue) for queue in queues), default=0) or 1
    layers = torch.full((depth, circuit.qubits), circuit.features)
    paulis = _pauli_matrix("z").repeat(depth, circuit.qubits, 1, 1)
    for wire, queue in enumerate(queues):
        for layer, gate in enumerate(queue):
            layers[layer, wire] = circuit.features if gate.input is None else gate.input
            paulis[layer, wire] = _pauli_matrix(gate.name)
    return layers, paulis
