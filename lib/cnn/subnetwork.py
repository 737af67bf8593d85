"""Running a network on some of its channels without copying it: weights are cut out as they are needed.

The cut tensors are functions of the parent's parameters, so gradients reach the parent. Batch statistics of a
sub-network go into tensors of its own and never touch the parent's, which hold for other inputs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lib.cnn.sites import Kept, Site
from lib.errors import WrongUse

STATISTICS = ("running_mean", "running_var")
Statistics = dict[str, Tensor]
"""Running means and variances of a sub-network, by the parent's names of the buffers."""


class SubNetworks:
    """The sub-networks of `model` over its `sites`."""

    def __init__(self, model: nn.Module, sites: Sequence[Site]) -> None:
        self.model, self.sites = model, tuple(sites)

    def __call__(self, images: Tensor, kept: Kept, statistics: Statistics | None = None) -> Tensor:
        """Logits of `images` by the sub-network with the channels `kept`.

        In training mode batch statistics are used; if `statistics` is given, running ones are updated there.
        In evaluation mode they are read from it, or cut out of the parent's.
        """
        state = self.cut(kept)
        if statistics is not None:
            state |= statistics
        for name, buffer in self.model.named_buffers():
            if name not in state:
                state[name] = buffer.clone()  # the counter of batches, which the run would advance
        with self._groups(kept):
            output: Tensor = functional_call(self.model, state, (images,))
        return output

    def cut(self, kept: Kept) -> dict[str, Tensor]:
        """Parameters and running statistics of the sub-network, by the parent's names; whole ones left out.

        Raises WrongUse for a site that `model` lacks, and for indices that are none of its channels.
        """
        self._check(kept)
        state: dict[str, Tensor] = {}
        for site in self.sites:
            if site.name not in kept:
                continue
            index = kept[site.name]
            for name in (*site.producers, *site.depthwise, *site.norms):
                module = self.model.get_submodule(name)
                for kind in ("weight", "bias", *STATISTICS):
                    tensor = getattr(module, kind, None)
                    if tensor is not None:
                        key = f"{name}.{kind}"
                        state[key] = state.get(key, tensor).index_select(0, index)
            for name in site.consumers:
                weight = state.get(f"{name}.weight", self.model.get_submodule(name).weight)
                assert isinstance(weight, Tensor)
                state[f"{name}.weight"] = weight.index_select(
                    1, _columns(index, weight.shape[1], site.channels)
                )
        return state

    def fresh_statistics(self, kept: Kept) -> Statistics:
        """Running statistics of the sub-network, to be updated in training mode: copies of the parent's."""
        cut = self.cut(kept)
        return {
            name: cut.get(name, buffer).clone()
            for name, buffer in self.model.named_buffers()
            if name.endswith(STATISTICS)
        }

    @contextmanager
    def _groups(self, kept: Kept) -> Iterator[None]:
        """Depthwise convolutions have as many groups as channels: set for the length of one run."""
        changed: list[tuple[nn.Conv2d, int]] = []
        try:
            for site in self.sites:
                if site.name in kept:
                    for name in site.depthwise:
                        conv = self.model.get_submodule(name)
                        assert isinstance(conv, nn.Conv2d)
                        changed.append((conv, conv.groups))
                        conv.groups = len(kept[site.name])
            yield
        finally:
            for conv, groups in changed:
                conv.groups = groups

    def _check(self, kept: Kept) -> None:
        known = {site.name: site.channels for site in self.sites}
        for name, index in kept.items():
            if name not in known:
                raise WrongUse(f"the network has no site {name!r}; known: {', '.join(known)}")
            if not len(index) or int(index.min()) < 0 or int(index.max()) >= known[name]:
                raise WrongUse(
                    f"channels to keep at {name} must be one or more of 0..{known[name] - 1}, "
                    f"not {index.tolist()}"
                )


def _columns(index: Tensor, columns: int, channels: int) -> Tensor:
    """Columns of a weight that reads each of `channels` at `columns / channels` positions each."""
    each = columns // channels
    if each == 1:
        return index
    return (index[:, None] * each + torch.arange(each, device=index.device)).flatten()
