"""Attention that does not see dropped tokens, in batches of unequal images, with a look inside."""

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.vit.attention import Connections, attend, attend_rows, exact_weights
from lib.vit.host import blocks_of
from lib.vit.tokens import Rows
from tests.vit.parts import network

if TYPE_CHECKING:
    from timm.layers import Attention


@pytest.fixture(params=["small", "lv"])
def attention(request: pytest.FixtureRequest) -> "Attention":
    return blocks_of(network(request.param))[0].attn


def masked_attention(attention: "Attention", x: Tensor, policy: Tensor, eps: float) -> Tensor:
    """Output under G: 1 for oneself, the policy for others."""
    own = torch.eye(x.shape[1])
    return attend(attention, x, policy[:, None, None, :] * (1 - own) + own, eps)[0]


def sequence(attention: "Attention", batch: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, length, attention.qkv.in_features, generator=generator)


def ragged(attention: "Attention") -> tuple[Tensor, Rows]:
    """Three images of four tokens, of which 4, 2 and 3 are left."""
    x = sequence(attention, 3, 4)
    keep = torch.tensor([True] * 5 + [False] * 2 + [True] * 4 + [False])
    return x, Rows.of(x, 1).kept(keep, x.new_zeros(3, x.shape[2]), torch.zeros(3, dtype=torch.bool))


def weights_by_hand(attention: "Attention", x: Tensor) -> Tensor:
    """Softmax attention `(batch, heads, length, length)`, written out."""
    batch, length, _ = x.shape
    q, k, _ = attention.qkv(x).view(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)


def test_attention_with_a_look_inside_is_timms_bit_for_bit(attention: "Attention") -> None:
    x = sequence(attention, 2, 9)
    with torch.inference_mode():
        assert torch.equal(attend(attention, x)[0], attention(x))


@pytest.mark.parametrize("masked", [True, False])
def test_look_inside_is_the_attention_that_was_computed(attention: "Attention", masked: bool) -> None:
    x = sequence(attention, 2, 5)
    with torch.inference_mode():
        _, group = attend(attention, x, torch.ones(2, 1, 5, 5) if masked else None)
        weights = weights_by_hand(attention, x)
        torch.testing.assert_close(group.class_attention(), weights[:, :, 0])
        torch.testing.assert_close(group.mean(), weights.mean(1))
        v = attention.qkv(x).view(2, 5, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)[2]
        torch.testing.assert_close(group.context, weights @ v)


def test_view_of_unequal_images_is_that_of_each_alone(attention: "Attention") -> None:
    _, rows = ragged(attention)
    with torch.inference_mode():
        attended = attend_rows(attention, rows.values, rows)
        view = attended.view(torch.arange(9))
        grid = attended.on_grid(rows.image, rows.position, 3, 3)
        for image, part in enumerate(rows.values.split(list(rows.lengths))):
            mine = rows.image == image
            weights = weights_by_hand(attention, part[None])[0]
            torch.testing.assert_close(view.class_attention[mine], weights[:, 0].T, rtol=1e-4, atol=1e-5)
            place = rows.position[mine][1:]
            expected = torch.zeros(3, 3)
            expected[place[:, None], place[None]] = weights.mean(0)[1:, 1:]
            torch.testing.assert_close(grid[image], expected, rtol=1e-4, atol=1e-5)


def test_exact_weights_by_hand() -> None:
    scores = torch.tensor([[[[0.0, torch.log(torch.tensor(2.0)), 5.0]]]])
    seen = torch.tensor([1.0, 1.0, 0.0])
    # exponentials 1, 2 and (unseen) none: shares 1/3, 2/3, 0
    torch.testing.assert_close(exact_weights(scores, seen, 0.0)[0, 0, 0], torch.tensor([1 / 3, 2 / 3, 0.0]))
    assert exact_weights(scores, seen, 1.0).sum() == pytest.approx(1.0)


def test_connections_place_patches_and_leave_other_tokens_free() -> None:
    mask = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    # class token, patch 1, patch 0, package
    factor = Connections.among(mask).factor(torch.tensor([0]), torch.tensor([[-1, 1, 0, -1]]))
    assert factor[0, 0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 1]]


def test_connections_hide_patches_from_each_other(attention: "Attention") -> None:
    x = sequence(attention, 1, 4)
    rows = Rows.of(x, 1)
    mask = torch.eye(3)[None]
    with torch.inference_mode():
        out = attend_rows(attention, rows.values, rows, Connections.among(mask)).out
        for patch in range(3):
            pair = attend(attention, x[:, [0, 1 + patch]])[0][0, 1]
            torch.testing.assert_close(out[1 + patch], pair, rtol=1e-4, atol=1e-5)


def test_core_of_a_module_is_what_computes(attention: "Attention") -> None:
    def average(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
        weights = F.normalize(torch.ones(*q.shape[:3], k.shape[2]), p=1, dim=-1)
        return weights @ v, weights

    attention.core = average  # type: ignore[assignment]
    x, rows = ragged(attention)
    with torch.inference_mode():
        _, group = attend(attention, x)
        assert torch.equal(group.class_attention(), torch.full((3, attention.num_heads, 4), 0.25))
        attended = attend_rows(attention, rows.values, rows)
    assert attended.view(torch.arange(9)).class_attention[4:6].tolist() == [[0.5] * attention.num_heads] * 2


def test_masked_attention_with_all_tokens_is_attention(attention: "Attention") -> None:
    x = sequence(attention, 2, 9)
    with torch.inference_mode():
        torch.testing.assert_close(masked_attention(attention, x, torch.ones(2, 9), 0.0), attention(x))


def test_masked_attention_is_attention_on_the_shortened_sequence(attention: "Attention") -> None:
    x = sequence(attention, 1, 9)
    policy = torch.tensor([[1.0, 1, 0, 1, 0, 0, 1, 1, 1]])
    kept = policy[0] > 0
    with torch.inference_mode():
        masked = masked_attention(attention, x, policy, 0.0)[:, kept]
        torch.testing.assert_close(masked, attention(x[:, kept]), rtol=1e-4, atol=1e-5)


def test_dropped_rows_do_not_influence_kept_rows(attention: "Attention") -> None:
    x = sequence(attention, 1, 9)
    policy = torch.tensor([[1.0, 1, 0, 1, 0, 0, 1, 1, 1]])
    kept = policy[0] > 0
    other = torch.where(kept[None, :, None], x, torch.full_like(x, 3.0))
    with torch.inference_mode():
        before = masked_attention(attention, x, policy, 0.0)
        after = masked_attention(attention, other, policy, 0.0)
    torch.testing.assert_close(after[:, kept], before[:, kept], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(after[:, ~kept], before[:, ~kept])


def test_eps_spreads_a_little_weight_over_dropped_tokens(attention: "Attention") -> None:
    x = sequence(attention, 1, 9)
    policy = torch.tensor([[1.0, 1, 0, 1, 0, 0, 1, 1, 1]])
    with torch.inference_mode():
        none, some = (masked_attention(attention, x, policy, eps) for eps in (0.0, 0.1))
        small = masked_attention(attention, x, policy, 1.0e-6)
    assert not torch.allclose(none, some)
    torch.testing.assert_close(small, none, rtol=1e-3, atol=1e-4)


def test_ragged_attention_is_attention_image_by_image(attention: "Attention") -> None:
    _, rows = ragged(attention)
    assert rows.lengths == (4, 2, 3)
    with torch.inference_mode():
        together = attend_rows(attention, rows.values, rows).out
        alone = torch.cat([attention(part[None])[0] for part in rows.values.split(list(rows.lengths))])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
