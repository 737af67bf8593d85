"""Block-wise reconstruction: units are made to repeat their float outputs, one after the other.

First the weights of all units, front to back, on inputs that the quantized prefix gives; then the activation
scales of all units. A unit sees `calibration images` through its prefix only: nothing is trained end to end.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from lib.cnn.quant_graph import QuantNetwork, Unit
from lib.cnn.rapq import (
    BETA_START,
    SCALE_WEIGHT,
    Recipe,
    beta_at,
    bn_exponent,
    decision_penalty,
    reconstruction_loss,
)
from lib.errors import ReproError
from lib.lab.descent import descend

_FORWARD_IMAGES = 32
_SCALE_IMAGES = 64

Progress = Callable[[str], None]
"""Called with the name of each unit that a stage has finished."""


def reconstruct(
    network: QuantNetwork,
    images: Tensor,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    c: float = 0.0,
    progress: Progress = lambda name: None,
) -> None:
    """Calibrates `network` on `images (n, channels, height, width)`, in place, and fixes all its numbers.

    Args:
        c: of the BN-informed exponent; 0 reconstructs with p = 2 everywhere.

    Raises:
        ReproError: no images, or numbers that are not finite.
    """
    if not len(images):
        raise ReproError("the calibration set is empty: give at least one image")
    units = list(network.units())
    targets = list(_float_outputs(units, images))
    inputs = images
    first = network.layers[0]
    for unit, target in zip(units, targets, strict=True):
        if any(layer.quantizer for layer in unit.layers):
            p = bn_exponent(unit.closing_gamma, c)
            # the first layer keeps the scales and the rounding it starts with
            learn_weights(unit, inputs, target, recipe, p, generator, learn=first not in unit.layers)
        inputs = _forward(unit, inputs)
        progress(unit.name)
    inputs = images
    for unit, target in zip(units, targets, strict=True):
        observe(unit, inputs[:_SCALE_IMAGES])
        learn_activations(unit, inputs, target, recipe, bn_exponent(unit.closing_gamma, c), generator)
        inputs = _forward(unit, inputs)
        progress(unit.name)
    network.requires_grad_(False)


def learn_weights(
    unit: Unit,
    inputs: Tensor,
    target: Tensor,
    recipe: Recipe,
    p: float,
    generator: torch.Generator,
    *,
    learn: bool = True,
) -> None:
    """Learns exponents and rounding of `unit` together, fixes the exponents, goes on with the rounding."""
    layers = [layer for layer in unit.layers if layer.quantizer is not None]
    quantizers = [layer.quantizer for layer in layers if layer.quantizer is not None]
    if learn and recipe.iterations:
        _start_rounding(unit)
        exponents = [q.scale.a for q in quantizers if q.scale.a is not None]
        rounding = [q.v for q in quantizers if q.v is not None]
        groups = [{"params": rounding, "lr": recipe.rounding_rate}]
        groups += [{"params": exponents, "lr": recipe.scale_rate}] if exponents else []
        optimizer = torch.optim.Adam(groups)
        for step in range(recipe.iterations):
            if step == recipe.scale_iterations and exponents:
                for quantizer in quantizers:
                    quantizer.scale.harden()
                _start_rounding(unit)  # the fractions have changed with the scales
            batch = torch.randint(len(inputs), (recipe.batch_size,), generator=generator).to(inputs.device)
            loss = reconstruction_loss(unit(inputs[batch]), target[batch], p)
            if step >= recipe.warmup * recipe.iterations:
                loss = loss + recipe.penalty * decision_penalty(rounding, beta_at(step, recipe))
            if exponents and step < recipe.scale_iterations:
                loss = loss + SCALE_WEIGHT * recipe.penalty * decision_penalty(exponents, BETA_START)
            _descend(loss, optimizer, unit)
    for layer in layers:
        layer.freeze()


@torch.no_grad()
def observe(unit: Unit, inputs: Tensor) -> None:
    """Gives every activation quantizer of `unit` its scale, from what it sees once those before it have
    theirs.
    """
    for quantizer in unit.activations:
        seen: list[Tensor] = []
        hook = quantizer.register_forward_pre_hook(lambda _, arguments, seen=seen: seen.append(arguments[0]))
        try:
            unit(inputs)
        finally:
            hook.remove()
        quantizer.observe(seen[0])


def learn_activations(
    unit: Unit, inputs: Tensor, target: Tensor, recipe: Recipe, p: float, generator: torch.Generator
) -> None:
    """Learns log2 of the activation scales of `unit`, those kept at the nearest power of two excepted."""
    scales = [q.t for q in unit.activations if q.t is not None and q.kind in ("float", "learned")]
    if not scales or not recipe.activation_iterations:
        return
    for t in scales:
        t.requires_grad_(True)
    optimizer = torch.optim.Adam(scales, lr=recipe.activation_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.activation_iterations)
    for _ in range(recipe.activation_iterations):
        batch = torch.randint(len(inputs), (recipe.batch_size,), generator=generator).to(inputs.device)
        _descend(reconstruction_loss(unit(inputs[batch]), target[batch], p), optimizer, unit)
        cosine.step()
    for t in scales:
        t.requires_grad_(False)


def _start_rounding(unit: Unit) -> None:
    for layer in unit.layers:
        if layer.quantizer is not None:
            layer.quantizer.learn_rounding(layer.layer.weight.detach())


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer, unit: Unit) -> None:
    remedy = "check the calibration images for values that are not finite, or lower the learning rates"
    descend(loss, optimizer, when=f"in the reconstruction of unit {unit.name}", remedy=remedy, clip=None)


def _float_outputs(units: list[Unit], images: Tensor) -> Iterator[Tensor]:
    """What each unit gives in the float network. Raises ReproError where that is not finite."""
    for unit in units:
        held = [(layer, layer.quantizer) for layer in unit.layers]
        for layer, _ in held:
            layer.quantizer = None
        images = _forward(unit, images)
        for layer, quantizer in held:
            layer.quantizer = quantizer
        if not torch.isfinite(images).all():
            raise ReproError(
                f"the float activations of unit {unit.name} are not finite (NaN or infinity): check the "
                "weights of the network and the calibration images"
            )
        yield images


@torch.no_grad()
def _forward(unit: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([unit(part) for part in images.split(_FORWARD_IMAGES)])
