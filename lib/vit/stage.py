"""A stage scores the patches that are left, decides which of them stay, and says what becomes of the rest."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.vit.selectors import Rule, Selector, gumbel_keep

Connect = Callable[[Tensor, Tensor], Tensor]
"""Mean attention `(images, patches, patches)` and decisions `(images, patches)` to a mask like the first."""


class TokenStage(nn.Module):
    """Scores, decides, packages.

    Args:
        selector: gives each token its score, such as its probability of being worth keeping. With an
            attribute `needs_attention = True` it is shown the attention of the block that has just attended:
            the stage's own block if `inside`, else the one before.
        rule: turns scores into decisions at evaluation (training samples them).
        package: whether the patches dropped here leave one package token behind: their mean, weighted by
            their keep probability (soft pruning); otherwise they vanish (hard pruning).
        sample: training draws decisions from the probabilities, so that gradients reach the selector;
            otherwise the rule decides then too (for selectors with nothing to learn).
        inside: the stage sits between attention and MLP of its block, not in front of the block.
        connect: which patches attend to which from here on, 1 for yes; all to all without it.
    """

    def __init__(
        self,
        selector: Selector,
        rule: Rule,
        *,
        package: bool,
        sample: bool = True,
        inside: bool = False,
        connect: Connect | None = None,
    ) -> None:
        super().__init__()
        self.selector = selector
        self.rule = rule
        self.package = package
        self.sample = sample
        self.inside = inside
        self.connect = connect

    @property
    def needs_attention(self) -> bool:
        """Whether the selector looks at attention."""
        return bool(getattr(self.selector, "needs_attention", False))

    @property
    def looks(self) -> bool:
        """Whether attention must be remembered for this stage."""
        return self.needs_attention or self.connect is not None

    def decide(self, scores: Tensor, alive: Tensor, generator: torch.Generator | None) -> Tensor:
        """Decisions `(batch, patches)` on scores of that shape: sampled while training, else by the rule."""
        if self.training and self.sample:
            return gumbel_keep(scores, alive, generator)
        return self.rule(scores, alive)


@dataclass(frozen=True)
class StageTrace:
    """What a stage did: `scores` and decisions `keep`, `(batch, patches)`; a patch gone before has keep 0.

    `connected (batch, patches, patches)` is the mask of a stage that connects.
    """

    scores: Tensor
    keep: Tensor
    connected: Tensor | None = None
