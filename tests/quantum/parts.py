"""Small circuits, samples and a compiler for the tests of this folder."""

import math

import torch
from torch import Tensor

from lib.quantum.circuits import Circuit
from lib.quantum.data import Samples, Splits
from lib.quantum.levels import TABLE_ANGLES, Length, LevelTable


def random(*shape: int, seed: int = 0) -> Tensor:
    """Numbers between -2 pi and 2 pi, double precision."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * math.pi * (2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1)


def splits(features: int = 4, samples: int = 24, classes: int = 2) -> Splits:
    """A task whose class is easily told from the first feature."""
    inputs = random(samples, features, seed=7).abs() / 4
    labels = torch.arange(samples) % classes
    inputs[:, 0] = labels * math.pi / max(1, classes - 1)
    part = Samples(inputs, labels)
    return Splits("toy", tuple(str(label) for label in range(classes)), part, part, part)


def table(gate: str) -> LevelTable:
    """A gate that vanishes at 0 and 4 pi, has length 1 at pi, and 4 elsewhere."""
    depths = [0 if step in (0, 8) else 1 if step == 2 else 4 for step in range(len(TABLE_ANGLES))]
    return LevelTable(gate, tuple(Length(depth, 0, 0) for depth in depths), Length(4, 2, 0))


class CountingCompiler:
    """Stands in for the compiler: a circuit is as deep as it has angles that are not multiples of pi."""

    def __init__(self) -> None:
        self.calls = 0

    def length(self, circuit: Circuit, angles: Tensor) -> Length:
        self.calls += 1
        turns = angles.detach() / math.pi
        return Length(int(((turns - turns.round()).abs() > 1e-9).sum()), 0, 0)
