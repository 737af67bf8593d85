"""The compiler in the loop: how long a circuit is on a machine once its angles are numbers.

Length is what remains when a circuit is rewritten in the gates a machine has (cx, id, rz, sx, x) and laid out
on its coupled qubits. Three measures stand side by side, because they rank circuits differently: the depth,
the depth without rz (these machines turn the frame instead of the qubit: it takes no time), and the number of
cx gates, the slowest and noisiest. The compiler draws random numbers for layout and routing, so a whole
circuit is compiled from several seeds.
"""

import json
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lib.errors import WrongUse
from lib.project import REPOSITORY
from lib.quantum.circuits import CONTROLLED, ROTATIONS, Circuit
from lib.quantum.levels import GENERIC_ANGLE, TABLE_ANGLES, Length, LevelTable, Metric
from lib.quantum.qiskit_model import checked_qiskit, fake_backend, trained_part

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

SEEDS = tuple(range(10))
LEVELS = (0, 1, 2, 3)
BASIS = ("cx", "rz", "sx", "x")
"""Gates that a machine must have for lengths on it to compare with the paper's."""
CACHE = REPOSITORY.cache / "quantum"


@dataclass(frozen=True)
class Lengths:
    """Lengths of one circuit compiled from several seeds, one per seed."""

    per_seed: tuple[Length, ...]

    def median(self, metric: Metric = "depth") -> float:
        """Median over the seeds."""
        return statistics.median(self._values(metric))

    def minimum(self, metric: Metric = "depth") -> int:
        """What whoever tries all the seeds and keeps the best would run."""
        return min(self._values(metric))

    def maximum(self, metric: Metric = "depth") -> int:
        """The worst over the seeds."""
        return max(self._values(metric))

    def _values(self, metric: Metric) -> list[int]:
        return [length.by(metric) for length in self.per_seed]


class Compiler:
    """Qiskit's compiler for the snapshot of a machine, at one optimisation level.

    `seeds` are those that whole circuits are compiled from; searches and one-gate tables use the first.
    Tables are kept in the folder `cache` (None: nowhere), under a name that holds all that they depend on.

    Raises WrongUse for an unknown backend or level, or no seeds; ReproError for another Qiskit than the
    pinned one.
    """

    def __init__(
        self,
        backend: str = "FakeValenciaV2",
        level: int = 2,
        seeds: Sequence[int] = SEEDS,
        *,
        cache: Path | None = CACHE,
    ) -> None:
        if level not in LEVELS:
            raise WrongUse(f"the compiler's optimisation level is one of {LEVELS}, not {level}")
        if not seeds or min(seeds) < 0:
            raise WrongUse(f"the compiler needs one seed at least, none of them negative, not {list(seeds)}")
        self.version: str = checked_qiskit().__version__
        self.backend, self.level, self.seeds, self.cache = backend, level, tuple(seeds), cache
        self.machine = fake_backend(backend)
        if missing := [gate for gate in BASIS if gate not in self.machine.operation_names]:
            raise WrongUse(
                f"{backend} has no {missing[0]} gate, and lengths here are in {', '.join(BASIS)}: choose the "
                "snapshot of another machine, such as FakeValenciaV2"
            )
        self._passes: dict[int, Any] = {}
        self._tables: dict[str, LevelTable] = {}
        self._known: dict[tuple[Circuit, tuple[float, ...]], Length] = {}

    def compile(self, program: "QuantumCircuit", seed: int | None = None) -> "QuantumCircuit":
        """The program in the machine's gates, from `seed` (the first by default).

        Raises WrongUse for more qubits than the machine has.
        """
        if program.num_qubits > self.machine.num_qubits:
            raise WrongUse(
                f"{self.backend} has {self.machine.num_qubits} qubits, the circuit {program.num_qubits}: "
                "choose a larger backend"
            )
        from qiskit.transpiler import generate_preset_pass_manager

        chosen = self.seeds[0] if seed is None else seed
        if chosen not in self._passes:
            self._passes[chosen] = generate_preset_pass_manager(
                optimization_level=self.level, backend=self.machine, seed_transpiler=chosen
            )
        return self._passes[chosen].run(program)

    def compiled(self, circuit: Circuit, angles: Tensor, seed: int | None = None) -> "QuantumCircuit":
        """The trained part of the circuit in the machine's gates, without encoder and measurement."""
        return self.compile(trained_part(circuit, angles), seed)

    def length(self, circuit: Circuit, angles: Tensor) -> Length:
        """Length of the trained part, compiled from the first seed; remembered, as searches ask again."""
        asked = (circuit, tuple(angles.detach().tolist()))
        if asked not in self._known:
            self._known[asked] = measure(self.compiled(circuit, angles))
        return self._known[asked]

    def lengths(self, circuit: Circuit, angles: Tensor) -> Lengths:
        """Lengths of the trained part, compiled from every seed."""
        return Lengths(tuple(measure(self.compiled(circuit, angles, seed)) for seed in self.seeds))

    def one_gate(self, gate: str, *angles: float) -> Length:
        """Length of a gate by itself (Qiskit's name) at any angles in rad, compiled from the first seed."""
        wires = (0, 1) if gate in CONTROLLED else (0,)
        program = checked_qiskit().QuantumCircuit(len(wires))
        getattr(program, gate)(*angles, *wires)
        return measure(self.compile(program))

    def table(self, gate: str) -> LevelTable:
        """Compression levels of a gate by itself. Raises WrongUse for a gate that takes no angle here."""
        known = ROTATIONS + CONTROLLED
        if gate not in known:
            raise WrongUse(f"no compression levels for the gate {gate!r}; known: {', '.join(known)}")
        if gate not in self._tables:
            self._tables[gate] = self._stored(gate) or self._measured(gate)
        return self._tables[gate]

    def tables(self, gates: Iterable[str] = ROTATIONS + CONTROLLED) -> dict[str, LevelTable]:
        """Compression levels of several gates, by name."""
        return {gate: self.table(gate) for gate in gates}

    def _measured(self, gate: str) -> LevelTable:
        lengths = [self.one_gate(gate, angle) for angle in (*TABLE_ANGLES, GENERIC_ANGLE)]
        table = LevelTable(gate, tuple(lengths[:-1]), lengths[-1])
        if path := self._file(gate):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps([astuple(length) for length in lengths]))
            draft.replace(path)  # whole or not at all: others may be reading
        return table

    def _stored(self, gate: str) -> LevelTable | None:
        path = self._file(gate)
        if path is None or not path.exists():
            return None
        try:
            *lengths, generic = (Length(*entry) for entry in json.loads(path.read_text()))
            return LevelTable(gate, tuple(lengths), generic)
        except (ValueError, TypeError, WrongUse):
            return None  # a damaged file is measured again and overwritten

    def _file(self, gate: str) -> Path | None:
        name = f"levels-qiskit{self.version}-{self.backend}-level{self.level}-seed{self.seeds[0]}-{gate}.json"
        return None if self.cache is None else self.cache / name


def measure(compiled: "QuantumCircuit") -> Length:
    """Length of a circuit in the machine's gates."""
    return Length(
        depth=compiled.depth(),
        depth_without_rz=compiled.depth(lambda step: step.operation.name != "rz"),
        cx=compiled.count_ops().get("cx", 0),
    )
