"""HeatViT against its sources: the selector's form and size, keep ratios, losses, executions, the board."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from hw_models import trace
from hw_models.heatvit import rebuild
from lib.errors import WrongUse
from lib.lab.backbones import build, parameters
from lib.vit import heatvit, heatvit_board, spvit
from lib.vit.approximations import PlanSigmoid, approximate
from lib.vit.costs import block_macs, host_cost
from lib.vit.heatvit import HeadSelector, LatencyTerm
from lib.vit.host import Output, StageTrace, TokenHost
from lib.vit.stages import LatencyTable
from tests.papers.test_spvit import candidates
from tests.vit.parts import PATCHES, network, oblong, oblong_pictures, pictures
from tests.vit.test_host import check_agreement

RATIOS = (0.45, 0.51, 0.71)
COUNTS = (22, 11, 8)
TABLE = LatencyTable("bench", (1.0, 0.5, 0.25), (10.0, 6.0, 5.0))


def test_head_has_the_parameters_of_the_published_shapes() -> None:
    linear = [layer for layer in HeadSelector(64, 1).modules() if isinstance(layer, nn.Linear)]
    assert [parameters(layer) for layer in linear] == [2_080, 2_080, 528, 34]
    assert parameters(HeadSelector(64, 1)) == 2_080 + 2_080 + 528 + 34 + 2 * 64


def test_every_head_has_a_pair_of_its_own_and_a_branch_weighs_them() -> None:
    whole, bare = HeadSelector(384, 6), HeadSelector(384, 6, head_attention=False)
    assert parameters(bare) == 6 * parameters(HeadSelector(64, 1))
    # 6 -> 3 -> 6
    assert parameters(whole) - parameters(bare) == 6 * 3 + 3 + 3 * 6 + 6
    assert any(isinstance(part, PlanSigmoid) for part in whole.modules())


def test_selector_follows_the_equations_head_by_head() -> None:
    torch.manual_seed(0)
    selector = HeadSelector(16, 2)
    c = candidates(1, 3, 16, torch.tensor([1.0, 0.0, 1.0]))
    assert selector.head_attention is not None
    t = []
    for i in range(2):
        local = selector.embed[i](c.values[:, 8 * i : 8 * (i + 1)])
        shared = ((local[0] + local[2]) / 2).expand(3, 4)
        t.append(selector.classify[i](torch.cat((local, shared), 1)).softmax(-1)[:, 0])
    means = torch.stack((c.values[:, :8].mean(1), c.values[:, 8:].mean(1)), 1)
    a = selector.head_attention(means)
    torch.testing.assert_close(selector(c), (a[:, 0] * t[0] + a[:, 1] * t[1]) / (a[:, 0] + a[:, 1]))


def test_heads_that_all_weigh_nothing_count_alike() -> None:
    torch.manual_seed(0)
    selector = HeadSelector(16, 2)
    assert selector.head_attention is not None
    last = selector.head_attention[2]
    assert isinstance(last, nn.Linear)
    last.weight.data.zero_()
    last.bias.data.fill_(-9.0)  # PLAN gives exactly 0 there
    c = candidates(2, 3, 16)
    assert (selector.head_attention(torch.zeros(1, 2)) == 0).all()
    equal = HeadSelector(16, 2, head_attention=False)
    equal.load_state_dict(selector.state_dict(), strict=False)
    torch.testing.assert_close(selector(c), equal(c))


def test_single_head_judges_by_the_full_width_without_a_weight() -> None:
    host = heatvit.prune(network(), RATIOS, heads=1)
    selector = host.ordered[0].selector
    assert isinstance(selector, HeadSelector)
    assert (selector.heads, selector.width, selector.head_attention) == (1, 64, None)


def test_heads_that_cannot_be_halved_twice_are_refused() -> None:
    with pytest.raises(WrongUse, match="64/32"):
        heatvit.prune(network(), RATIOS, heads=32)


def test_ratios_are_relative_to_the_stage_before_where_spvits_are_cumulative() -> None:
    assert heatvit.cumulative(RATIOS) == pytest.approx((0.45, 0.2295, 0.162945))
    assert heatvit.kept_patches(RATIOS, 196) == (88, 45, 32)
    # read as SPViT's, the same three would ask for patches that are gone
    with pytest.raises(WrongUse, match="cumulative"):
        spvit.prune(network(), RATIOS)
    assert spvit.kept_patches((0.7, 0.49, 0.343), 196) == (137, 96, 67)
    assert heatvit.kept_patches((0.7, 0.49, 0.343), 196) == (137, 67, 23)


def test_kept_patches_never_reach_zero_or_pass_all() -> None:
    assert heatvit.kept_patches((0.01, 0.5), 49) == (1, 1)
    assert heatvit.kept_patches((1.0, 0.99), 49, instead_of_packages=True) == (49, 49)
    assert heatvit.kept_patches(RATIOS, 49, instead_of_packages=True) == (23, 13, 11)


@pytest.mark.parametrize("ratios", [(0.5, 0.0, 0.7), (1.2, 0.5, 0.5), (-0.1, 0.5, 0.5)])
def test_ratios_out_of_range_are_refused(ratios: tuple[float, ...]) -> None:
    with pytest.raises(WrongUse, match="relative to the stage before"):
        heatvit.prune(network(), ratios)


def test_ratios_and_blocks_must_be_as_many() -> None:
    with pytest.raises(WrongUse, match="2 keep ratios for 3 blocks"):
        heatvit.prune(network(), (0.5, 0.5))


@pytest.mark.parametrize("execution", ["masked", "gathered"])
@pytest.mark.parametrize("ratios", [(1.0, 1.0, 1.0), RATIOS])
def test_identity_settings_are_the_network_bit_for_bit(ratios: tuple[float, ...], execution: str) -> None:
    backbone = network()
    images = pictures(3, backbone)
    host = heatvit.prune(backbone, ratios, counts=(PATCHES,) * 3).eval()
    with torch.inference_mode():
        assert torch.equal(host(images, execution=execution).logits, backbone(images))


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
def test_masked_equals_gathered(batch: int, soft: bool) -> None:
    torch.manual_seed(0)
    host = heatvit.prune(network(), RATIOS, soft=soft, counts=COUNTS).eval()
    masked, _ = check_agreement(host, pictures(batch, host.backbone))
    assert [trace.keep.sum(1).unique().tolist() for trace in masked.stages] == [[c] for c in COUNTS]


@pytest.mark.parametrize("counts", [None, (88, 45, 32)])
def test_masked_equals_gathered_on_lv_vit(counts: tuple[int, ...] | None) -> None:
    torch.manual_seed(0)
    backbone = network("lv")
    host = heatvit.prune(backbone, RATIOS, blocks=(2, 5, 7), counts=counts).eval()
    check_agreement(host, pictures(2, backbone))


def test_masked_equals_gathered_under_the_approximated_functions() -> None:
    torch.manual_seed(0)
    host = approximate(heatvit.prune(network(), RATIOS, counts=COUNTS)).eval()
    check_agreement(host, pictures(3, network()))


def test_gradients_reach_every_learnable_part() -> None:
    torch.manual_seed(0)
    host = heatvit.prune(network(), RATIOS).train()
    for stage in host.ordered:
        assert isinstance(stage.selector, HeadSelector)
        assert stage.selector.head_attention is not None
        stage.selector.head_attention[0].weight.data.mul_(0.1)  # type: ignore[operator]
    images, labels = pictures(6, host.backbone), torch.arange(6)
    output = host(images, execution="masked", generator=torch.Generator().manual_seed(0))
    dense = TokenHost(network(), {})(images, execution="masked")
    heatvit.objective(RATIOS)(output, labels, dense, (0, 1, 2)).backward()
    still = [n for n, p in host.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_latency_of_shares_by_hand() -> None:
    term = LatencyTerm(TABLE, target_ms=30.0, blocks=(2, 4), depth=5)
    # two blocks dense, two at 0.75 (8 ms), one at 0.375 (5.5 ms)
    assert term.latency_ms([torch.tensor(0.75), torch.tensor(0.375)]).item() == pytest.approx(20 + 16 + 5.5)
    assert term.latency_ms([torch.tensor(1.0), torch.tensor(1.0)]).item() == pytest.approx(50)
    agrees = TABLE.network({2: 0.75, 4: 0.375}, 5)
    assert agrees == pytest.approx(41.5)


def test_latency_loss_is_the_squared_excess_over_the_target_and_pulls_the_shares_down() -> None:
    term = LatencyTerm(TABLE, target_ms=40.0, blocks=(2, 4), depth=5, weight=2.0)
    shares = [torch.tensor(0.75, requires_grad=True), torch.tensor(0.375, requires_grad=True)]
    loss = term(shares)
    loss.backward()
    assert loss.item() == pytest.approx(2 * (41.5 / 40 - 1) ** 2, rel=1e-5)
    assert all(share.grad is not None and share.grad > 0 for share in shares)
    met = LatencyTerm(TABLE, target_ms=42.0, blocks=(2, 4), depth=5)
    assert met(shares).item() == 0


def test_latency_target_must_be_positive() -> None:
    with pytest.raises(WrongUse, match="target latency"):
        LatencyTerm(TABLE, target_ms=0.0, blocks=(3,), depth=12)


def planted(keeps: Sequence[Tensor]) -> Output:
    """Two images, four patches, a class token: logits and tokens zero, decisions as given."""
    return Output(torch.zeros(2, 3), [StageTrace(keep, keep) for keep in keeps], torch.zeros(2, 5, 1))


def test_latency_counts_once_all_stages_are_in_use() -> None:
    keeps = [torch.tensor([[1.0, 1, 1, 0], [1, 1, 1, 0]]), torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 0]])]
    labels, dense = torch.tensor([0, 1]), planted([])
    term = LatencyTerm(TABLE, target_ms=40.0, blocks=(2, 4), depth=5)
    ratios = (0.75, 0.5)
    plain, timed = heatvit.objective(ratios), heatvit.objective(ratios, latency=term)
    last = planted(keeps[1:])
    assert torch.equal(timed(last, labels, dense, (1,)), plain(last, labels, dense, (1,)))
    both = planted(keeps)
    added = timed(both, labels, dense, (0, 1)) - plain(both, labels, dense, (0, 1))
    assert added.item() == pytest.approx(term([torch.tensor(0.75), torch.tensor(0.375)]).item(), abs=1e-6)


def test_objective_asks_for_shares_of_all_patches() -> None:
    keep = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0]])  # 0.625
    labels, dense = torch.tensor([0, 1]), planted([])
    weights = spvit.LossWeights(0.0, 0.0, 1.0)
    asked = heatvit.objective((0.5,), weights)(planted([keep]), labels, dense, (0,))
    bare = heatvit.objective((0.625,), weights)(planted([keep]), labels, dense, (0,))
    assert (asked - bare).item() == pytest.approx(0.125**2)


def test_lv_vit_s_with_three_stages_by_hand() -> None:
    host = heatvit.prune(build("lv_vit_s"), RATIOS, blocks=(4, 8, 12), counts=(88, 45, 32))
    cost = host_cost(host)
    assert cost.dense / 1e9 == pytest.approx(6.551, abs=0.0005)

    def block(n: int) -> int:
        return 10 * n * 384**2 + 2 * n**2 * 384

    # class token, patches and a package a stage; the auxiliary head looks at the tokens that are left
    saved = 4 * sum(block(197) - block(n) for n in (90, 48, 36)) + 384 * 1000 * (197 - 36)
    assert cost.backbone == cost.dense - saved
    # MACs of 4640 a token and head, as the stages meet 196, 88 + 1 and 45 + 2 tokens; and the weighing branch
    assert cost.selectors == (196 + 89 + 47) * 6 * 4640 + (196 + 89 + 47) * 2 * 6 * 3


def test_block_macs_by_the_closed_form() -> None:
    dense = trace(build("deit_t"), torch.zeros(1, 3, 224, 224))
    for tokens in (197, 99):
        assert block_macs(dense, 197, tokens) == 12 * tokens * 192**2 + 2 * tokens**2 * 192


def test_board_is_that_of_the_hardware_comparison_and_takes_lv_vit_too() -> None:
    deit, lv = heatvit_board.traced("deit_t"), heatvit_board.traced("lv_vit_s")
    assert (heatvit_board.depth_of(deit), heatvit_board.depth_of(lv)) == (12, 16)
    ours = heatvit_board.decompose(deit)
    theirs = rebuild(deit, ours.dense_16.device)
    assert ours.pruned_8.latency_ms == theirs.pruned_8.latency_ms
    assert heatvit_board.gain(ours, "speedup") == pytest.approx(
        heatvit_board.gain(ours, "pruning") * heatvit_board.gain(ours, "quantisation")
    )
    board = heatvit_board.decompose(lv)
    assert board.pruned_8.latency_ms < board.dense_8.latency_ms < board.dense_16.latency_ms
    assert heatvit_board.pruned_macs(deit) / 1e9 == pytest.approx(0.567, abs=0.0005)


def test_table_of_the_board_falls_and_stays_above_the_arithmetic() -> None:
    deit, keep = heatvit_board.traced("deit_t"), (1.0, 0.7, 0.5)
    table = heatvit_board.table(deit, keep)
    assert list(table.block_ms) == sorted(table.block_ms, reverse=True)
    assert min(table.excess(heatvit_board.mac_line(deit, keep))[1:]) > 0


def test_published_ranges_imply_one_factor_for_8_bits() -> None:
    assert heatvit_board.implied_quantisation() == pytest.approx((3.46 / 1.82, 4.89 / 2.58))


def test_first_stages_of_training_are_asked_for_ratios_relative_to_the_stages_in_use() -> None:
    keeps = [torch.tensor([[1.0, 1, 1, 0]] * 2), torch.tensor([[1.0, 1, 0, 0]] * 2)]  # 0.75, 0.5
    labels, dense = torch.tensor([0, 1]), planted([])
    ratios = (0.4, 0.75, 0.5)

    def asked(weight: float, keeps: Sequence[Tensor], in_use: Sequence[int]) -> float:
        objective = heatvit.objective(ratios, spvit.LossWeights(0.0, 0.0, weight))
        return objective(planted(keeps), labels, dense, in_use).item()

    def ratio_loss(keeps: Sequence[Tensor], in_use: Sequence[int]) -> float:
        return asked(1.0, keeps, in_use) - asked(0.0, keeps, in_use)

    # alone, the last stage is to leave 0.5; with the one before it, 0.75 and 0.375; then 0.4, 0.3 and 0.15
    assert ratio_loss(keeps[1:], (2,)) == pytest.approx(0, abs=1e-6)
    assert ratio_loss(keeps, (1, 2)) == pytest.approx(0.125**2 / 2, rel=1e-4)
    three = [torch.ones(2, 4), *keeps]
    assert ratio_loss(three, (0, 1, 2)) == pytest.approx((0.6**2 + 0.45**2 + 0.35**2) / 3, rel=1e-4)


def test_stages_are_numbered_without_those_that_ask_for_nothing() -> None:
    keep = torch.tensor([[1.0, 1, 0, 0]] * 2)
    labels, dense = torch.tensor([0, 1]), planted([])
    weights = spvit.LossWeights(0.0, 0.0, 1.0)
    with_identity = heatvit.objective((1.0, 0.25, 0.5), weights)(planted([keep]), labels, dense, (0,))
    without = heatvit.objective((0.25, 0.5), weights)(planted([keep]), labels, dense, (0,))
    assert torch.equal(with_identity, without)


def test_shares_below_the_table_are_refused_as_they_would_give_no_gradient() -> None:
    term = LatencyTerm(TABLE, target_ms=30.0, blocks=(2, 4), depth=5)
    with pytest.raises(WrongUse, match=r"from 0.25 to 1, not 0.2"):
        term([torch.tensor(0.75), torch.tensor(0.2)])
    end = torch.tensor(0.25, requires_grad=True)
    term([torch.tensor(0.75), end]).backward()
    assert end.grad is not None
    assert end.grad > 0


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("soft", [True, False])
def test_odd_grids_masked_equal_gathered(batch: int, soft: bool) -> None:
    counts = heatvit.kept_patches(RATIOS, 15)
    assert counts == (7, 4, 3)
    host = heatvit.prune(oblong(), RATIOS, blocks=(1, 2, 3), soft=soft, counts=counts).eval()
    check_agreement(host, oblong_pictures(batch))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("execution", ["masked", "gathered"])
@pytest.mark.parametrize("ratios", [(1.0, 1.0, 1.0), RATIOS])
def test_identity_on_odd_grids(ratios: tuple[float, ...], execution: str, batch: int) -> None:
    backbone = oblong()
    host = heatvit.prune(backbone, ratios, blocks=(1, 2, 3), counts=(15,) * 3).eval()
    images = oblong_pictures(batch)
    with torch.inference_mode():
        assert torch.equal(host(images, execution=execution).logits, backbone(images))
