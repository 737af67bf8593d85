"""What CompVQC is compared with: the same training with fewer kinds of levels, or with a step left out.

All at the same share kappa of compressed angles, and trained for as many epochs (but `no_retraining`, which
leaves half of them out). An equal share is not an equal depth, as an angle whose
neighbours stay does not shorten the longest path: compare at equal depth too.
"""

import difflib
from dataclasses import replace
from typing import Literal, get_args

import torch

from lib.errors import WrongUse
from lib.quantum.compiler import Compiler
from lib.quantum.compvqc import (
    Compressed,
    Compression,
    FixedProjection,
    TargetProjection,
    candidates,
    compress,
    nearest,
    reconstruct,
)
from lib.quantum.data import Splits
from lib.quantum.levels import Kind, Metric
from lib.quantum.model import Model

Method = Literal["compvqc", "nearest", "pruning", "quantisation", "one_shot", "no_retraining", "random"]
DESCRIPTIONS: dict[str, str] = {
    "compvqc": "targets by accuracy and length of the whole model, ADMM, retraining",
    "nearest": "the nearest level as target, of either kind",
    "pruning": "pruning levels only",
    "quantisation": "quantisation levels only; gates that have none stay free",
    "one_shot": "projected without ADMM, then retrained for as long as the others are trained in all",
    "no_retraining": "ADMM and projection, not retrained",
    "random": "the targets of compvqc, but angles to compress drawn at random",
}


def compress_by(
    method: str,
    model: Model,
    splits: Splits,
    compiler: Compiler,
    settings: Compression,
    generator: torch.Generator,
    *,
    metric: Metric = "depth",
    weights: torch.Tensor | None = None,
) -> Compressed:
    """The trained model compressed by one of `DESCRIPTIONS`; `weights` are those of `TargetProjection`.

    Raises WrongUse for an unknown method.
    """
    if method not in get_args(Method):
        near = difflib.get_close_matches(method, get_args(Method), n=1)
        raise WrongUse(
            f"unknown method {method!r}; "
            + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(get_args(Method))}")
        )
    kinds: dict[str, Kind] = {"pruning": "pruning", "quantisation": "quantisation"}
    tables = compiler.tables({gate.name for gate in model.circuit.ansatz})
    levels = candidates(model.circuit, tables, kinds.get(method, "any"), metric)
    if method == "nearest":
        targets = nearest(model.angles, levels)
    else:
        targets = reconstruct(model, splits.validation, compiler, levels, metric)
    chosen = TargetProjection(targets, settings.kappa, weights)
    projection: TargetProjection | FixedProjection = chosen
    if method == "random":
        order = torch.randperm(len(targets), generator=generator)
        mask = torch.zeros(len(targets), dtype=torch.bool)
        mask[order[~targets[order].isnan()][: chosen.count]] = True
        projection = FixedProjection(targets, mask)
    if method == "one_shot":
        # Else ADMM would be credited with the epochs that its rounds train.
        settings = replace(settings, rounds=0, retraining=settings.rounds + settings.retraining)
    if method == "no_retraining":
        settings = replace(settings, retraining=0)
    return compress(model, splits, projection, compiler, settings, generator, metric=metric)
