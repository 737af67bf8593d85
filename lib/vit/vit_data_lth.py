"""Data-level lottery tickets for vision transformers (Shen, Kong et al., IJCAI 2023).

Symbols: N the patches of an image x; rho the keep rate of one stage of the selector g; k_1, k_2, k_3 the
patches left after its stages; Omega_g(x) the ticket of x, the k_3 patches that are left at the end.

The network that is trained never sees another patch: its sequence is 1 + k_3 tokens long from the first block
on. The selector is a trained network of its own, which does see all patches.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.vit.attention import attend, exact_weights
from lib.vit.host import Output, TokenHost, blocks_of, class_token_vit, embedded
from lib.vit.tokens import add_attention, add_mlp
from lib.vit.topk import prune_by_class_attention

BLOCKS = (3, 6, 9)
"""Blocks (0-based) inside which the selector drops patches; 4, 8, 12 in LV-ViT's sixteen."""


def ticket_counts(rho: float, patches: int, stages: int = 3) -> tuple[int, ...]:
    """k_1 .. k_S: ceil(rho n) of the n patches that the stage before left (released code).

    Raises WrongUse for a keep rate outside (0, 1].
    """
    if not 0 < rho <= 1:
        raise WrongUse(f"the keep rate must lie in (0, 1], not {rho}")
    counts, left = [], patches
    for _ in range(stages):
        left = math.ceil(rho * left - 1.0e-9)  # 0.7 * 30 is a little more than 21
        counts.append(left)
    return tuple(counts)


def extended_epochs(epochs: int, rho: float) -> float:
    """Epochs after which random subsets have shown as many patches as `epochs` full epochs: epochs/rho^3."""
    return epochs / rho**3


def ticket_selector(backbone: nn.Module, rho: float, *, blocks: Sequence[int] = BLOCKS) -> TokenHost:
    """g: a trained `backbone` that keeps, inside each of `blocks`, the patches its class token looks at most.

    EViT without its fused token. A keep rate of 1 has no stages and selects all patches.
    """
    counts = ticket_counts(rho, class_token_vit(backbone).patch_embed.num_patches, len(blocks))
    return prune_by_class_attention(backbone, counts, blocks=blocks).eval()


