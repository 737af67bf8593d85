"""Compiled lengths: single gates against the recorded table, whole circuits, the cache, what is refused."""

import math
from pathlib import Path

import pytest
import torch

from lib.errors import WrongUse
from lib.quantum.circuits import Circuit, Gate, build
from lib.quantum.compiler import Compiler
from lib.quantum.levels import TABLE_ANGLES, published_depths
from tests.quantum.parts import random

pytest.importorskip("qiskit_ibm_runtime", reason="Qiskit's runtime is not installed")

# Depths by Qiskit 2.3.0 at level 2 for FakeValenciaV2; new only when the pinned version changes.
MEASURED = {
    "rx": (0, 1, 1, 3, 0, 1, 1, 3, 0, 5),
    "ry": (0, 3, 2, 3, 0, 3, 2, 3, 0, 4),
    "rz": (0, 1, 1, 1, 0, 1, 1, 1, 0, 1),
    "crx": (0, 9, 7, 9, 1, 9, 7, 9, 0, 9),
    "cry": (0, 10, 7, 10, 1, 10, 7, 10, 0, 10),
    "crz": (0, 4, 7, 4, 1, 4, 7, 4, 0, 4),
}


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler("FakeValenciaV2", 2, (0, 1), cache=None)


@pytest.mark.parametrize("gate", list(MEASURED))
def test_depths_of_single_gates(compiler: Compiler, gate: str) -> None:
    table = compiler.table(gate)
    assert (*(length.depth for length in table.lengths), table.generic.depth) == MEASURED[gate]


@pytest.mark.parametrize("gate", ["rx", "ry", "rz"])
def test_single_qubit_gates_are_as_published(compiler: Compiler, gate: str) -> None:
    assert MEASURED[gate] == published_depths(gate)


def test_half_turn_of_a_controlled_gate_needs_one_cx(compiler: Compiler) -> None:
    table = compiler.table("crx")
    assert [table.at(step * math.pi).cx for step in range(5)] == [0, 1, 0, 1, 0]
    assert table.generic.cx == 2


@pytest.mark.parametrize("gate", ["rx", "crz"])
def test_pruning_levels(compiler: Compiler, gate: str) -> None:
    expected = (0, 2 * math.pi, 4 * math.pi) if gate == "rx" else (0, 4 * math.pi)
    assert compiler.table(gate).levels("pruning") == expected


def test_single_precision_and_rounded_levels_are_compiled_to_full_length(compiler: Compiler) -> None:
    circuit = Circuit(1, "angle", 1, (Gate("ry", (0,), input=0), Gate("rx", (0,), parameter=0)))
    exact = compiler.length(circuit, torch.tensor([math.pi / 2], dtype=torch.float64))
    rounded = compiler.length(circuit, torch.tensor([1.57], dtype=torch.float64))
    single = compiler.length(circuit, torch.tensor([math.pi / 2], dtype=torch.float32))
    assert (exact.depth, rounded.depth, single.depth) == (1, 5, 5)


@pytest.mark.parametrize("step", range(len(TABLE_ANGLES)))
@pytest.mark.parametrize("gate", ["ry", "cry"])
def test_a_gate_alone_in_a_circuit_has_the_length_of_its_table(
    compiler: Compiler, gate: str, step: int
) -> None:
    wires = (0, 1) if gate == "cry" else (0,)
    circuit = Circuit(2, "angle", 1, (Gate("ry", (0,), input=0), Gate(gate, wires, parameter=0)))
    angle = TABLE_ANGLES[step]
    alone = compiler.length(circuit, torch.tensor([angle], dtype=torch.float64))
    assert alone == compiler.table(gate).at(angle)


def test_all_pruned_is_empty(compiler: Compiler) -> None:
    lengths = compiler.lengths(build("B"), torch.zeros(40))
    assert lengths.maximum("depth") == lengths.maximum("cx") == 0


def test_one_length_per_seed_and_their_summary(compiler: Compiler) -> None:
    circuit, angles = build("A"), random(18)
    lengths = compiler.lengths(circuit, angles)
    assert len(lengths.per_seed) == 2
    assert lengths.per_seed[0] == compiler.length(circuit, angles)
    assert 0 < lengths.minimum() <= lengths.median() <= lengths.maximum()
    assert all(length.depth_without_rz < length.depth for length in lengths.per_seed)


def test_tables_are_kept_under_a_name_with_all_they_depend_on(tmp_path: Path) -> None:
    first = Compiler("FakeQuitoV2", 1, (3,), cache=tmp_path).table("rx")
    (file,) = tmp_path.iterdir()
    assert file.name == "levels-qiskit2.3.0-FakeQuitoV2-level1-seed3-rx.json"
    file.write_text(file.read_text().replace("5", "50"))
    again = Compiler("FakeQuitoV2", 1, (3,), cache=tmp_path).table("rx")
    assert first.generic.depth == 5
    assert again.generic.depth == 50


@pytest.mark.parametrize("text", ["", "[[0, 0, 0]]", '{"a": 1}', "[1, 2]"])
def test_damaged_tables_are_measured_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "levels-qiskit2.3.0-FakeQuitoV2-level1-seed0-rz.json"
    path.write_text(text)
    assert Compiler("FakeQuitoV2", 1, (0,), cache=tmp_path).table("rz").generic.depth == 1


def test_unknown_gate_is_refused(compiler: Compiler) -> None:
    with pytest.raises(WrongUse, match="no compression levels for the gate 'cz'"):
        compiler.table("cz")


def test_unusable_settings_are_refused() -> None:
    with pytest.raises(WrongUse, match="optimisation level is one of"):
        Compiler(level=4)
    with pytest.raises(WrongUse, match="one seed at least"):
        Compiler(seeds=())
    with pytest.raises(WrongUse, match="has no cx gate"):
        Compiler("FakeTorino")
    with pytest.raises(WrongUse, match="has no rz gate"):
        Compiler("FakeEssexV2")  # of the time of u1, u2 and u3


def test_too_many_qubits_are_refused(compiler: Compiler) -> None:
    with pytest.raises(WrongUse, match="FakeValenciaV2 has 5 qubits, the circuit 6"):
        compiler.length(build("A", 6), torch.zeros(26))
