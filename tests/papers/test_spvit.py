"""SPViT against its sources: parameter counts, the form of the selector, the losses, and wrong use."""

import pytest
import torch
from torch import Tensor

from lib.errors import WrongUse
from lib.lab.backbones import build, parameters
from lib.vit import spvit
from lib.vit.dynamicvit import Predictor
from lib.vit.host import Output, StageTrace
from lib.vit.selectors import Candidates, Count, Threshold
from tests.vit.parts import PATCHES, network, pictures

TARGETS = (0.7, 0.49, 0.343)


def candidates(batch: int, tokens: int, dim: int, weight: Tensor | None = None) -> Candidates:
    """Random candidates of `batch` images of `tokens` patches."""
    values = torch.randn(batch * tokens, dim, generator=torch.Generator().manual_seed(0))
    image = torch.arange(batch).repeat_interleave(tokens)
    position = torch.arange(tokens).repeat(batch)
    return Candidates(
        values, torch.ones(batch * tokens) if weight is None else weight, image, position, batch, tokens, None
    )


def test_deit_s_with_three_selectors_has_the_logged_parameters() -> None:
    host = spvit.prune(build("deit_s"), TARGETS, head_attention=False)
    assert parameters(host) == 22_071_454


def test_lv_vit_s_with_three_selectors_has_the_logged_parameters() -> None:
    host = spvit.prune(build("lv_vit_s"), TARGETS, blocks=(4, 8, 12), head_attention=False)
    assert parameters(host) == 26_172_614


def test_deit_s_with_three_dynamicvit_predictors_has_the_logged_parameters() -> None:
    assert parameters(build("deit_s")) + 3 * parameters(Predictor(384)) == 22_774_414


def test_selector_parameters_by_hand() -> None:
    # LayerNorm 128, 64x64+64, 64x32+32, 32x16+16, 16x2+2
    by_hand = 128 + 64 * 64 + 64 + 64 * 32 + 32 + 32 * 16 + 16 + 16 * 2 + 2
    assert parameters(spvit.AttentionSelector(384, 6, head_attention=False)) == by_hand == 6_930
    # the head branch: 6x3+3 and 3x6+6
    assert parameters(spvit.AttentionSelector(384, 6)) == by_hand + 45
    assert parameters(spvit.AttentionSelector(384, 6, share_heads=False, head_attention=False)) == 6 * by_hand


def test_predictor_parameters_are_those_of_the_sheet() -> None:
    assert parameters(Predictor(384)) == 241_250


@pytest.mark.parametrize("share_heads", [True, False])
@pytest.mark.parametrize("head_attention", [True, False])
def test_scores_are_probabilities_one_per_token(share_heads: bool, head_attention: bool) -> None:
    torch.manual_seed(0)
    selector = spvit.AttentionSelector(64, 4, share_heads=share_heads, head_attention=head_attention)
    scores = selector(candidates(3, 7, 64))
    assert scores.shape == (21,)
    assert ((scores > 0) & (scores < 1)).all()


def test_selector_follows_the_equations_head_by_head() -> None:
    torch.manual_seed(0)
    selector = spvit.AttentionSelector(16, 2, share_heads=False)
    weight = torch.tensor([1.0, 0.0, 1.0])
    c = candidates(1, 3, 16, weight)
    assert selector.head_attention is not None
    heads = []
    for i in range(2):
        u = selector.embed[i](c.values[:, 8 * i : 8 * (i + 1)])
        local, shared = u[:, :4], u[:, 4:]
        e = torch.cat((local, ((shared[0] + shared[2]) / 2).expand(3, 4)), 1)
        heads.append(selector.classify[i](e).softmax(-1)[:, 0])
    a = selector.head_attention(torch.stack((c.values[:, :8].mean(1), c.values[:, 8:].mean(1)), 1))
    fused = (a[:, 0] * heads[0] + a[:, 1] * heads[1]) / (a[:, 0] + a[:, 1])
    torch.testing.assert_close(selector(c), fused)


@pytest.mark.parametrize("make", [lambda: spvit.AttentionSelector(16, 2), lambda: Predictor(16)])
def test_dropped_tokens_do_not_change_the_scores_of_others(make: object) -> None:
    torch.manual_seed(0)
    selector = make()  # type: ignore[operator]
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0])
    before = candidates(1, 4, 16, weight)
    values = before.values.clone()
    values[1] = 5.0
    after = Candidates(values, weight, before.image, before.position, 1, 4, None)
    left, right = selector(before), selector(after)
    assert torch.equal(left[[0, 2, 3]], right[[0, 2, 3]])
    assert left[1] != right[1]


def test_prior_is_the_keep_probability_of_a_selector_that_sees_nothing() -> None:
    selector = spvit.AttentionSelector(64, 4, prior=0.7)
    for network_ in selector.classify:
        network_[-1].weight.data.zero_()  # type: ignore[index]
    torch.testing.assert_close(selector(candidates(2, 5, 64)), torch.full((10,), 0.7))


@pytest.mark.parametrize(("dim", "heads"), [(64, 3), (24, 4)])
def test_head_width_that_cannot_be_halved_twice_is_refused(dim: int, heads: int) -> None:
    with pytest.raises(WrongUse, match=f"{dim}/{heads}"):
        spvit.AttentionSelector(dim, heads)


def test_geometric_targets_are_cumulative() -> None:
    assert spvit.geometric_targets(0.7, 3) == pytest.approx((0.7, 0.49, 0.343))


def test_kept_patches_by_hand() -> None:
    # 137.2, 96.04 and 67.2 of 196, rounded down
    assert spvit.kept_patches(spvit.geometric_targets(0.7, 3), 196) == (137, 96, 67)
    assert spvit.kept_patches((0.7, 0.49, 0.343), 196, instead_of_packages=True) == (138, 98, 70)


