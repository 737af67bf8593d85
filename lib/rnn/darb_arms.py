"""The structures that DARB is compared with, by name, each trained by the recipe of the bench."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.rnn.baselines import Columns, Unstructured, WholeBlocks
from lib.rnn.blind import Blind
from lib.rnn.darb import BlockMax, DensityAdaptive
from lib.rnn.darb_checks import LARGEST
from lib.rnn.experiment import Arm, Bench, hold_zeros, prune_arm
from lib.rnn.structure import Structure, check_names

SIDE = 4
"""Side of the blocks of block pruning."""


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


def train_structures(names: Sequence[str], bench: Bench, rate: float, seed: int) -> dict[str, Arm]:
    """`train_structure` by name. Before any training, raises WrongUse for a name unknown, or no darb."""
    check_names(names, structures(seed), "darb")
    return {name: train_structure(name, bench, rate, seed) for name in names}


def train_structure(name: str, bench: Bench, rate: float, seed: int) -> Arm:
    """A copy of the dense network in the structure `name` at `rate`, trained by the recipe of the bench."""
    return prune_arm(name, bench, structures(seed)[name], rate, seed=seed)


def with_masks(bench: Bench, masks: dict[str, Tensor]) -> float:
    """Test accuracy in percent of the dense network cut by `masks`, not trained again."""
    network = bench.copy()
    with torch.no_grad():
        hold_zeros(network, masks)
    return bench.test.score(network).accuracy
