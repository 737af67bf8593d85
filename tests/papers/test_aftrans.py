"""AFTrans: identity, sharing, gradients, logarithms, scores by hand, odd grids, and the planted object."""

import copy

import pytest
import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.finegrained import audit
from lib.finegrained.aftrans import (
    AFTrans,
    LayerGate,
    Settings,
    TwoLooks,
    log_products,
    loss,
    normalised,
    objective,
    patch_scores,
    squeezed,
)
from lib.finegrained.overlap import overlapping_vit
from lib.finegrained.regions import threshold
from lib.lab.backbones import build
from tests.vit.parts import network, pictures

LABELS = torch.tensor([0, 1, 2])


def model(settings: Settings | None = None) -> AFTrans:
    torch.manual_seed(0)
    return AFTrans(network(), settings).eval()


def images(batch: int = 3) -> Tensor:
    return pictures(batch, network())


def overlapping(image: int = 35, stride: int = 6) -> AFTrans:
    """A ViT of 5x5 patches of 8 pixels that overlap and do not reach the edge."""
    torch.manual_seed(0)
    vit = overlapping_vit(
        image, stride, patch_size=8, in_chans=1, embed_dim=16, depth=4, num_heads=2, num_classes=3
    )
    return AFTrans(vit, stride=stride).eval()


def test_the_global_branch_is_the_backbone_bit_for_bit() -> None:
    aftrans, x = model(), images()
    assert torch.equal(aftrans(x), network()(x))
    assert torch.equal(aftrans.scales(x).whole, network()(x))


def test_training_with_beta_zero_is_training_the_backbone_bit_for_bit() -> None:
    aftrans = overlapping().train()
    plain = copy.deepcopy(aftrans.backbone)
    x = torch.randn(3, 1, 35, 35)
    loss(aftrans, x, LABELS, beta=0.0).backward()
    torch.nn.functional.cross_entropy(plain(x), LABELS).backward()
    mine = dict(aftrans.backbone.named_parameters())
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(mine[name].grad, parameter.grad), name  # type: ignore[arg-type]
    assert aftrans.local_cls_token.grad is None


def test_training_leaves_the_statistics_of_batch_normalisation() -> None:
    aftrans = model().train()
    before = {name: value.clone() for name, value in aftrans.named_buffers()}
    assert any("running_mean" in name for name in before)
    loss(aftrans, images(), LABELS)
    assert all(torch.equal(value, before[name]) for name, value in aftrans.named_buffers())


def test_only_a_sum_over_layers_lets_the_gate_matter() -> None:
    """Other merges that the figure would allow: a product, and the union of masks of single layers."""
    generator = torch.Generator().manual_seed(0)
    rows, gates = (torch.rand(*shape, generator=generator) for shape in ((50, 12, 49), (50, 12, 1)))
    gated = gates * rows
    assert torch.equal(threshold(gated.log().sum(1).exp(), 1.0), threshold(rows.log().sum(1).exp(), 1.0))
    union = [threshold(maps.flatten(0, 1), 1.0).view(maps.shape).any(1) for maps in (gated, rows)]
    assert torch.equal(*union)
    assert not torch.equal(threshold(gated.sum(1), 1.0), threshold(rows.sum(1), 1.0))


def test_before_training_the_second_look_at_the_whole_image_is_the_first() -> None:
    aftrans, x = model(), images()
    torch.testing.assert_close(aftrans.look_again(x), aftrans(x), rtol=0, atol=0)


def test_the_local_token_and_table_are_used_by_the_second_look_only() -> None:
    aftrans, x = model(), images()
    before, local = aftrans(x), aftrans.look_again(x)
    with torch.no_grad():
        aftrans.local_cls_token.add_(1.0)
        aftrans.local_pos_embed.add_(0.3)
    assert torch.equal(aftrans(x), before)
    assert not torch.equal(aftrans.look_again(x), local)


def test_exactly_two_class_tokens_and_two_position_tables_differ_between_scales() -> None:
    reach = audit.reach(model(), images(), LABELS)
    assert reach.whole == {"backbone.cls_token", "backbone.pos_embed"}
    assert reach.part == {"local_cls_token", "local_pos_embed"}
    assert len(reach.both) == len(list(network().parameters())) - 2


def test_the_gate_gets_no_gradient_although_the_scores_depend_on_it() -> None:
    from_losses, from_scores = audit.gate_gradients(model(), images(), LABELS)
    assert from_losses == 0
    assert from_scores > 0