def test_kept_patches_never_reach_zero_or_pass_all() -> None:
    assert spvit.kept_patches((0.01, 0.001), 49) == (1, 1)
    assert spvit.kept_patches((0.99, 0.99), 49, instead_of_packages=True) == (49, 49)
    assert spvit.kept_patches((1.0, 0.7 * 0.7), 100, instead_of_packages=True) == (100, 51)


def test_target_of_one_gets_no_selector() -> None:
    host = spvit.prune(network(), (1.0, 0.7, 0.5))
    assert list(host.stages) == ["6", "9"]


def test_rules_keep_counts_or_probabilities_of_one_half() -> None:
    fixed = spvit.prune(network(), TARGETS, counts=(30, 20, 10))
    free = spvit.prune(network(), TARGETS)
    assert [stage.rule for stage in fixed.ordered] == [Count(30), Count(20), Count(10)]
    assert [stage.rule for stage in free.ordered] == [Threshold(0.5)] * 3


@pytest.mark.parametrize("targets", [(0.5, 0.7, 0.3), (0.7, 0.5, 0.0), (1.2, 0.7, 0.5), (0.7, -0.1, 0.5)])
def test_ratios_out_of_range_or_increasing_are_refused(targets: tuple[float, ...]) -> None:
    with pytest.raises(WrongUse, match="keep ratios"):
        spvit.prune(network(), targets)


def test_ratios_and_blocks_must_be_as_many() -> None:
    with pytest.raises(WrongUse, match="2 keep ratios for 3 blocks"):
        spvit.prune(network(), (0.7, 0.5))


def test_selector_in_front_of_a_missing_block_is_refused() -> None:
    with pytest.raises(WrongUse, match="12"):
        spvit.prune(network(), (0.7,), blocks=(12,))


def test_network_without_class_token_is_refused() -> None:
    with pytest.raises(WrongUse, match="class token"):
        spvit.prune(build("swin_t"), TARGETS)


def test_random_control_has_nothing_to_learn_and_no_stage_that_keeps_all() -> None:
    backbone = network()
    host = spvit.prune_randomly(backbone, (PATCHES, 20, 10))
    assert list(host.stages) == ["6", "9"]
    assert parameters(host) == parameters(backbone)
    output = host.train()(
        pictures(3, backbone), execution="masked", generator=torch.Generator().manual_seed(0)
    )
    assert [trace.keep.sum(1).tolist() for trace in output.stages] == [[20] * 3, [10] * 3]


def test_ratio_loss_by_hand() -> None:
    decisions = [torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0]]), torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])]
    # ((0.5 - 0.7)^2 + (0.125 - 0.25)^2) / 2
    assert spvit.ratio_loss(decisions, (0.7, 0.25)).item() == pytest.approx((0.04 + 0.015625) / 2)


def test_ratio_loss_does_not_care_how_counts_spread_over_images_but_the_other_form_does() -> None:
    even = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0]])
    uneven = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]])
    assert spvit.ratio_loss([even], (0.7,)) == spvit.ratio_loss([uneven], (0.7,))
    assert spvit.ratio_loss_per_image([even], (0.5,)) == 0
    assert spvit.ratio_loss_per_image([uneven], (0.5,)) == 0.25


def planted_output(keep: Tensor) -> Output:
    """Two classes, two images, three patches, width one; tokens 0 except the second patch's 2."""
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    tokens = torch.zeros(2, 5, 1)  # class token, three patches, a package
    tokens[:, 2], tokens[:, 4] = 2.0, 100.0
    return Output(logits, [StageTrace(torch.full((2, 3), 0.5), keep)], tokens)


def test_token_loss_counts_kept_patches_only() -> None:
    keep = torch.tensor([[1.0, 1, 0], [1, 0, 1]])
    output, labels = planted_output(keep), torch.tensor([0, 1])
    weights = spvit.LossWeights(distillation=0, tokens=1, ratio=0)
    args = (output, labels, output.logits, torch.zeros(2, 4, 1), (0.5,))
    bare = spvit.loss(*args, spvit.LossWeights(0, 0, 0))
    # of the four patches kept one is off by 2: 4 / 4
    assert (spvit.loss(*args, weights) - bare).item() == pytest.approx(1.0)


def test_distillation_is_the_divergence_of_student_from_teacher() -> None:
    keep, labels = torch.ones(2, 3), torch.tensor([0, 1])
    output, teacher = planted_output(keep), torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    rest = (labels, teacher, torch.zeros(2, 4, 1), (0.5,))
    added = spvit.loss(output, *rest, spvit.LossWeights(1, 0, 0)) - spvit.loss(
        output, *rest, spvit.LossWeights(0, 0, 0)
    )
    student = output.logits.softmax(-1)
    by_hand = (student * (student / teacher.softmax(-1)).log()).sum(-1).mean()
    assert added.item() == pytest.approx(by_hand.item(), abs=1e-6)


def test_default_weights_are_those_of_the_released_code() -> None:
    assert spvit.LossWeights() == spvit.LossWeights(distillation=0.5, tokens=0.5, ratio=2.0)


def test_loss_of_a_network_without_stages_is_classification_and_distillation() -> None:
    output, labels = planted_output(torch.ones(2, 3)), torch.tensor([0, 1])
    plain = Output(output.logits, [], output.tokens)
    value = spvit.loss(plain, labels, output.logits, torch.zeros(2, 4, 1), (), spvit.LossWeights())
    assert value.item() == pytest.approx(torch.nn.functional.cross_entropy(output.logits, labels).item())
