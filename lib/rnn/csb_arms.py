"""The structures that CSB-RNN is compared with, by name, each trained by the recipe of the bench."""

from lib.errors import WrongUse
from lib.rnn.baselines import BankBalanced, BlockCirculant, Columns, RowBalanced, Unstructured
from lib.rnn.blind import Blind
from lib.rnn.csb_rnn import CompressedBlocks
from lib.rnn.experiment import Arm, Bench, prune_arm, tie_arm
from lib.rnn.structure import Structure

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


def train_structure(name: str, bench: Bench, block: int, rate: float, seed: int) -> Arm:
    """A copy of the dense network in the structure `name` at `rate`, trained by the recipe of the bench.

    Circulant blocks have as their side the whole number nearest to the rate. Raises WrongUse for a name that
    is not known."""
    if name == CIRCULANT:
        return tie_arm(name, bench, BlockCirculant(round(rate)), seed=seed)
    known = masked_structures(block, seed)
    if name not in known:
        raise WrongUse(f"no structure {name!r}; known: {', '.join([*known, CIRCULANT])}")
    return prune_arm(name, bench, known[name], rate, seed=seed)
