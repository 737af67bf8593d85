"""A circuit on a noisy machine: the snapshot's gate and readout errors, computed exactly or sampled by shots.

Qiskit Aer simulates density matrices with the noise model that it makes of a machine's calibration:
depolarising errors and relaxation after every gate, and misread bits. Idle qubits suffer no noise, and
neither does rz. Everything runs: encoder, ansatz and readout.

`NoisyDevice.calibration` is for the noise-aware variant, in which an angle's distance to its target is
divided by the error of the hardware that its gate uses: compress where it hurts first. This is what is
recalled of QuCAD (Hu et al., https://arxiv.org/abs/2304.04666), whose abstract alone could be checked; its
repository of models for changing calibrations is not here.
"""

from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor

from lib.errors import ReproError, WrongUse
from lib.quantum.circuits import Circuit, z_signs
from lib.quantum.compiler import Compiler, measure
from lib.quantum.levels import Length
from lib.quantum.qiskit_model import whole

if TYPE_CHECKING:
    from qiskit import QuantumCircuit


class NoisyDevice:
    """The snapshot `backend` with its errors; circuits are compiled at `level` from transpiler seed `seed`.

    Without `readout` bits are read without error; without `gates` only readout errs. Raises what `Compiler`
    raises, and ReproError if Qiskit Aer is not installed.
    """

    def __init__(
        self,
        backend: str = "FakeQuitoV2",
        *,
        level: int = 3,
        seed: int = 0,
        readout: bool = True,
        gates: bool = True,
    ) -> None:
        self.compiler = Compiler(backend, level, (seed,), cache=None)
        try:
            from qiskit_aer import AerSimulator
            from qiskit_aer.noise import NoiseModel
        except ImportError as error:
            raise ReproError("Qiskit Aer is not installed: pip install qiskit-aer") from error
        noise = NoiseModel.from_backend(self.compiler.machine, readout_error=False) if gates else None
        self._simulator = AerSimulator(method="density_matrix", noise_model=noise, max_parallel_threads=1)
        # Fusing gates costs more than it saves on circuits that are compiled once and run on many samples.
        self._simulator.set_options(fusion_enable=False)
        self._misread = _misreadings(self.compiler.machine) if readout else {}

    def probabilities(self, circuit: Circuit, angles: Tensor, inputs: Tensor) -> Tensor:
        """Probabilities (batch, 2^qubits) of the bits read for inputs (batch, features), qubit 0 first.

        With the amplitude encoder every sample is a circuit of its own, compiled by itself: some 100 ms each.
        """
        if inputs.ndim != 2 or inputs.shape[1] != circuit.features:
            raise WrongUse(f"inputs are (batch, {circuit.features}), not {tuple(inputs.shape)}")
        if circuit.encoder == "amplitude":
            rows = [self._run(circuit, whole(circuit, angles, sample), sample[None, :0]) for sample in inputs]
            return torch.cat(rows)
        return self._run(circuit, whole(circuit, angles), inputs)

    def length(self, circuit: Circuit, angles: Tensor) -> Length:
        """Compiled length of the trained part on this machine."""
        return measure(self.compiler.compiled(circuit, angles))

    def calibration(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Error (parameters,) of the hardware that each trained gate uses where it is first placed.

        That of sx on the qubit for one wire; for two, those of cx summed along the shortest way between them.
        """
        import rustworkx

        machine = self.compiler.machine
        compiled = self.compiler.compiled(circuit, angles)
        place = compiled.layout.initial_index_layout(filter_ancillas=True)
        errors = {tuple(pair): entry.error for pair, entry in machine.target["cx"].items()}
        graph = rustworkx.PyGraph(multigraph=False)
        graph.add_nodes_from(range(machine.num_qubits))
        graph.add_edges_from([(first, second, error) for (first, second), error in errors.items()])
        costs = []
        for gate in circuit.ansatz:
            here = [place[wire] for wire in gate.wires]
            if not gate.controlled:
                costs.append(machine.target["sx"][(here[0],)].error)
                continue
            lengths = rustworkx.dijkstra_shortest_path_lengths(graph, here[0], float, goal=here[1])
            costs.append(lengths[here[1]])
        return torch.tensor(costs, dtype=torch.float64)

    def _run(self, circuit: Circuit, program: "QuantumCircuit", inputs: Tensor) -> Tensor:
        compiled, places = _without_measurements(self.compiler.compile(program))
        compiled.save_probabilities([places[wire] for wire in range(circuit.qubits)])
        values = inputs.detach().double()
        binds = [{entry: values[:, entry.index].tolist() for entry in compiled.parameters}]
        result = self._simulator.run(
            [compiled], parameter_binds=binds if binds[0] else None, shots=1
        ).result()
        if not result.success:
            raise ReproError(f"Aer could not simulate the circuit: {result.status}")
        rows = numpy.stack([result.data(index)["probabilities"] for index in range(len(result.results))])
        # Aer's first bit is the last of the list: turn the bits round.
        bits = torch.from_numpy(rows).reshape(-1, *(2,) * circuit.qubits)
        bits = bits.permute(0, *range(circuit.qubits, 0, -1))
        for wire in range(circuit.qubits):
            if (misread := self._misread.get(places[wire])) is not None:
                bits = torch.tensordot(bits, misread, dims=([wire + 1], [0])).movedim(-1, wire + 1)
        return bits.flatten(1)


def expectations(probabilities: Tensor) -> Tensor:
    """Expectations (batch, qubits) of Pauli Z, from the probabilities (batch, 2^qubits) of the bits read."""
    return probabilities @ z_signs(probabilities.shape[1].bit_length() - 1)


def sampled(probabilities: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """The same estimated from `shots` readings of each sample. Raises WrongUse without a shot."""
    if shots < 1:
        raise WrongUse(f"a reading takes at least one shot, not {shots}")
    exact = probabilities.clamp(min=0)
    read = torch.multinomial(exact, shots, replacement=True, generator=generator)
    counts = torch.zeros_like(exact).scatter_add_(1, read, torch.ones_like(read, dtype=exact.dtype))
    return expectations(counts / shots)


def _without_measurements(compiled: "QuantumCircuit") -> tuple[Any, dict[int, int]]:
    """The gates without the measurements, and the physical qubit that each bit was read from."""
    from qiskit import QuantumCircuit

    bare = QuantumCircuit(compiled.num_qubits)
    places = {}
    for step in compiled.data:
        wires = [compiled.find_bit(qubit).index for qubit in step.qubits]
        if step.operation.name == "measure":
            places[compiled.find_bit(step.clbits[0]).index] = wires[0]
        else:
            bare.append(step.operation, wires)
    return bare, places


def _misreadings(machine: Any) -> dict[int, Tensor]:
    """Physical qubit -> matrix (2, 2): probability to read the second index when the first is true."""
    from qiskit_aer.noise import NoiseModel

    noise = NoiseModel.from_backend(machine, gate_error=False, thermal_relaxation=False)
    entries = [entry for entry in noise.to_dict()["errors"] if entry["type"] == "roerror"]
    return {
        qubits[0]: torch.as_tensor(numpy.array(entry["probabilities"]), dtype=torch.float64)
        for entry in entries
        for qubits in entry["gate_qubits"]
    }
