"""Tri-Level E-ViT, first level: which training examples are worth their time.

A share of the examples is held out before training starts. While the network trains, each example's answers
are watched; a few times the examples that were never unlearnt change places with random held-out ones. All of
it is bookkeeping on indices: nothing here knows an image or a network.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.errors import WrongUse

MOST_PRESENTATIONS = 30
"""Presentations since the last reset that count, and the forgetting count of what was never learnt."""


def exchange_epochs(epochs: int, *, times: int = 5, parts: int = 10) -> tuple[int, ...]:
    """Epochs (from 0) at whose start examples are exchanged: 1/10, 2/10 ... 5/10 of `epochs`.

    300 epochs give 30, 60, 90, 120, 150, as in the released code. Parts of an epoch are rounded up, so that
    no exchange comes before an epoch has been watched; in a training of a few epochs several become one.
    """
    if epochs < 1 or not 0 <= times <= parts:
        raise WrongUse(f"{times} exchanges every 1/{parts} of {epochs} epochs do not fit into the training")
    return tuple(sorted({-(-epochs * number // parts) for number in range(1, times + 1)}))


class Forgetting:
    """Counts how often each of `examples` was unlearnt: right at one presentation, wrong at the next.

    Only the first `most` presentations since the last `reset` count. An example that was wrong at all of them
    has the maximal count, `most`, as if it were forgotten each time.
    """

    def __init__(self, examples: int, *, most: int = MOST_PRESENTATIONS) -> None:
        self.examples, self.most = examples, most
        self.reset()

    def reset(self) -> None:
        """Forget everything that was recorded."""
        self.presentations = torch.zeros(self.examples, dtype=torch.long)
        self._forgotten = torch.zeros(self.examples, dtype=torch.long)
        self._right_before = torch.zeros(self.examples, dtype=torch.bool)
        self._ever_right = torch.zeros(self.examples, dtype=torch.bool)
        self._spread = torch.zeros(self.examples, dtype=torch.double)

    def record(self, places: Tensor, right: Tensor, spread: Tensor | None = None) -> None:
        """One presentation of the examples `places (n,)`: whether each was classified right, `(n,)`.

        `spread (n,)`, optional, is the variance of the last block's class attention.

        Raises WrongUse if an example stands twice in `places`: each presentation has an answer of its own,
        and must be recorded by itself.
        """
        places, right = places.cpu(), right.detach().cpu().bool()
        if len(places.unique()) < len(places):
            raise WrongUse("an example stands twice in one batch: record each presentation by itself")
        counts = self.presentations[places] < self.most
        places, right = places[counts], right[counts]
        self._forgotten[places] += (self._right_before[places] & ~right).long()
        self._ever_right[places] |= right
        self._right_before[places] = right
        self.presentations[places] += 1
        if spread is not None:
            self._spread[places] += spread.detach().cpu().double()[counts]

    def counts(self, places: Tensor) -> Tensor:
        """Forgetting counts of `places (n,)`, `(n,)` whole numbers."""
        never = torch.full_like(self._forgotten, self.most)
        return torch.where(self._ever_right, self._forgotten, never)[places]

    def spread(self, places: Tensor) -> Tensor:
        """Mean class-attention variance of `places (n,)` over their presentations, 0 where there was none."""
        return self._spread[places] / self.presentations[places].clamp(min=1)


class ExampleSets:
    """Training subset T and held-out subset R of `examples` examples, and the exchange between them.

    Args:
        removed: share of the examples that is held out from the start, rounded down; 0 trains on all of them.
        exchanged: share of all examples that change places at each exchange.
        epochs: length of the training, for `exchange_epochs`.
        generator: draws the first split, the restored examples, and the order of equals.
        by: what an exchange removes: the least forgotten examples, ties at random ("forgetting"); ties by
            class-attention variance, the most even attention first ("variance"); or random ones ("random",
            the control).

    `training` and `held_out` are their indices. Both keep their sizes for good, so every epoch has equally
    many iterations.

    Raises:
        WrongUse: a share out of range, or an exchange larger than one of the two subsets.
    """

    def __init__(
        self,
        examples: int,
        *,
        removed: float = 0.2,
        exchanged: float = 0.05,
        epochs: int,
        generator: torch.Generator,
        by: str = "forgetting",
        most: int = MOST_PRESENTATIONS,
    ) -> None:
        if not (0 <= removed < 1 and 0 <= exchanged <= 1):
            raise WrongUse(f"shares must lie in [0, 1): removed is {removed}, exchanged {exchanged}")
        if by not in ("forgetting", "variance", "random"):
            raise WrongUse(f"an exchange goes by forgetting, variance or random, not by {by!r}")
        held, self.size = int(removed * examples + 1.0e-9), int(exchanged * examples + 1.0e-9)
        if held and self.size > min(held, examples - held):
            raise WrongUse(
                f"{self.size} examples cannot change places between {examples - held} and {held}: "
                "exchange at most as many as are held out"
            )
        self.by, self.generator = by, generator
        self.forgetting = Forgetting(examples, most=most)
        self.schedule: Sequence[int] = exchange_epochs(epochs) if held and self.size else ()
        order = torch.randperm(examples, generator=generator)
        self.held_out, self.training = order[:held], order[held:]

    def __call__(self, epoch: int) -> Tensor:
        """Indices to train on in `epoch` (from 0), after the exchange that is due at its start, if any."""
        if epoch in self.schedule:
            self.exchange()
        return self.training

    def record(self, places: Tensor, right: Tensor, spread: Tensor | None = None) -> None:
        """One presentation, see `Forgetting.record`."""
        self.forgetting.record(places, right, spread)

    def ranking(self) -> Tensor:
        """The training examples in the order in which an exchange would remove them."""
        t = self.training
        chance = torch.randperm(len(t), generator=self.generator)
        if self.by == "random":
            return t[chance]
        t = t[chance]
        if self.by == "variance":
            t = t[self.forgetting.spread(t).argsort(stable=True)]
        return t[self.forgetting.counts(t).argsort(stable=True)]

    def exchange(self) -> tuple[Tensor, Tensor]:
        """Swap the first of the ranking with random held-out examples; returns (removed, restored) indices.

        What was recorded is forgotten, so that the next exchange judges all by the same presentations.
        """
        ranking = self.ranking()
        removed, stay = ranking[: self.size], ranking[self.size :]
        pool = self.held_out[torch.randperm(len(self.held_out), generator=self.generator)]
        restored, rest = pool[: self.size], pool[self.size :]
        self.training, self.held_out = torch.cat((stay, restored)), torch.cat((rest, removed))
        self.forgetting.reset()
        return removed, restored
