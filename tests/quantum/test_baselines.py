"""What CompVQC is compared with: which levels each method uses, how many angles it holds, which steps it
runs.
"""

import math
from typing import get_args

import pytest
import torch

from lib.errors import WrongUse
from lib.quantum.baselines import DESCRIPTIONS, Method, compress_by
from lib.quantum.circuits import build
from lib.quantum.compiler import Compiler
from lib.quantum.compvqc import Compressed, Compression
from lib.quantum.model import Model
from tests.quantum.parts import splits

pytest.importorskip("qiskit_ibm_runtime", reason="Qiskit's runtime is not installed")


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler("FakeValenciaV2", 1, (0,), cache=None)


def compressed(method: str, compiler: Compiler, seed: int = 0) -> tuple[Model, Compressed]:
    model = Model(build("A", 2, features=4), 2, torch.Generator().manual_seed(0))
    settings = Compression(0.5, rounds=1, retraining=1)
    generator = torch.Generator().manual_seed(seed)
    return model, compress_by(method, model, splits(), compiler, settings, generator)


def test_every_method_is_described() -> None:
    assert set(DESCRIPTIONS) == set(get_args(Method))


@pytest.mark.parametrize("method", list(DESCRIPTIONS))
def test_share_is_kept_and_held_angles_are_levels(method: str, compiler: Compiler) -> None:
    _, result = compressed(method, compiler)
    held = result.model.angles.detach()[result.held] / (math.pi / 2)
    assert int(result.held.sum()) == 5
    assert torch.equal(held, held.round())


def test_pruned_gates_vanish(compiler: Compiler) -> None:
    _, result = compressed("pruning", compiler)
    gates = [gate for gate, held in zip(result.model.circuit.ansatz, result.held, strict=True) if held]
    values = result.model.angles.detach()[result.held].tolist()
    assert all(
        compiler.table(gate.name).at(value).depth == 0 for gate, value in zip(gates, values, strict=True)
    )


def test_quantised_gates_are_short_but_there(compiler: Compiler) -> None:
    _, result = compressed("quantisation", compiler)
    for gate, target in zip(result.model.circuit.ansatz, result.targets.tolist(), strict=True):
        if gate.name in ("rz", "crz"):
            assert math.isnan(target)  # they have no short level but nothing
        else:
            table = compiler.table(gate.name)
            assert 0 < table.at(target).depth < table.generic.depth


def test_random_choice_follows_the_generator(compiler: Compiler) -> None:
    masks = [compressed("random", compiler, seed)[1].held for seed in (0, 0, 1, 2)]
    assert torch.equal(masks[0], masks[1])
    assert not (torch.equal(masks[0], masks[2]) and torch.equal(masks[0], masks[3]))


def test_random_differs_from_compvqc_in_the_choice_alone(compiler: Compiler) -> None:
    ours, blind = compressed("compvqc", compiler)[1], compressed("random", compiler)[1]
    assert torch.equal(ours.targets, blind.targets)
    assert not torch.equal(ours.held, blind.held)


def test_one_shot_trains_as_long_without_a_round_and_no_retraining_has_no_epoch(compiler: Compiler) -> None:
    _, one_shot = compressed("one_shot", compiler)
    assert (one_shot.residuals, len(one_shot.retraining.losses)) == ((), 2)
    _, bare = compressed("no_retraining", compiler)
    assert (len(bare.residuals), bare.retraining.losses) == (1, ())


def test_unknown_method_is_named_with_the_nearest(compiler: Compiler) -> None:
    with pytest.raises(WrongUse, match=r"unknown method 'prunning'; did you mean 'pruning'"):
        compressed("prunning", compiler)
