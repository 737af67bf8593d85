"""The structures that CSB-RNN is compared with, by name, each trained by the recipe of the bench."""

from collections.abc import Sequence

from lib.rnn.baselines import BankBalanced, BlockCirculant, Columns, RowBalanced, Unstructured
from lib.rnn.blind import Blind
from lib.rnn.csb_rnn import CompressedBlocks
from lib.rnn.experiment import Arm, Bench, prune_arm, tie_arm
from lib.rnn.structure import Structure, check_names

BANKS = 4
"""Banks of a row in bank-balanced pruning."""
CIRCULANT = "circulant"


def masked_structures(block: int, seed: int) -> dict[str, Structure]:
    """The structures that have a mask; `random` is CSB that does not look at the weights."""
    return {
        "csb": CompressedBlocks(block),
        "unstructured": Unstructured(),
        "row_balanced": RowBalanced(),
        "bank_balanced": BankBalanced(BANKS),
        "columns": Columns(),
        "random": Blind(CompressedBlocks(block), seed),
    }


def train_structures(
    names: Sequence[str], bench: Bench, block: int, rate: float, seed: int
) -> dict[str, Arm]:
    """`train_structure` by name. Raises WrongUse, before any training, for an unknown name or without csb."""
    check_names(names, [*masked_structures(block, seed), CIRCULANT], "csb")
    return {name: train_structure(name, bench, block, rate, seed) for name in names}


def train_structure(name: str, bench: Bench, block: int, rate: float, seed: int) -> Arm:
    """A copy of the dense network in the structure `name` at `rate`, trained by the recipe of the bench.

    Circulant blocks have as their side the whole number nearest to the rate."""
    if name == CIRCULANT:
        return tie_arm(name, bench, BlockCirculant(round(rate)), seed=seed)
    return prune_arm(name, bench, masked_structures(block, seed)[name], rate, seed=seed)
