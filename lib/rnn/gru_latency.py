"""Time of one step and of an utterance at batch 1 on this machine: dense, in sparse rows, and compiled."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.kernels.layers import CompiledGRU
from lib.lab.measure import Latency, latencies
from lib.rnn.csr_gru import CsrGRU
from lib.rnn.products import generated
from lib.rnn.structure import Structure


@dataclass(frozen=True)
class HostTimes:
    """Times by contender: `dense`, `csr_<rate>` and `compiled_<rate>`; `masks` of every rate by matrix."""

    step: Mapping[str, Latency]
    utterance: Mapping[str, Latency]
    masks: Mapping[float, Mapping[str, Tensor]]

    def step_us(self, contender: str) -> float:
        """Least time of a step, in microseconds."""
        return 1e6 * self.step[contender].minimum_s

    def utterance_us(self, contender: str) -> float:
        """Least time of an utterance, in microseconds."""
        return 1e6 * self.utterance[contender].minimum_s

    def over_dense(self, rate: float) -> dict[str, float]:
        """Time of a step and of an utterance over dense, in sparse rows and compiled, at a rate with both."""
        return {
            f"{what} {kind}": times(f"{kind}_{rate:g}") / times("dense")
            for what, times in (("step", self.step_us), ("utterance", self.utterance_us))
            for kind in ("csr", "compiled")
        }


def prune_network(network: nn.GRU, structure: Structure, rate: float) -> tuple[nn.GRU, dict[str, Tensor]]:
    """A copy of `network` with every gate matrix pruned at once by `structure`, and the masks by matrix."""
    pruned, masks = copy.deepcopy(network), {}
    with torch.no_grad():
        for name, weight in pruned.named_parameters():
            if name.startswith("weight"):
                masks[name] = structure.mask(weight, rate)
                weight.mul_(masks[name])
    return pruned, masks


def host_times(
    network: nn.GRU,
    structure: Structure,
    rates: Sequence[float],
    csr_rates: Sequence[float],
    frames: int,
    generator: torch.Generator,
    *,
    burst_s: float,
) -> HostTimes:
    """Times of `network` dense, compiled at each of `rates` and in sparse rows at each of `csr_rates`.

    All contenders of one comparison run in alternating bursts on one random utterance of `frames` frames,
    each step from the same random state. Utterances are timed at the first rate only. Raises WrongUse without
    a rate, ReproError without a C compiler.
    """
    if not rates:
        raise WrongUse("there is no rate to time: give at least one")
    network = network.eval()
    pruned = {rate: prune_network(network, structure, rate) for rate in dict.fromkeys((*rates, *csr_rates))}
    contenders: dict[str, nn.Module] = {"dense": network}
    contenders |= {f"csr_{rate:g}": CsrGRU(pruned[rate][0]) for rate in csr_rates}
    for rate in rates:
        compiled = CompiledGRU(pruned[rate][0])
        for matrix in compiled.matrices:
            generated(matrix)
        contenders[f"compiled_{rate:g}"] = compiled
    utterance = torch.randn(1, frames, network.input_size, generator=generator)
    state = torch.randn(network.num_layers, 1, network.hidden_size, generator=generator)
    one = utterance[:, :1].contiguous()
    short = ("dense", *(name for name in contenders if name.endswith(f"_{rates[0]:g}")))
    return HostTimes(
        latencies({name: partial(each, one, state) for name, each in contenders.items()}, burst_s=burst_s),
        latencies({name: partial(contenders[name], utterance) for name in short}, rounds=3, burst_s=burst_s),
        {rate: masks for rate, (_, masks) in pruned.items()},
    )
