"""Compression levels: the compiled length of one gate at each multiple of pi/2, and at other angles.

Angles at which the gate vanishes are *pruning levels*, those at which it is shorter than in general
*quantisation levels*. Every gate here repeats after 4 pi, so more than one value prunes; an uncontrolled gate
vanishes at 2 pi too (it is minus the identity), a controlled one does not (it turns the control by Z).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from lib.errors import WrongUse

Metric = Literal["depth", "depth_without_rz", "cx"]
Kind = Literal["any", "pruning", "quantisation"]

PERIOD = 4 * math.pi
"""After this angle every gate repeats exactly."""
TABLE_ANGLES = tuple(step * math.pi / 2 for step in range(9))
GENERIC_ANGLE = 0.7391
"""Stands for every angle that is no multiple of pi/2."""
EXACT = 1e-12
"""How far an angle may be from a multiple of pi/2, in radians, to be that multiple: rounding of doubles."""


@dataclass(frozen=True)
class Length:
    """A compiled circuit: its depth, its depth without rz, its number of cx gates."""

    depth: int
    depth_without_rz: int
    cx: int

    def __post_init__(self) -> None:
        if not 0 <= self.depth_without_rz <= self.depth or self.cx < 0:
            raise WrongUse(f"no circuit has these lengths: {self}")

    def by(self, metric: Metric) -> int:
        """The length by one measure. Raises WrongUse for an unknown one."""
        if metric not in get_args(Metric):
            raise WrongUse(f"unknown measure {metric!r}; known: {', '.join(get_args(Metric))}")
        return int(getattr(self, metric))


@dataclass(frozen=True)
class LevelTable:
    """Lengths of a gate at the nine multiples of pi/2 from 0 to 4 pi, and elsewhere (`generic`)."""

    gate: str
    lengths: tuple[Length, ...]
    generic: Length

    def __post_init__(self) -> None:
        if len(self.lengths) != len(TABLE_ANGLES):
            raise WrongUse(
                f"the table of {self.gate} has {len(TABLE_ANGLES)} angles, not {len(self.lengths)}"
            )

    def at(self, angle: float) -> Length:
        """Length at an angle of the table.

        Raises WrongUse for any other: a rounded level such as 3.14 is not pi and is compiled to full length.
        """
        step = angle / (math.pi / 2)
        nearest = round(step) if math.isfinite(step) else -1
        if not 0 <= nearest < len(TABLE_ANGLES) or abs(angle - nearest * math.pi / 2) > EXACT:
            raise WrongUse(
                f"{angle} is not in the table of {self.gate}, which holds 0, pi/2, pi, ... 4 pi exactly; "
                "any other angle has the length `generic`"
            )
        return self.lengths[nearest]

    def levels(self, kind: Kind = "any", metric: Metric = "depth") -> tuple[float, ...]:
        """Angles at which the gate is shorter than `generic`: vanished (pruning), or not (quantisation)."""
        if kind not in get_args(Kind):
            raise WrongUse(f"unknown kind of level {kind!r}; known: {', '.join(get_args(Kind))}")
        chosen = []
        for angle, length in zip(TABLE_ANGLES, self.lengths, strict=True):
            pruned = length.depth == 0
            if (kind == "pruning" and not pruned) or (kind == "quantisation" and pruned):
                continue
            if length.by(metric) < self.generic.by(metric):
                chosen.append(angle)
        return tuple(chosen)


def published_depths(gate: str) -> tuple[int, ...]:
    """Depths printed in the authors' notebook: at 0, pi/2, ... 4 pi, and last at an arbitrary angle.

    Of Qiskit 0.38 (Terra 0.21.2) for FakeValencia at optimisation level 2; Terra 0.23.3 gives the same ones
    (https://github.com/mit-han-lab/torchquantum, examples/ICCAD22_tutorial/sec3_gate.ipynb).

    Raises WrongUse for a gate that is not among the six.
    """
    table: Mapping[str, tuple[int, ...]] = {
        "rx": (0, 1, 1, 3, 0, 1, 1, 3, 0, 5),
        "ry": (0, 3, 2, 3, 0, 3, 2, 3, 0, 4),
        "rz": (0, 1, 1, 1, 0, 1, 1, 1, 0, 1),
        "crx": (0, 11, 8, 11, 5, 11, 9, 11, 0, 11),
        "cry": (0, 10, 8, 10, 6, 10, 8, 10, 0, 10),
        "crz": (0, 4, 4, 4, 4, 4, 4, 4, 0, 4),
    }
    if gate not in table:
        raise WrongUse(f"no depths are published for the gate {gate!r}; known: {', '.join(table)}")
    return table[gate]
