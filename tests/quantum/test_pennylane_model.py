"""The definition of the circuits runs on several devices of PennyLane."""

import pytest
import torch

from lib.errors import WrongUse
from lib.quantum.circuits import build
from lib.quantum.fast import Simulator
from lib.quantum.pennylane_model import expectations, qnode
from tests.quantum.parts import random


def test_lightning_gives_the_same_values() -> None:
    circuit = build("A22")
    inputs, angles = random(3, 16), random(22)
    values = expectations(qnode(circuit, "lightning.qubit"), inputs, angles).double()
    torch.testing.assert_close(values, Simulator(circuit)(inputs, angles), rtol=0, atol=1e-6)


def test_aer_through_pennylane_gives_the_same_values() -> None:
    pytest.importorskip("pennylane_qiskit", reason="pennylane-qiskit is not installed")
    circuit = build("A")
    inputs, angles = random(2, 16), random(18)
    node = qnode(circuit, "qiskit.aer", shots=20_000)
    spread = 1 / 20_000**0.5
    values = expectations(node, inputs, angles).double()
    torch.testing.assert_close(values, Simulator(circuit)(inputs, angles), rtol=0, atol=6 * spread)


def test_unknown_device_is_named() -> None:
    with pytest.raises(WrongUse, match=r"no device 'no\.such'"):
        qnode(build("A"), "no.such")