def quarters(depth: int) -> tuple[int, ...]:
    """Blocks at a quarter, half and three quarters of `depth`: 3, 6, 9 of twelve, 4, 8, 12 of sixteen.

    Raises WrongUse for fewer than four blocks.
    """
    if depth < 4:
        raise WrongUse(f"three stages need at least four blocks, not {depth}")
    return tuple(depth * quarter // 4 for quarter in (1, 2, 3))


class FixedRatio(nn.Module):
    """The control of equal cost: a ViT that is shown all patches and drops them on its own way (EViT).

    Built as a selector is, but trained for its logits. The keep rate holds from the first step on.
    """

    def __init__(self, backbone: nn.Module, rho: float) -> None:
        super().__init__()
        self.host = ticket_selector(backbone, rho, blocks=quarters(len(class_token_vit(backbone).blocks)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(batch, classes)`; dropped patches are gone in training, too."""
        return self.host(images).logits


@torch.no_grad()
def find_tickets(selector: TokenHost, images: Tensor) -> Tensor:
    """Omega_g(x) of `images (batch, channels, height, width)`: patch indices `(batch, k_3)`, ascending.

    The selector is put into evaluation mode and gets no gradients.
    """
    return last_kept(selector.eval()(images), len(images), selector.patches).to(images.device)


def last_kept(output: Output, batch: int, patches: int) -> Tensor:
    """Patches `(batch, k)`, ascending, that the last stage of a host has kept; all where no stage was.

    Raises WrongUse if images kept different numbers: tickets of a batch are equally large.
    """
    if not output.stages:
        return torch.arange(patches).repeat(batch, 1)
    keep = output.stages[-1].keep > 0
    counts = keep.sum(1)
    if (counts != counts[0]).any():
        raise WrongUse("images kept different numbers of patches: give the selector's stages a Count rule")
    return keep.nonzero()[:, 1].view(batch, -1)


def compose(gathers: Sequence[Tensor]) -> Tensor:
    """One index list `(batch, k_S)` that gathers what the nested lists `(batch, k_s)` gather in turn.

    Each list points into what the one before has left; the first into all patches.
    """
    result, *rest = gathers
    for inner in rest:
        result = result.gather(1, inner)
    return result


def random_gathers(
    batch: int, counts: Sequence[int], patches: int, generator: torch.Generator
) -> list[Tensor]:
    """Nested index lists `(batch, k)`, one for each of `counts`, drawn without replacement."""
    return [
        torch.rand(batch, before, generator=generator).argsort(1)[:, :count]
        for before, count in zip((patches, *counts), counts, strict=False)
    ]


def random_tickets(batch: int, counts: Sequence[int], patches: int, generator: torch.Generator) -> Tensor:
    """The control: `(batch, counts[-1])` patches, ascending, drawn in nested steps."""
    return compose(random_gathers(batch, counts, patches, generator)).sort(1).values


class FixedSlots:
    """The control's fixed variant: one random ticket per slot of the batch, drawn once for a whole training.

    Slots are not images: with shuffled data an image meets another mask in every epoch.
    """

    def __init__(self, slots: int, counts: Sequence[int], patches: int, generator: torch.Generator) -> None:
        self.tickets = random_tickets(slots, counts, patches, generator)

    def __call__(self, images: Tensor) -> Tensor:
        """Tickets of the first slots, one for each of `images`; WrongUse if there are more images."""
        if len(images) > len(self.tickets):
            raise WrongUse(f"{len(images)} images for {len(self.tickets)} slots: make slots the batch size")
        return self.tickets[: len(images)].to(images.device)


def uniformity(tickets: Tensor, patches: int) -> float:
    """p-value of the chi-square test that `tickets (draws, k)` are uniform over all subsets of that size."""
    draws, size = tickets.shape
    subsets = math.comb(patches, size)
    code = (2 ** tickets.long()).sum(1)
    counts = torch.unique(code, return_counts=True)[1].double()
    expected = draws / subsets
    # subsets that never came up add `expected` each
    statistic = ((counts - expected) ** 2 / expected).sum() + (subsets - len(counts)) * expected
    half_freedom = torch.tensor((subsets - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(half_freedom, statistic / 2))


class TicketViT(nn.Module):
    """A ViT trained and run on tickets: patches leave after position embedding, before block 0.

    The backbone is used as it is; without a ticket, and with all patches in their order, the logits are its
    own, bit for bit. Indices carry no width, so a selector of any width serves a student of any other.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = class_token_vit(backbone)

    def forward(
        self,
        images: Tensor,
        ticket: Tensor | None = None,
        *,
        execution: Literal["gathered", "masked"] = "gathered",
    ) -> Tensor:
        """Logits `(batch, classes)` of `images` restricted to the patches `ticket (batch, k)`.

        "masked" keeps the whole sequence and hides the other patches; it agrees up to rounding.
        """
        return self.backbone.forward_head(self.tokens(images, ticket, execution=execution))

    def tokens(
        self,
        images: Tensor,
        ticket: Tensor | None = None,
        *,
        execution: Literal["gathered", "masked"] = "gathered",
    ) -> Tensor:
        """Normalised tokens `(batch, 1 + k, dim)`: the class token, then the ticket's patches."""
        b = self.backbone
        x = embedded(b, images)
        kept, seen = None, None
        if ticket is not None:
            kept = self._places(ticket, len(images))
            if execution == "gathered":
                x = picked(x, kept)
            else:
                seen = x.new_zeros(x.shape[:2]).scatter(1, kept, 1.0)[:, None, None]
        for block in blocks_of(b):
            x = add_mlp(block, add_attention(block, x, attend(block.attn, block.norm1(x), seen)[0]))
        x = b.norm(x)
        return x if kept is None or seen is None else picked(x, kept)

    def _places(self, ticket: Tensor, batch: int) -> Tensor:
        """Places `(batch, prefix + k)` in the sequence of prefix tokens and ticket."""
        patches, prefix = self.backbone.patch_embed.num_patches, self.backbone.num_prefix_tokens
        if ticket.dim() != 2 or len(ticket) != batch or not 1 <= ticket.shape[1] <= patches:
            raise WrongUse(
                f"a ticket of shape {tuple(ticket.shape)} for {batch} images of {patches} patches: "
                "give one row of patch indices per image"
            )
        first = torch.arange(prefix, device=ticket.device).expand(batch, -1)
        return torch.cat((first, ticket + prefix), 1)


def picked(x: Tensor, places: Tensor) -> Tensor:
    """The tokens `(batch, k, dim)` of `x (batch, length, dim)` at `places (batch, k)`."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


class SwappedRoles:
    """Attention in which queries, keys and values change places (the "qkv-change" control).

    Args:
        roles: which projection asks, which answers and which is read; "kqv" lets keys ask and queries answer,
            "vkq" uses values in the score. "qkv" is ordinary attention.
    """

    def __init__(self, roles: str, scale: float) -> None:
        self.roles, self.scale = roles, scale

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor]:
        """As `lib.vit.attention.Core`."""
        named = {"q": q, "k": k, "v": v}
        asks, answers, read = (named[role] for role in self.roles)
        scores = asks * self.scale @ answers.transpose(-2, -1)
        weights = scores.softmax(-1) if seen is None else exact_weights(scores, seen, eps).to(read.dtype)
        return weights @ read, weights


def swap_roles(backbone: nn.Module, roles: str) -> nn.Module:
    """`backbone` itself, its attention changed to `roles` wherever a TokenHost or a TicketViT runs it.

    Raises WrongUse unless `roles` holds q, k and v once each.
    """
    if sorted(roles) != ["k", "q", "v"]:
        raise WrongUse(f"roles must hold q, k and v once each, not {roles!r}")
    for block in blocks_of(class_token_vit(backbone)):
        core = SwappedRoles(roles, block.attn.scale)
        block.attn.core = core  # type: ignore[assignment]
    return backbone
