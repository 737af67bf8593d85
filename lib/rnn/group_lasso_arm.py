"""An arm of the recurrent experiment that is pruned by reweighted group lasso instead of ADMM."""

import torch
from torch import nn

from lib.errors import ReproError
from lib.lab.compute import seeded
from lib.rnn.experiment import Arm, Bench, hold_zeros
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
    network.train()
    for _ in range(recipe.rounds):
        for _ in range(recipe.epochs_a_round):
            _epoch(network, bench, lasso, recipe, optimizer, generator)
        lasso.reweight()
    network.eval()
    masks = lasso.masks(rate)
    held = hold_zeros(network, masks)
    for _ in retrain(network, bench.train, held, recipe, generator):
        pass
    score, validation = bench.test.score(network), bench.validation.score(network)
    return Arm(name, score.accuracy, held.kept, masks, network, score, validation.accuracy)


def _epoch(
    network: nn.Module,
    bench: Bench,
    lasso: ReweightedGroupLasso,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    for loss in bench.train.losses(network, recipe.batch_size, generator):
        if not torch.isfinite(loss):
            raise ReproError(
                f"the loss is {loss.item()}: lower the learning rate or the strength of the lasso"
            )
        optimizer.zero_grad()
        (loss + lasso.penalty()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
