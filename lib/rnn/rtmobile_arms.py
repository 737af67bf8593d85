"""The arms of RTMobile's experiment: its structure, what it is compared with, and the controls."""

from dataclasses import replace

from lib.rnn.baselines import Columns, Unstructured
from lib.rnn.blind import Blind
from lib.rnn.experiment import Arm, Bench, prune_arm
from lib.rnn.structure import Structure
from lib.rnn.training import Recipe


def structure_arms(bench: Bench, structure: Structure, rate: float, seed: int) -> dict[str, Arm]:
    """Copies of the dense network pruned to `rate`, by name; all train for equally many epochs.

    `bsp` is `structure` by ADMM, `one_shot` the same without ADMM, `unstructured` and `columns` other
    structures, and `random` is `structure` that does not look at the weights.
    """
    return {
        "bsp": prune_arm("bsp", bench, structure, rate, seed=seed),
        "one_shot": prune_arm("one_shot", bench, structure, rate, one_shot(bench.recipe), seed),
        "unstructured": prune_arm("unstructured", bench, Unstructured(), rate, seed=seed),
        "columns": prune_arm("columns", bench, Columns(), rate, seed=seed),
        "random": prune_arm("random", bench, Blind(structure, seed), rate, seed=seed),
    }


def one_shot(recipe: Recipe) -> Recipe:
    """`recipe` with every epoch of ADMM spent on retraining."""
    admm = recipe.stages * recipe.rounds * recipe.epochs_a_round
    return replace(recipe, rounds=0, retrain_epochs=recipe.retrain_epochs + admm)
