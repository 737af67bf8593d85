"""The structures that DARB is compared with, by name, each trained by the recipe of the bench."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.rnn.baselines import Columns, Unstructured
from lib.rnn.blind import Blind
from lib.rnn.darb import BlockMax, DensityAdaptive
from lib.rnn.darb_checks import LARGEST
from lib.rnn.experiment import Arm, Bench, hold_zeros, prune_arm
from lib.rnn.partition import blocks_of, matrix_of
from lib.rnn.structure import Structure, check_counts, checked, kept_count, largest

SIDE = 4
"""Side of the blocks of block pruning."""


@dataclass(frozen=True)
class WholeBlocks:
    """Block pruning: blocks of `side` x `side` weights are kept or removed whole, by their l2 norm."""

    side: int

    def __post_init__(self) -> None:
        check_counts(side=self.side)

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Which weights of the (P, Q) matrix stay at `rate`: bool (P, Q). See `Structure.mask`."""
        matrix = checked(weight, rate)
        blocks = blocks_of(matrix.square(), self.side, self.side)
        norms = blocks.sum(dim=(2, 3))
        kept = largest(norms.flatten(), kept_count(norms.numel(), rate)).view(norms.shape)
        return matrix_of(kept[:, :, None, None].expand(blocks.shape), *matrix.shape)


def structures(seed: int) -> dict[str, Structure]:
    """All structures by name; `random` is DARB that does not look at the weights."""
    darb = DensityAdaptive(k_max=LARGEST)
    return {
        "darb": darb,
        "bmwm": BlockMax(),
        "unstructured": Unstructured(),
        "columns": Columns(),
        "blocks": WholeBlocks(SIDE),
        "random": Blind(darb, seed),
    }


def train_structure(name: str, bench: Bench, rate: float, seed: int) -> Arm:
    """A copy of the dense network in the structure `name` at `rate`, trained by the recipe of the bench.

    Raises WrongUse for a name that is not known."""
    known = structures(seed)
    if name not in known:
        raise WrongUse(f"no structure {name!r}; known: {', '.join(known)}")
    return prune_arm(name, bench, known[name], rate, seed=seed)


def with_masks(bench: Bench, masks: dict[str, Tensor]) -> float:
    """Test accuracy in percent of the dense network cut by `masks`, not trained again."""
    network = bench.copy()
    with torch.no_grad():
        hold_zeros(network, masks)
    return bench.test.score(network).accuracy
