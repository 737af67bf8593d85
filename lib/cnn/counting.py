"""Multiply-accumulates and parameters of a network as functions of its widths, without building it.

A search over widths asks for thousands of counts. One forward pass tells at how many positions each layer
works; the rest is products of widths. tests/cnn/test_counting.py holds the result against the traced network
with its channels removed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.cnn.sites import Site


@dataclass(frozen=True)
class CountedLayer:
    """One layer: its widths belong to a site (`made`, `read`: names) or are fixed (`outputs`, `inputs`).

    `positions`: output positions. `kernel`: weights for each pair of input and output channel; of a linear
    layer, positions that it reads of each channel. `depthwise`: each output reads one input.
    """

    name: str
    outputs: int
    inputs: int
    positions: int
    kernel: int
    depthwise: bool
    bias: bool
    made: str | None
    read: str | None

    def weights(self, widths: Mapping[str, int]) -> int:
        """Weights without biases, for the number of channels kept at each site."""
        outputs = widths.get(self.made, self.outputs) if self.made else self.outputs
        inputs = widths.get(self.read, self.inputs) if self.read else self.inputs
        return self.kernel * outputs * (1 if self.depthwise else inputs)


@dataclass(frozen=True)
class Counter:
    """Counts of one network at one image size."""

    layers: tuple[CountedLayer, ...]
    norms: tuple[tuple[str | None, int], ...]

    def macs(self, widths: Mapping[str, int]) -> int:
        """Multiply-accumulates of convolutions and linear layers for one image; `{}` keeps all channels."""
        return sum(layer.positions * layer.weights(widths) for layer in self.layers)

    def params(self, widths: Mapping[str, int]) -> int:
        """Weights, biases, scales and shifts."""
        total = 0
        for layer in self.layers:
            outputs = widths.get(layer.made, layer.outputs) if layer.made else layer.outputs
            total += layer.weights(widths) + (outputs if layer.bias else 0)
        return total + sum(2 * (widths.get(site, width) if site else width) for site, width in self.norms)


def counter(model: nn.Module, sites: Sequence[Site], example: Tensor) -> Counter:
    """The counts of `model` for images like `example (1, channels, height, width)`."""
    made = {layer: site.name for site in sites for layer in (*site.producers, *site.depthwise, *site.norms)}
    read = {layer: site for site in sites for layer in site.consumers}
    layers: list[CountedLayer] = []

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        site = read.get(name)
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups > 1
            kernel, inputs = module.kernel_size[0] * module.kernel_size[1], module.in_channels
            sizes = (module.out_channels, inputs, output[0, 0].numel(), kernel)
        else:
            assert isinstance(module, nn.Linear)
            depthwise, inputs = False, site.channels if site else module.in_features
            sizes = (module.out_features, inputs, output[0].numel() // module.out_features, 0)
            sizes = (*sizes[:3], module.in_features // inputs)
        layers.append(
            CountedLayer(
                name, *sizes, depthwise, module.bias is not None, made.get(name), site.name if site else None
            )
        )

    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    training = model.training
    try:
        with torch.inference_mode():
            model.eval()(example)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    norms = tuple(
        (made.get(name), module.num_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    )
    return Counter(tuple(layers), norms)
