"""Data-level lottery tickets: counts, tickets and controls, networks on tickets, and their costs."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.lab.backbones import _lv_vit, small_vit
from lib.vit.host import Output, StageTrace
from lib.vit.pixel_tickets import square_map
from lib.vit.ticket_costs import equal_rate, selector_gmacs, shapes_of_deit, ticket_cost, training_gmacs
from lib.vit.vit_data_lth import (
    FixedRatio,
    FixedSlots,
    TicketViT,
    compose,
    extended_epochs,
    find_tickets,
    last_kept,
    quarters,
    random_tickets,
    swap_roles,
    ticket_counts,
    ticket_selector,
    uniformity,
)
from tests.vit.parts import PATCHES, network, oblong, oblong_pictures, pictures


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_ticket(batch: int, patches: int = PATCHES, counts: tuple[int, ...] = (39, 31, 25)) -> Tensor:
    return random_tickets(batch, counts, patches, draws())


@pytest.mark.parametrize(
    ("rho", "chain"),
    [
        (1.0, (196, 196, 196)),
        (0.95, (187, 178, 170)),
        (0.9, (177, 160, 144)),
        (0.85, (167, 142, 121)),
        (0.8, (157, 126, 101)),
        (0.75, (147, 111, 84)),
    ],
)
def test_counts_of_the_official_keep_rates(rho: float, chain: tuple[int, ...]) -> None:
    assert ticket_counts(rho, 196) == chain


def test_counts_are_not_raised_by_rounding_in_floating_point() -> None:
    assert 0.07 * 100 > 7
    assert ticket_counts(0.07, 100, stages=1) == (7,)
    assert ticket_counts(0.001, 3) == (1, 1, 1)


@pytest.mark.parametrize("rho", [0.0, -0.5, 1.01])
def test_keep_rate_out_of_range_is_refused(rho: float) -> None:
    with pytest.raises(WrongUse, match="keep rate"):
        ticket_counts(rho, 49)


def test_extended_epochs_by_hand() -> None:
    assert extended_epochs(300, 0.5) == 2400
    assert extended_epochs(300, 0.8) == pytest.approx(585.9375)


def test_keep_rate_is_applied_three_times() -> None:
    assert ticket_counts(0.9, 196)[-1] / 196 == pytest.approx(0.735, abs=5e-4)
    assert ticket_counts(0.75, 196)[-1] / 196 == pytest.approx(0.429, abs=5e-4)


def test_composition_by_hand() -> None:
    first = torch.tensor([[5, 0, 3], [1, 2, 4]])
    second = torch.tensor([[2, 0], [1, 2]])
    third = torch.tensor([[1], [0]])
    assert compose([first, second]).tolist() == [[3, 5], [2, 4]]
    assert compose([first, second, third]).tolist() == [[5], [2]]


def test_nested_gathers_are_one_gather() -> None:
    values = torch.randn(3, 10, 4, generator=draws())
    left, gathers, nested = 10, [], values
    for count in (7, 5, 2):
        index = torch.rand(3, left, generator=draws(count)).argsort(1)[:, :count]
        gathers.append(index)
        nested = nested.gather(1, index[..., None].expand(-1, -1, 4))
        left = count
    once = values.gather(1, compose(gathers)[..., None].expand(-1, -1, 4))
    assert torch.equal(nested, once)


def test_ticket_is_what_the_last_stage_kept() -> None:
    selector = ticket_selector(network(), 0.78)
    images = pictures(4, selector.backbone)
    ticket = find_tickets(selector, images)
    keep = selector(images).stages[-1].keep
    assert ticket.shape == (4, 25)
    assert torch.equal(torch.zeros(4, PATCHES).scatter(1, ticket, 1.0), keep)
    assert (ticket.diff(dim=1) > 0).all()


def test_ticket_takes_the_patches_that_the_class_token_looks_at() -> None:
    # one stage inside block 0, whose attention is computed here by hand
    backbone = network()
    selector = ticket_selector(backbone, 0.2, blocks=(0,))
    images = pictures(2, backbone)
    x = backbone._pos_embed(backbone.patch_embed(images))
    attention = backbone.blocks[0].attn
    q, k, _ = attention.qkv(backbone.blocks[0].norm1(x)).view(2, 50, 3, 4, 16).permute(2, 0, 3, 1, 4)  # type: ignore[operator, union-attr]
    weights = (q @ k.transpose(-2, -1) / 4).softmax(-1)
    by_hand = weights[:, :, 0, 1:].mean(1).topk(10).indices.sort(1).values
    assert torch.equal(find_tickets(selector, images), by_hand)


def test_selector_gets_no_gradient_and_stays_in_evaluation_mode() -> None:
    selector = ticket_selector(network(), 0.78).train()
    images = pictures(2, selector.backbone).requires_grad_()
    ticket = find_tickets(selector, images)
    assert not selector.training
    assert not ticket.requires_grad
    assert all(parameter.grad is None for parameter in selector.parameters())


def test_keep_rate_of_one_selects_all_patches_in_order() -> None:
    selector = ticket_selector(network(), 1.0)
    assert not selector.ordered
    assert find_tickets(selector, pictures(2, selector.backbone)).tolist() == [list(range(49))] * 2


def test_images_that_kept_different_numbers_form_no_ticket() -> None:
    keep = torch.tensor([[1.0, 1, 0], [1, 0, 0]])
    output = Output(torch.zeros(2, 2), [StageTrace(keep, keep)])
    with pytest.raises(WrongUse, match="different numbers"):
        last_kept(output, 2, 3)


def test_random_tickets_are_subsets_that_differ_from_image_to_image() -> None:
    ticket = some_ticket(8)
    assert ticket.shape == (8, 25)
    assert (ticket.diff(dim=1) > 0).all()
    assert ticket.min() >= 0
    assert ticket.max() < PATCHES
    assert len(torch.unique(ticket, dim=0)) == 8
    assert torch.equal(ticket, some_ticket(8))


def test_random_tickets_are_uniform_and_the_test_sees_bias() -> None:
    fair = random_tickets(4000, (5, 4, 3), 6, draws())
    assert uniformity(fair, 6) > 1e-3
    biased = fair.clone()
    biased[:400] = torch.tensor([0, 1, 2])
    assert uniformity(biased, 6) < 1e-9
    # a ticket that never occurs must count as well
    assert uniformity(fair[(fair != torch.tensor([0, 1, 2])).any(1)], 6) < 1e-9


def test_uniformity_by_hand() -> None:
    # counts 3 and 1 of two subsets: chi-square 1 at one degree of freedom
    ticket = torch.tensor([[0], [0], [0], [1]])
    assert uniformity(ticket, 2) == pytest.approx(0.3173, abs=1e-4)


def test_fixed_slots_keep_their_mask_while_images_change_slots() -> None:
    slots = FixedSlots(8, (39, 31, 25), PATCHES, draws())
    images = torch.zeros(8, 1, 28, 28)
    assert torch.equal(slots(images), slots(images))
    assert torch.equal(slots(images[:3]), slots(images)[:3])
    # two epochs in shuffled order: few images of 800 return to the mask they had
    place = [torch.randperm(800, generator=draws(epoch)) % 8 for epoch in range(2)]
    masks = [slots.tickets[slot] for slot in place]
    changed = (masks[0] != masks[1]).any(1).double().mean()
    assert 0.8 < changed < 0.95
    with pytest.raises(WrongUse, match="9 images for 8 slots"):
        slots(torch.zeros(9, 1, 28, 28))


@pytest.mark.parametrize("name", ["small", "lv"])
def test_all_patches_in_order_are_the_backbone_bit_for_bit(name: str) -> None:
    backbone = network(name)
    images = pictures(2, backbone)
    model = TicketViT(backbone).eval()
    everything = torch.arange(backbone.patch_embed.num_patches).expand(2, -1)
    with torch.no_grad():
        logits = backbone(images)
        assert torch.equal(model(images), logits)
        assert torch.equal(model(images, everything), logits)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["small", "lv"])
def test_masked_equals_gathered(name: str, batch: int) -> None:
    backbone = network(name)
    images = pictures(batch, backbone)
    ticket = some_ticket(batch, backbone.patch_embed.num_patches, (30, 20, 11))
    model = TicketViT(backbone).eval()
    with torch.no_grad():
        gathered, masked = model(images, ticket), model(images, ticket, execution="masked")
    torch.testing.assert_close(gathered, masked, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(gathered, backbone(images), atol=1e-3)


def test_order_of_the_ticket_does_not_matter() -> None:
    backbone = network()
    images, ticket = pictures(2, backbone), some_ticket(2)
    model = TicketViT(backbone).eval()
    torch.testing.assert_close(model(images, ticket), model(images, ticket.flip(1)), rtol=1e-4, atol=1e-4)


def test_pixels_outside_the_ticket_are_never_seen() -> None:
    # with a stem of overlapping convolutions neighbours leak into a patch; a plain projection has none
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    backbone = VisionTransformer(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=3)
    model = TicketViT(backbone).eval()
    image = torch.randn(1, 3, 16, 16, generator=draws())
    other = image.clone()
    other[..., :8, :8] = 9.0  # patches 0, 1, 4, 5
    ticket = torch.tensor([[2, 3, 6, 10, 15]])
    assert torch.equal(model(image, ticket), model(other, ticket))
    assert not torch.equal(model(image), model(other))


def test_gradients_reach_every_parameter_and_the_position_of_kept_patches_only() -> None:
    backbone = network("lv")
    ticket = torch.tensor([[3, 50, 120, 195]])
    TicketViT(backbone).train()(pictures(1, backbone), ticket).square().sum().backward()
    missing = [name for name, parameter in backbone.named_parameters() if parameter.grad is None]
    assert not missing
    gradient = dict(backbone.named_parameters())["pos_embed"].grad
    assert gradient is not None
    moved = gradient[0].abs().sum(1).nonzero().squeeze(1).tolist()
    assert moved == [0, 4, 51, 121, 196]


def test_ticket_of_one_patch_and_of_a_selector_of_another_width() -> None:
    narrow = small_vit(dim=32)
    ticket = find_tickets(ticket_selector(narrow, 0.1), pictures(2, network()))
    assert ticket.shape == (2, 1)
    assert TicketViT(network())(pictures(2, network()), ticket).shape == (2, 10)


@pytest.mark.parametrize("shape", [(3, 5), (2, 0), (2, 50), (10,)])
def test_tickets_that_do_not_fit_the_images_are_refused(shape: tuple[int, ...]) -> None:
    backbone = network()
    with pytest.raises(WrongUse, match="one row of patch indices per image"):
        TicketViT(backbone)(pictures(2, backbone), torch.zeros(shape, dtype=torch.long))


def test_sides_that_patches_do_not_divide() -> None:
    backbone, images = oblong(), oblong_pictures(3)
    selector = ticket_selector(backbone, 0.8, blocks=(1, 2))
    ticket = find_tickets(selector, images)
    assert ticket.shape == (3, 10)
    assert TicketViT(backbone)(images, ticket).shape == (3, 1000)


def test_token_maps_of_lv_vit_are_square_at_the_rate_it_uses() -> None:
    torch.manual_seed(0)
    model = TicketViT(_lv_vit(10, 32, 2, 4)).eval()
    ticket = some_ticket(1, 196, ticket_counts(0.85, 196))
    tokens = model.tokens(torch.randn(1, 3, 224, 224, generator=draws()), ticket)
    auxiliary = model.backbone.aux_head(tokens[:, 1:])  # type: ignore[operator]
    assert square_map(auxiliary).shape == (1, 10, 11, 11)
    assert torch.equal(square_map(auxiliary)[0, :, 2, 3], auxiliary[0, 2 * 11 + 3])


def exchanged(backbone: nn.Module, order: str) -> nn.Module:
    """A copy whose projections of queries, keys and values stand in another order."""
    result = copy.deepcopy(backbone)
    for block in result.blocks:  # type: ignore[union-attr]
        for part in (block.attn.qkv.weight, block.attn.qkv.bias):
            named = dict(zip("qkv", part.data.chunk(3), strict=True))
            part.data = torch.cat([named[role] for role in order])
    return result


def test_exchanging_queries_and_keys_is_the_same_family_of_networks() -> None:
    # asks with keys, answers with queries: the unswapped network with the two projections exchanged
    images, ticket = pictures(2, network()), some_ticket(2)
    swapped = TicketViT(swap_roles(network(), "kqv")).eval()
    plain = TicketViT(exchanged(network(), "kqv")).eval()
    torch.testing.assert_close(swapped(images, ticket), plain(images, ticket), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(swapped(images, ticket), TicketViT(network()).eval()(images, ticket), atol=1e-2)


def test_swapped_roles_train_and_agree_masked() -> None:
    model = TicketViT(swap_roles(network(), "vkq"))
    images, ticket = pictures(2, network()), some_ticket(2)
    model.train()(images, ticket).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if name.endswith("qkv.weight")}
    assert len(gradients) == 12
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())
    model.eval()
    torch.testing.assert_close(
        model(images, ticket), model(images, ticket, execution="masked"), rtol=1e-4, atol=1e-4
    )


def test_ordinary_roles_change_nothing_but_rounding() -> None:
    images = pictures(1, network())
    swapped = TicketViT(swap_roles(network(), "qkv")).eval()
    torch.testing.assert_close(swapped(images), network()(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("roles", ["qk", "qqv", "abc"])
def test_impossible_roles_are_refused(roles: str) -> None:
    with pytest.raises(WrongUse, match="q, k and v once each"):
        swap_roles(network(), roles)


def test_cost_of_a_ticket_by_hand() -> None:
    # DeiT-S: 12 blocks of 12 N D^2 + 2 N^2 D, embedding 196 x 768 x D, head D x 1000
    n, d = 102, 384
    blocks = 12 * (12 * n * d**2 + 2 * n**2 * d)
    cost = ticket_cost(shapes_of_deit("s"), 0.8, torch.zeros(1, 3, 224, 224))
    assert cost.patches == 101
    assert cost.blocks * 1e9 == pytest.approx(blocks)
    assert cost.whole * 1e9 == pytest.approx(blocks + 196 * 768 * d + d * 1000)


def test_dropping_at_the_input_is_cheaper_than_on_the_way() -> None:
    backbone, image = network(), torch.zeros(1, 1, 28, 28)
    ticket, staged = ticket_cost(backbone, 0.8, image), selector_gmacs(backbone, 0.8, image)
    dense = ticket_cost(backbone, 1.0, image)
    assert ticket.whole < staged < dense.whole
    assert selector_gmacs(backbone, 1.0, image) == pytest.approx(dense.whole)


def test_stages_sit_at_quarters_of_the_depth() -> None:
    assert quarters(12) == (3, 6, 9)
    assert quarters(16) == (4, 8, 12)
    assert quarters(6) == (1, 3, 4)
    with pytest.raises(WrongUse, match="at least four blocks"):
        quarters(3)


@pytest.mark.parametrize("batch", [1, 3])
def test_fixed_ratio_keeps_by_its_own_class_attention_and_drops_nothing_at_one(batch: int) -> None:
    backbone = network()
    images = pictures(batch, backbone)
    whole, half = FixedRatio(backbone, 1.0).eval(), FixedRatio(backbone, 0.5).eval()
    with torch.no_grad():
        assert torch.equal(whole(images), backbone(images))
        assert not torch.allclose(half(images), backbone(images), atol=1e-3)
    kept = [int(stage.keep.sum(1)[0]) for stage in half.host(images).stages]
    assert kept == [25, 13, 7]


def test_fixed_ratio_trains_every_tensor_with_patches_gone() -> None:
    model = FixedRatio(network(), 0.5).train()
    model(pictures(2, network())).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_equal_rate_is_the_nearest_in_hundredths() -> None:
    backbone, image = network(), torch.zeros(1, 1, 28, 28)
    gmacs = {percent: selector_gmacs(backbone, percent / 100, image) for percent in range(60, 71)}
    wanted = ticket_cost(backbone, 0.8, image).whole
    rate, ratio = equal_rate(backbone, wanted, image)
    assert ratio == pytest.approx(selector_gmacs(backbone, rate, image) / wanted)
    assert abs(ratio - 1) <= min(abs(cost / wanted - 1) for cost in gmacs.values())
    assert equal_rate(backbone, 2 * selector_gmacs(backbone, 1.0, image), image) == (1.0, 0.5)


def test_training_costs_three_passes_and_the_selectors_one() -> None:
    assert training_gmacs(2.0) == 6.0
    assert training_gmacs(2.0, 3.5) == 9.5