def test_straight_through_teaches_the_gate_and_changes_no_value() -> None:
    x, settings = images(), Settings(squeeze="log")
    plain, taught = model(settings), model(Settings(squeeze="log", straight_through=True))
    assert torch.equal(plain.scales(x).part, taught.scales(x).part)
    assert audit.gate_gradients(taught, x, LABELS)[0] > 0


def test_every_other_part_is_taught() -> None:
    aftrans = model().train()
    loss(aftrans, images(), LABELS).backward()
    untaught = [
        name
        for name, parameter in aftrans.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.abs().sum() > 0)
    ]
    assert untaught == ["gate.w1.weight", "gate.w2.weight"]


def test_a_gradient_of_zeros_is_no_gradient() -> None:
    aftrans = model()
    with torch.no_grad():
        aftrans.backbone.blocks[2].mlp.fc2.weight.zero_()  # type: ignore[union-attr,operator]
    reach = audit.reach(aftrans, images(), LABELS)
    lost = {
        f"backbone.blocks.2.{part}"
        for part in ("norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias")
    }
    everything = {name for name, _ in aftrans.backbone.named_parameters(prefix="backbone")}
    assert reach.both == everything - lost - {"backbone.cls_token", "backbone.pos_embed"}


def test_loss_weighs_both_scales() -> None:
    aftrans, x = model(), images()
    both = loss(aftrans, x, LABELS, alpha=2.0, beta=3.0)
    whole = loss(aftrans, x, LABELS, alpha=1.0, beta=0.0)
    scales = aftrans.scales(x)
    part = torch.nn.functional.cross_entropy(scales.part, LABELS)
    torch.testing.assert_close(both, 2 * whole + 3 * part)
    in_fit = objective(aftrans, 2.0, 3.0, torch.Generator())(x, LABELS, LABELS, 0.0)
    torch.testing.assert_close(in_fit, both)


def test_predictions_are_global_local_or_their_sum() -> None:
    aftrans, x = model(), images()
    parts = [aftrans(x, predict=which) for which in ("global", "local", "sum")]
    torch.testing.assert_close(parts[0] + parts[1], parts[2])
    assert torch.equal(TwoLooks(aftrans)(x), parts[2])


def test_products_of_heads_by_hand() -> None:
    # softmax of logarithms of probabilities gives these back
    heads = torch.tensor([[[0.5, 0.5], [0.2, 0.8]], [[0.1, 0.9], [0.5, 0.5]]])
    product = log_products(heads.log()[None]).exp()[0]
    torch.testing.assert_close(product, torch.tensor([[0.05, 0.45], [0.10, 0.40]]))


def test_logarithms_survive_what_softmax_loses() -> None:
    scores = torch.tensor([[[[0.0, -200.0], [0.0, 0.0]]]]).expand(1, 12, 2, 2)
    assert scores.softmax(-1).prod(1)[0, 0, 1] == 0
    assert log_products(scores)[0, 0, 1].item() == pytest.approx(-2400)


def test_one_head_near_zero_vetoes_a_patch() -> None:
    scores = torch.zeros(1, 4, 3, 3)
    scores[0, 2, :, 2] = -30.0
    log_g = log_products(scores)[:, None]
    g = patch_scores(log_g, torch.ones(1, 1))[0]
    assert g[1] < 1e-9 * g[0]


def test_scores_by_hand_leave_out_the_class_token() -> None:
    # two layers, two patches; the class token's own entry is the largest of each map
    maps = torch.tensor([[[0.8, 0.4, 0.2]] + [[0.1] * 3] * 2, [[0.5, 0.1, 0.25]] + [[0.1] * 3] * 2])[None]
    gates = torch.tensor([[0.5, 1.0]])
    # 0.5 x (0.4, 0.2) / 0.8 + (0.1, 0.25) / 0.5
    torch.testing.assert_close(patch_scores(maps.log(), gates), torch.tensor([[0.45, 0.625]]))
    torch.testing.assert_close(squeezed(maps.log(), "mean"), normalised(maps.log()).mean((-2, -1)))


def test_squeezed_logarithms_are_standardised_over_layers() -> None:
    log_g = torch.randn(3, 12, 5, 5)
    z = squeezed(log_g, "log")
    torch.testing.assert_close(z.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(1), torch.ones(3))
    assert squeezed(torch.zeros(1, 12, 5, 5), "log").abs().max() == 0


