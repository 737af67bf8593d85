"""Noisy machines: exact without noise, Aer's own counts with it, and which errors are included."""

import pytest
import torch

from lib.errors import WrongUse
from lib.quantum.circuits import Circuit, Gate, build
from lib.quantum.fast import Simulator
from lib.quantum.noise import NoisyDevice, expectations, sampled
from lib.quantum.qiskit_model import whole
from tests.quantum.parts import random

pytest.importorskip("qiskit_aer", reason="Qiskit Aer is not installed")
pytest.importorskip("qiskit_ibm_runtime", reason="Qiskit's runtime is not installed")


@pytest.fixture(scope="module")
def noisy() -> NoisyDevice:
    return NoisyDevice("FakeQuitoV2")


@pytest.fixture(scope="module")
def clean() -> NoisyDevice:
    return NoisyDevice("FakeQuitoV2", readout=False, gates=False)


@pytest.mark.parametrize(("encoder", "qubits"), [("angle", 4), ("amplitude", 3), ("angle", 2)])
def test_without_errors_the_fast_simulators_values(clean: NoisyDevice, encoder: str, qubits: int) -> None:
    circuit = build("A", qubits, encoder=encoder, features=6)  # type: ignore[arg-type]
    inputs, angles = random(3, 6), random(circuit.parameters)
    values = expectations(clean.probabilities(circuit, angles, inputs))
    torch.testing.assert_close(values, Simulator(circuit)(inputs, angles), rtol=0, atol=1e-9)


def test_noise_changes_the_answer_and_weakens_it(noisy: NoisyDevice) -> None:
    circuit = build("B")
    inputs, angles = random(4, 16), random(40)
    values, ideal = (
        expectations(noisy.probabilities(circuit, angles, inputs)),
        Simulator(circuit)(inputs, angles),
    )
    assert (values - ideal).abs().max() > 0.05
    assert values.abs().mean() < ideal.abs().mean()


def test_counts_of_aer_are_matched(noisy: NoisyDevice) -> None:
    """The same compiled circuit, sampled by Aer with its whole noise model, readout included."""
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel

    circuit, shots = build("A"), 40_000
    inputs, angles = random(1, 16), random(18)
    compiled = noisy.compiler.compile(whole(circuit, angles))
    bound = compiled.assign_parameters(
        {entry: float(inputs[0, entry.index]) for entry in compiled.parameters}
    )
    model = NoiseModel.from_backend(noisy.compiler.machine)
    machine = AerSimulator(method="density_matrix", noise_model=model, seed_simulator=5)
    counts = machine.run(bound, shots=shots).result().get_counts()
    for wire in range(4):
        mean = sum(count * (1 - 2 * int(bits[3 - wire])) for bits, count in counts.items()) / shots
        exact = float(expectations(noisy.probabilities(circuit, angles, inputs))[0, wire])
        assert mean == pytest.approx(exact, abs=5 / shots**0.5)


def test_readout_errors_alone_pull_a_certain_answer_towards_zero() -> None:
    circuit = build("A", 2, features=2)
    machine = NoisyDevice("FakeQuitoV2", gates=False)
    values = expectations(machine.probabilities(circuit, torch.zeros(10), torch.zeros(1, 2)))
    assert bool((values < 0.99).all())
    assert bool((values > 0.5).all())


def test_probabilities_are_probabilities(noisy: NoisyDevice) -> None:
    found = noisy.probabilities(build("A22"), random(22), random(3, 16))
    assert found.shape == (3, 16)
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(1), torch.ones(3).double())


def test_samples_scatter_around_the_exact_values_by_the_generator(noisy: NoisyDevice) -> None:
    circuit, inputs, angles = build("A"), random(2, 16), random(18)
    read = noisy.probabilities(circuit, angles, inputs)
    drawn = [sampled(read, 4000, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert (drawn[0] - expectations(read)).abs().max() < 5 / 4000**0.5


def test_calibration_is_the_error_of_the_hardware_used(noisy: NoisyDevice) -> None:
    gates = (Gate("ry", (0,), input=0), Gate("rx", (0,), parameter=0), Gate("crx", (0, 1), parameter=1))
    costs = noisy.calibration(Circuit(2, "angle", 1, gates), torch.tensor([0.3, 0.4]).double())
    target = noisy.compiler.machine.target
    assert float(costs[0]) in {entry.error for entry in target["sx"].values()}
    assert float(costs[1]) in {entry.error for entry in target["cx"].values()}


def test_qubits_that_are_not_coupled_pay_for_the_way() -> None:
    device = NoisyDevice("FakeQuitoV2")
    costs = device.calibration(build("B"), random(40))
    ring = costs[4:8]
    smallest = min(entry.error for entry in device.compiler.machine.target["cx"].values())
    assert ring.max() > 2 * smallest
    assert costs[:4].max() < ring.min()


def test_expectations_of_certain_bits() -> None:
    # Qubit 0 is the first bit: state 1 of four is |01>, state 2 is |10>.
    assert expectations(torch.eye(4).double()[1:3]).tolist() == [[1, -1], [-1, 1]]


def test_misuse_is_refused(noisy: NoisyDevice) -> None:
    with pytest.raises(WrongUse, match="at least one shot"):
        sampled(torch.ones(1, 4) / 4, 0, torch.Generator())
    with pytest.raises(WrongUse, match=r"inputs are \(batch, 16\)"):
        noisy.probabilities(build("A"), torch.zeros(18), torch.zeros(16))
