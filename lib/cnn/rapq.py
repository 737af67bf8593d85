"""RAPQ (IJCAI 2022): what it adds to block-wise reconstruction with rounded weights.

Symbols: a, the trainable exponents of a unit (its *scale group*), with s = 2^(e_0 + h(a)); v, the trainable
rounding of weights; h, the stretched sigmoid; gamma, the scale vector of the BN that closes a unit, of C
entries; c, how far the exponent may rise; p, the exponent of the reconstruction loss; beta, the sharpness of
a penalty; lambda, its weight.

    L_rec = mean over images and positions of  sum over channels |y_hat - y|^p
    p     = 1 + c sigmoid((sum(gamma) - 1) / C), to one decimal;  2 where no BN closes the unit
    L     = L_rec + lambda sum(1 - |2h(v) - 1|^beta) + 10 lambda sum(1 - |2h(a) - 1|^beta)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.cnn.quantizers import stretched_sigmoid
from lib.errors import WrongUse

PLAIN_EXPONENT = 2.0
SCALE_WEIGHT = 10.0
BETA_START, BETA_END = 20.0, 2.0


@dataclass(frozen=True)
class Recipe:
    """How a unit is reconstructed. The published run: 80,000 iterations, rate 1e-3, 500 for the exponents.

    Args:
        iterations: steps on the weights of each unit; 0 rounds to the nearest level.
        activation_iterations: steps on the activation scales of each unit.
        batch_size: images of a step, drawn with replacement.
        rounding_rate, scale_rate, activation_rate: Adam's learning rates of v, a and t.
        scale_share: share of the iterations in which the exponents are learned; they are fixed afterwards.
        penalty: lambda.
        warmup: share of the iterations without penalty on v.
    """

    iterations: int
    activation_iterations: int
    batch_size: int = 32
    rounding_rate: float = 1.0e-2
    scale_rate: float = 5.0e-2
    activation_rate: float = 1.0e-2
    scale_share: float = 0.2
    penalty: float = 0.01
    warmup: float = 0.2

    def __post_init__(self) -> None:
        if min(self.iterations, self.activation_iterations) < 0 or self.batch_size < 1:
            raise WrongUse("iterations cannot be negative, and a batch holds at least one image")
        if not 0 <= self.scale_share < 1 or not 0 <= self.warmup < 1:
            raise WrongUse("scale_share and warmup are shares of the iterations: at least 0 and below 1")

    @property
    def scale_iterations(self) -> int:
        """Steps in which the exponents are learned; at least one wherever any is."""
        return min(self.iterations, math.ceil(self.scale_share * self.iterations))


def bn_exponent(gamma: Tensor | None, c: float) -> float:
    """p of a unit that is closed by a BN with scales `gamma (channels,)`; 2 without one, or with c = 0."""
    if gamma is None or not c:
        return PLAIN_EXPONENT
    mean = (float(gamma.double().sum()) - 1) / len(gamma)
    return round(1 + c / (1 + math.exp(-mean)), 1)


def reconstruction_loss(output: Tensor, target: Tensor, p: float) -> Tensor:
    """L_rec of `(images, channels, ...)`."""
    error = (output - target).abs()
    # |x|^p has no finite second slope at 0 for p < 2; the floor keeps its first one finite for Adam
    return error.clamp(min=1.0e-12).pow(p).sum(1).mean()


def beta_at(step: int, recipe: Recipe) -> float:
    """beta of the rounding penalty: 20 until the warm-up ends, then down to 2 on a straight line."""
    start = recipe.warmup * recipe.iterations
    if step < start:
        return BETA_START
    return BETA_START + (BETA_END - BETA_START) * (step - start) / max(1.0, recipe.iterations - start)


def decision_penalty(parameters: Sequence[Tensor], beta: float) -> Tensor:
    """sum(1 - |2h - 1|^beta): zero where every h is 0 or 1."""
    return torch.stack([(1 - (2 * stretched_sigmoid(x) - 1).abs().pow(beta)).sum() for x in parameters]).sum()
