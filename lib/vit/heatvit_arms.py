"""HeatViT's experiment: selectors at equal token counts, then the approximated functions and 8 bits."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from lib.lab.compute import seeded
from lib.lab.train import accuracy
from lib.vit import heatvit, spvit
from lib.vit.approximations import DELTA_1, DELTA_2, approximate
from lib.vit.experiment import Arm, Bench, train_arm
from lib.vit.finetune import Recipe
from lib.vit.fixed_point import Functions, quantise, to_integers
from lib.vit.host import TokenHost
from lib.vit.topk import prune_by_class_attention

CALIBRATION = 32
"""Images on which the fraction bits of activations are chosen."""
INTEGER_BATCH = 25
"""Images a batch where numbers have 64 bits: larger ones leave the caches and are slower."""


def pruning_arms(bench: Bench, ratios: Sequence[float], recipe: Recipe, seed: int) -> dict[str, Arm]:
    """The method and its controls, trained alike from one dense network, all on equally many tokens.

    `heatvit` and `single` (one network over the full width instead of one per head) carry a package token
    more after every stage; `hard` (without packages), `random` and `topk` (by class attention) keep so many
    patches more. `random_soft` drops blindly too, but into packages, weighted by its random scores: against
    `random` it shows what packages are worth apart from any selector.
    """
    patches = bench.dense.patch_embed.num_patches
    soft = heatvit.kept_patches(ratios, patches)
    hard = heatvit.kept_patches(ratios, patches, instead_of_packages=True)
    hard_ratios = [after / before for before, after in pairwise((patches, *hard))]
    seeded(seed)
    hosts = {
        "heatvit": heatvit.prune(bench.copy(), ratios, counts=soft),
        "single": heatvit.prune(bench.copy(), ratios, counts=soft, heads=1),
        "hard": heatvit.prune(bench.copy(), hard_ratios, soft=False, counts=hard),
        "random": spvit.prune_randomly(bench.copy(), hard),
        "random_soft": spvit.prune_randomly(bench.copy(), soft, soft=True),
        "topk": prune_by_class_attention(bench.copy(), hard, inside=False),
    }
    arms = {}
    for name, host in hosts.items():
        asked = ratios if host.ordered[0].package else hard_ratios
        arms[name] = train_arm(name, host, bench, heatvit.objective(asked), recipe, seed)
    return arms


@dataclass(frozen=True)
class Quantised:
    """Test accuracies in percent by name; the last network, pruned, 8 bits, simulated and in integers."""

    accuracies: dict[str, float]
    simulated: TokenHost
    integers: TokenHost


def quantised_arms(
    bench: Bench, pruned: TokenHost, ratios: Sequence[float], recipe: Recipe, seed: int
) -> Quantised:
    """8 bits on the dense network and on `pruned`, with exact and approximated functions.

    `exact`: dense, frozen weights, exact functions. `frozen`: the same weights under the approximated ones.
    `tuned`: fine-tuned with these active, then rounded. `pruned`: `pruned` treated so, in integers. The
    backbone learns from the first step: nothing else could adapt.
    """
    functions = Functions(DELTA_1, DELTA_2)
    images = next(bench.train.batches(CALIBRATION))[0].to(next(bench.dense.parameters()).device)
    whole = replace(recipe, backbone_rest=0.0, progressive=False)

    def tuned(name: str, host: TokenHost, asked: Sequence[float]) -> TokenHost:
        return train_arm(name, approximate(host), bench, heatvit.objective(asked), whole, seed).host

    dense = TokenHost(bench.dense, {})
    exact, frozen = quantise(dense, images), quantise(dense, images, functions)
    repaired = quantise(tuned("approximated", dense, ()), images, functions)
    last = quantise(tuned("approximated, pruned", pruned, ratios), images, functions)
    networks = {"exact": exact, "frozen": frozen, "tuned": repaired, "pruned": to_integers(last)}
    accuracies = {
        name: 100 * accuracy(network, bench.test, batch_size=INTEGER_BATCH)
        for name, network in networks.items()
    }
    return Quantised(accuracies, last, networks["pruned"])


@torch.no_grad()
def integer_gap(quantised: Quantised, images: torch.Tensor) -> float:
    """Largest difference between logits of the simulated network and of the integers, in float64."""
    left, right = (copy.deepcopy(each).double() for each in (quantised.simulated, quantised.integers))
    return float((left(images.double()).logits - right(images.double()).logits).abs().max())
