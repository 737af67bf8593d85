"""An arm of the recurrent experiment that is pruned by reweighted group lasso instead of ADMM."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lib.lab.admm import train_epochs
from lib.lab.compute import seeded
from lib.rnn.experiment import Arm, Bench, hold_zeros, scored
from lib.rnn.group_lasso import ReweightedGroupLasso
from lib.rnn.networks import gate_matrices
from lib.rnn.training import Recipe, retrain


def lasso_arm(
    name: str,
    bench: Bench,
    block: tuple[int, int],
    rate: float,
    strength: float,
    recipe: Recipe | None = None,
    seed: int = 0,
) -> Arm:
    """A copy of the dense network, drawn towards empty rows and columns of blocks, cut to `rate` and
    retrained.

    The recipe is that of `prune_arm`, number of epochs and learning rates included: a round, after which ADMM
    would project, ends with new weights of the groups. `rate` holds for all gate matrices together; each
    keeps its own share. Raises ReproError when the training diverges or a matrix is emptied.
    """
    recipe = recipe or bench.recipe
    generator = seeded(seed)
    network = bench.copy()
    lasso = ReweightedGroupLasso(gate_matrices(network), block, strength)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.admm_learning_rate)

    def epoch() -> Iterator[Tensor]:
        for loss in bench.train.losses(network, recipe.batch_size, generator):
            yield loss + lasso.penalty()

    network.train()
    remedy = "lower the learning rate or the strength of the lasso"
    for _ in range(recipe.rounds):
        for _ in train_epochs(epoch, optimizer, recipe.epochs_a_round, clip=recipe.clip, remedy=remedy):
            pass
        lasso.reweight()
    network.eval()
    masks = lasso.masks(rate)
    held = hold_zeros(network, masks)
    for _ in retrain(network, bench.train, held, recipe, generator):
        pass
    return scored(name, bench, network, masks, held.kept)