def test_gate_by_hand_and_asleep() -> None:
    gate = LayerGate(4, 2)
    with torch.no_grad():
        gate.w1.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, -1.0, 0, 0]]))
        gate.w2.weight.copy_(torch.tensor([[2.0, 0], [0, 1.0], [-2.0, 0], [0, 0]]))
    expected = torch.tensor([[2.0, 0.0, -2.0, 0.0]]).sigmoid()
    torch.testing.assert_close(gate(torch.tensor([[1.0, 1.0, 9.0, 9.0]])), expected)
    assert (gate(torch.zeros(1, 4)) == 0.5).all()


@pytest.mark.parametrize(("reduction", "weights"), [(4, 72), (1, 288)])
def test_gate_has_the_stated_weights(reduction: int, weights: int) -> None:
    assert sum(parameter.numel() for parameter in LayerGate(12, reduction).parameters()) == weights


def test_flat_attention_underflows_as_computed() -> None:
    assert audit.flat_product(785, 12, torch.float32) == pytest.approx(785.0**-12, rel=1e-5)
    assert audit.flat_product(1370, 12, torch.float32) < 2 * torch.finfo(torch.float32).tiny
    assert audit.flat_product(785, 12, torch.float16) == 0
    limit = audit.vanishing_mean(12, torch.float16)
    assert audit.flat_product(4, 12, torch.float16) > 0  # a mean of 0.25
    assert 0.23 < limit < 0.25


def test_plain_products_put_the_gate_to_sleep() -> None:
    aftrans = model()
    assert aftrans.gate is not None
    found = audit.underflow(aftrans.backbone, aftrans.gate, images(), torch.float32)
    assert found.gate_offset < 1e-3
    assert audit.underflow(aftrans.backbone, aftrans.gate, images(), torch.float16).zeros > found.zeros


def test_neither_scale_nor_order_of_heads_matters() -> None:
    logits = torch.randn(5, 12, 4, 50, 50, generator=torch.Generator().manual_seed(0))
    assert audit.scale_and_order_matter(model(), logits) == (0, 0)


def test_a_planted_square_is_in_the_box_at_both_strides() -> None:
    assert audit.planted_squares(1.0, [(48, 8, 8), (50, 8, 6)]) == (1.0, 0)


@pytest.mark.parametrize("batch", [1, 4])
def test_overlapping_patches_and_a_batch_of_one(batch: int) -> None:
    aftrans = overlapping()
    x = torch.randn(batch, 1, 35, 35)
    scales = aftrans.scales(x)
    assert torch.equal(scales.whole, aftrans.backbone(x))
    assert scales.part.shape == (batch, 3)
    assert scales.collected.scores.shape == (batch, 25)
    assert (scales.collected.boxes <= 35).all()


def test_images_of_a_batch_do_not_meet() -> None:
    aftrans, x = model(), images()
    together, alone = aftrans.scales(x), aftrans.scales(x[1:2])
    torch.testing.assert_close(together.part[1:2], alone.part)
    assert torch.equal(together.collected.boxes[1:2], alone.collected.boxes)


def test_random_regions_come_from_their_generator_and_have_equal_size() -> None:
    x, attention, blind = images(), model(), model(Settings(where="random"))
    boxes = [blind.scales(x, torch.Generator().manual_seed(5)).collected.boxes for _ in range(2)]
    assert torch.equal(*boxes)
    chosen = attention.scales(x).collected.boxes
    assert torch.equal(boxes[0][:, 2:] - boxes[0][:, :2], chosen[:, 2:] - chosen[:, :2])


def test_equal_layer_weights_have_no_gate() -> None:
    uniform = model(Settings(gated=False))
    assert uniform.gate is None
    assert (uniform.scales(images()).collected.gates == 1).all()


def test_a_copy_is_independent() -> None:
    aftrans = model()
    other = copy.deepcopy(aftrans)
    with torch.no_grad():
        other.local_cls_token.add_(1.0)
    assert not torch.equal(aftrans.local_cls_token, other.local_cls_token)


def test_network_without_class_token_is_refused() -> None:
    with pytest.raises(WrongUse, match="class token"):
        AFTrans(build("swin_t"))


def test_a_stride_that_is_not_the_backbones_is_refused() -> None:
    with pytest.raises(WrongUse, match=r"stride 3 gives 9x9 patches, but the backbone has 7x7"):
        AFTrans(network(), stride=3)


@pytest.mark.parametrize("reduction", [0, 13])
def test_a_reduction_that_leaves_nothing_is_refused(reduction: int) -> None:
    with pytest.raises(WrongUse, match="choose from 1 to 12"):
        LayerGate(12, reduction)
