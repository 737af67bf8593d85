"""Tri-Level E-ViT: identity, both executions alike, counts, masks, schedules by hand, cost of every level."""

import math
from itertools import pairwise

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hw_models import trace
from lib.errors import WrongUse
from lib.lab.backbones import build
from lib.lab.fit import Schedule
from lib.vit.attention import Connections, exact_weights
from lib.vit.host import TokenHost
from lib.vit.tri_level_costs import average_cost, macs_by_counts, ratio_of_cost, training_average
from lib.vit.tri_level_experiment import (
    Bench,
    Levels,
    arms,
    at_progress,
    connections_of,
    fixed_ratio,
    host_of,
    prepare,
    progress_of,
    train_arms,
    training_operations,
)
from lib.vit.tri_level_figures import accuracies, beside_controls, training_time
from lib.vit.tri_level_vit import (
    KeepShare,
    StrongestConnections,
    class_attention_variance,
    random_control,
    ratio_at,
    set_ratios,
    share_of,
    token_counts,
    tri_level,
)
from tests.vit.parts import PATCHES, network, oblong, oblong_pictures, pictures

CLOSE = 1.0e-4


@pytest.fixture(scope="module")
def bench() -> Bench:
    return prepare("small_vit", "fashion_mnist", "", torch.device("cpu"), images=20, test_images=20)


@pytest.mark.parametrize("execution", ["masked", "gathered"])
@pytest.mark.parametrize("training", [False, True])
def test_ratios_of_one_are_the_backbone_bit_for_bit(execution: str, training: bool) -> None:
    backbone = network()
    images = pictures(3, backbone)
    host = set_ratios(tri_level(backbone, look_at_last=True), 1.0, 1.0)
    host.train(training and execution == "gathered")
    with torch.no_grad():
        expected = backbone(images)
        assert torch.equal(host(images, execution=execution).logits, expected)


@pytest.mark.parametrize("connections", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("name", ["small", "lv"])
@pytest.mark.parametrize("batch", [1, 3])
def test_masked_equals_gathered(name: str, batch: int, connections: float) -> None:
    backbone = network(name)
    host = set_ratios(tri_level(backbone), 0.7, connections).eval()
    images = pictures(batch, backbone)
    with torch.inference_mode():
        masked, gathered = host(images, execution="masked"), host(images)
    for left, right in zip(masked.stages, gathered.stages, strict=True):
        assert torch.equal(left.keep, right.keep)
        if connections < 1:
            assert left.connected is not None
            assert right.connected is not None
            assert torch.equal(left.connected, right.connected)
    assert (masked.logits - gathered.logits).abs().max() < CLOSE
    counts = token_counts(0.7, backbone.patch_embed.num_patches)
    assert [int(stage.keep.sum(1)[0]) for stage in gathered.stages] == list(counts)


@pytest.mark.parametrize("batch", [1, 3])
def test_oblong_images(batch: int) -> None:
    backbone, images = oblong(), oblong_pictures(batch)
    blocks = (1, 2, 3)
    host = tri_level(backbone, blocks=blocks).eval()
    with torch.inference_mode():
        assert torch.equal(host(images).logits, backbone(images))
        set_ratios(host, 0.7, 0.5, blocks=blocks)
        masked, gathered = host(images, execution="masked"), host(images)
    assert [int(stage.keep.sum(1)[0]) for stage in gathered.stages] == list(token_counts(0.7, 15))
    assert (masked.logits - gathered.logits).abs().max() < CLOSE


@pytest.mark.parametrize("make", [tri_level, random_control])
def test_training_gathered_reaches_every_parameter(make: object) -> None:
    host = set_ratios(make(network()), 0.7, 0.3).train()  # type: ignore[operator]
    output = host(pictures(4, host.backbone), generator=torch.Generator().manual_seed(0))
    output.logits.square().sum().backward()
    assert [name for name, p in host.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_random_control_keeps_as_many_patches_but_others() -> None:
    backbone = network()
    images = pictures(2, backbone)
    with torch.inference_mode():
        ours = set_ratios(tri_level(backbone), 0.7).eval()(images)
        lot = set_ratios(random_control(backbone), 0.7).eval()(
            images, generator=torch.Generator().manual_seed(0)
        )
    for left, right in zip(ours.stages, lot.stages, strict=True):
        assert left.keep.sum(1).equal(right.keep.sum(1))
        assert not left.keep.equal(right.keep)


@pytest.mark.parametrize(
    ("ratio", "counts"),
    [
        (0.9, (177, 160, 144)),
        (0.8, (157, 126, 101)),
        (0.7, (138, 97, 68)),
        (0.6, (118, 71, 43)),
        (0.5, (98, 49, 25)),
        (1.0, (196, 196, 196)),
    ],
)
def test_token_counts_of_deit(ratio: float, counts: tuple[int, ...]) -> None:
    assert token_counts(ratio, 196) == counts


def test_shares_are_rounded_up_but_not_by_binary_fractions() -> None:
    assert share_of(160, 0.9) == 144
    assert share_of(100, 0.29) == 29
    assert share_of(100, 0.291) == 30
    assert share_of(1, 0.01) == 1


def test_keep_share_counts_what_each_image_has_left_and_breaks_ties_in_order() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.7, 0.3], [0.2, 0.2, 0.2, 0.2, 0.2]])
    alive = torch.tensor([[1.0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    keep = KeepShare(0.5)(scores, alive)
    assert keep.tolist() == [[0, 0, 1, 1, 0], [1, 1, 1, 0, 0]]


def test_strongest_connections_by_hand() -> None:
    attention = torch.tensor(
        [[[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.2, 0.3, 0.5, 0.0]]]
    )
    keep = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    # of patches 0, 1, 3 each row keeps ceil(0.5 x 3) = 2; patch 2 is gone
    mask = StrongestConnections(0.5)(attention, keep)[0]
    assert mask.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]]


def test_ties_keep_more_than_their_share() -> None:
    mask = StrongestConnections(0.25)(torch.full((1, 4, 4), 0.25), torch.ones(1, 4))
    assert mask.sum(-1).tolist() == [[4, 4, 4, 4]]


@given(seed=st.integers(0, 1000), ratio=st.floats(0.02, 1.0), values=st.integers(1, 6))
def test_strongest_connections_are_those_of_a_sorted_row(seed: int, ratio: float, values: int) -> None:
    # few different values: rows full of ties, and images that keep different numbers of patches
    generator = torch.Generator().manual_seed(seed)
    attention = torch.randint(0, values, (3, 7, 7), generator=generator) / 8
    keep = (torch.rand(3, 7, generator=generator) < 0.6).float()
    mask = StrongestConnections(ratio)(attention, keep)
    for image in range(3):
        alive = keep[image].nonzero().flatten().tolist()
        for row in range(7):
            entries = sorted((float(attention[image, row, j]) for j in alive), reverse=True)
            last = entries[share_of(len(alive), ratio) - 1] if alive else 0.0
            expected = [
                float(row in alive and j in alive and attention[image, row, j] >= last) for j in range(7)
            ]
            assert mask[image, row].tolist() == expected


def test_the_attention_ratio_is_what_stays() -> None:
    attention = torch.rand(1, 177, 177, generator=torch.Generator().manual_seed(0))
    mask = StrongestConnections(0.1)(attention, torch.ones(1, 177))
    assert set(mask.sum(-1).flatten().tolist()) == {18.0}


def test_class_row_and_column_stay_open() -> None:
    mask = StrongestConnections(0.1)(torch.rand(1, 9, 9), torch.ones(1, 9))
    factor = Connections.among(mask).factor(torch.tensor([0]), torch.arange(-1, 9)[None])
    assert factor.shape == (1, 1, 10, 10)
    assert factor[0, 0, 0].eq(1).all()
    assert factor[0, 0, :, 0].eq(1).all()


@pytest.mark.parametrize("eps", [0.0, 1.0e-6])
def test_rows_of_masked_attention_sum_to_one(eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = 10 * torch.randn(2, 3, 12, 12, generator=generator)
    mask = StrongestConnections(0.1)(scores.softmax(-1).mean(1), torch.ones(2, 12))
    mask[:, :, 0] = 1
    weights = exact_weights(scores, mask[:, None], eps)
    assert (weights.sum(-1) - 1).abs().max() < 1e-5


def test_masks_after_the_first_open_rows_whose_partners_left() -> None:
    backbone = network()
    images = pictures(8, backbone)
    together = connections_of(set_ratios(tri_level(backbone), 0.7, 0.1), images, 0.1)
    assert together[0].overfull_rows == 0
    assert together[2].overfull_rows > 0
    assert together[2].share > 10
    # where no patch leaves, every row finds its share again
    alone = connections_of(set_ratios(tri_level(backbone), 1.0, 0.1), images, 0.1)
    assert [stage.overfull_rows for stage in alone] == [0, 0, 0]
    assert alone[2].share == pytest.approx(100 * 5 / PATCHES)


def test_ratio_schedule_of_300_epochs() -> None:
    assert [ratio_at(epoch / 300, 0.7) for epoch in (0, 5, 10)] == [1, 1, 1]
    assert ratio_at(60 / 300, 0.7) == pytest.approx(0.85)
    assert [ratio_at(epoch / 300, 0.7) for epoch in (110, 200, 300)] == pytest.approx([0.7] * 3)
    ratios = [ratio_at(step / 1000, 0.7) for step in range(1001)]
    assert all(later <= earlier for earlier, later in pairwise(ratios))


def test_variance_counts_kept_patches_only() -> None:
    scores = torch.tensor([[0.2, 0.4, 9.0], [0.3, 0.3, 0.3]])
    keep = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    assert class_attention_variance(scores, keep).tolist() == pytest.approx([0.01, 0.0], abs=1e-7)


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.2])
def test_impossible_ratios_are_refused(ratio: float) -> None:
    host = tri_level(network())
    with pytest.raises(WrongUse, match="token ratio"):
        set_ratios(host, ratio)
    with pytest.raises(WrongUse, match="attention ratio"):
        set_ratios(host, 0.5, ratio)
    with pytest.raises(WrongUse, match="final ratio"):
        ratio_at(0.5, ratio)


def test_hosts_without_these_stages_are_refused() -> None:
    with pytest.raises(WrongUse, match="build the host by tri_level"):
        set_ratios(TokenHost(network(), {}), 0.5)
    with pytest.raises(WrongUse, match="last block has a stage"):
        tri_level(network(), blocks=(3, 11), look_at_last=True)
    with pytest.raises(WrongUse, match="12"):
        tri_level(network(), blocks=(12,))


def test_counted_cost_is_that_of_the_equation() -> None:
    backbone = build("deit_t")
    image = torch.zeros(1, 3, 224, 224)
    macs = macs_by_counts(backbone, image)  # type: ignore[arg-type]
    assert macs((196,) * 3) == trace(backbone, image).macs
    executed = trace(set_ratios(tri_level(backbone), 0.7).eval(), image).macs
    # the stages read the class token's row once more: 3 heads x 64 channels x tokens at blocks 3, 6, 9
    assert executed - macs((138, 97, 68)) == 3 * 64 * (197 + 139 + 98)


def test_training_average_lies_between_the_last_ratio_and_the_dense_network() -> None:
    backbone = network()
    macs = macs_by_counts(backbone, pictures(1, backbone))
    average = training_average(macs, PATCHES, 0.7, iterations=300)
    assert macs(token_counts(0.7, PATCHES)) / macs((PATCHES,) * 3) < average < 1
    assert training_average(macs, PATCHES, 1.0, iterations=30) == 1


def test_average_cost_is_the_mean_over_steps() -> None:
    # 10 patches: 7, 5, 4 are left at 0.7, and three stages cost what they leave
    assert average_cost(sum, 10, [1.0, 0.7]) == pytest.approx((30 + 16) / 2 / 30)
    with pytest.raises(WrongUse, match="without steps"):
        average_cost(sum, 10, [])


def test_ratio_of_a_cost_is_the_nearest_that_whole_patches_allow() -> None:
    # 10 patches: 16 of 30 at 0.7 and just above 0.6, 10 of 30 at 0.5
    assert token_counts(ratio_of_cost(sum, 10, 16 / 30), 10) == (7, 5, 4)
    assert token_counts(ratio_of_cost(sum, 10, 10.4 / 30), 10) == (5, 3, 2)
    assert ratio_of_cost(sum, 10, 1.0) == pytest.approx(0.901)
    assert ratio_of_cost(sum, 10, 0.0) == pytest.approx(0.001)


def test_progress_is_that_of_the_steps() -> None:
    schedule = Schedule(epochs=2, batch_size=4)
    assert progress_of(schedule, 5) == [0, 0.25, 0.5, 0.75]
    assert len(progress_of(schedule, 40_000)) == 1000
    assert progress_of(schedule, 0) == []


SCHEDULE = Schedule(epochs=2, batch_size=10)


@pytest.fixture(scope="module")
def operations(bench: Bench) -> dict[str, float]:
    contenders = arms(0.7, 0.1, fixed_ratio(bench, SCHEDULE, 0.7, removed=0.2))
    return training_operations(contenders, bench, SCHEDULE, removed=0.2)


def test_operations_of_a_training_follow_its_schedule(bench: Bench, operations: dict[str, float]) -> None:
    cost = operations
    network = bench.make()
    macs = macs_by_counts(network, pictures(1, network))
    patches = network.patch_embed.num_patches
    assert cost["dense"] == cost["dense_unfused"] == 1
    assert cost["example"] == pytest.approx(0.8)
    # the executed network also reads the class token's row at each stage, at most 0.5 % of its work
    ramp = average_cost(macs, patches, [ratio_at(step / 4, 0.7) for step in range(4)])
    assert ramp <= cost["token"] < ramp + 0.005
    fixed = average_cost(macs, patches, [0.7])
    assert fixed <= cost["token_topk"] < fixed + 0.005
    assert fixed < ramp
    assert cost["example_token"] == pytest.approx(0.8 * cost["token"])


def test_masking_connections_saves_no_operation(operations: dict[str, float]) -> None:
    assert operations["attention"] >= 1
    assert operations["all"] >= operations["example_token"]


def test_the_fixed_ratio_costs_a_training_what_all_levels_cost(
    bench: Bench, operations: dict[str, float]
) -> None:
    assert operations["all_topk"] == pytest.approx(operations["all"], abs=0.02)
    nothing = fixed_ratio(bench, SCHEDULE, 1.0, removed=0.0)
    assert token_counts(nothing, PATCHES) == (PATCHES,) * 3


def test_arms_follow_the_schedule_and_end_at_their_ratios() -> None:
    levels = arms(0.6, 0.2, 0.5)["all"]
    host = host_of(levels, network())
    at_progress(host, levels, 0.0)
    assert [(stage.rule.ratio, stage.connect) for stage in host.ordered] == [(1.0, None)] * 3  # type: ignore[attr-defined]
    at_progress(host, levels, 1.0)
    assert [stage.rule.ratio for stage in host.ordered] == pytest.approx([0.6] * 3)  # type: ignore[attr-defined]
    assert all(isinstance(stage.connect, StrongestConnections) for stage in host.ordered)
    assert len(host_of(Levels(examples="forgetting"), network()).stages) == 0


def test_the_fixed_ratio_holds_from_the_first_step() -> None:
    fixed = arms(0.6, 0.2, 0.5)
    assert fixed["token_topk"].ratios(0.0) == fixed["token_topk"].ratios(1.0) == pytest.approx((0.6, 1.0))
    assert fixed["all_topk"].ratios(0.0) == pytest.approx((0.5, 1.0))


def test_without_the_fused_kernel_the_dense_network_computes_the_same() -> None:
    images = pictures(2, network())
    fused, unfused = (host_of(Levels(fused=on), network()).eval() for on in (True, False))
    assert {block.attn.fused_attn for block in unfused.blocks} == {False}
    unfused.load_state_dict(fused.state_dict())
    with torch.inference_mode():
        assert (fused(images).logits - unfused(images).logits).abs().max() < CLOSE
    with pytest.raises(WrongUse, match="only the dense network"):
        host_of(Levels(tokens=0.5, fused=False), network())


@pytest.mark.parametrize("by", ["forgetting", "variance"])
def test_an_arm_trains_and_watches_its_examples(bench: Bench, by: str) -> None:
    schedule = Schedule(epochs=2, batch_size=7)
    levels = {"all": Levels(by, 0.7, 0.5)}
    arm = train_arms(levels, bench, schedule, 0, removed=0.2, exchanged=0.05)["all"]
    assert arm.history[-1].total == len(arm.history) == 2 * math.ceil(16 / 7)
    assert len(arm.sets.training) == 16
    assert arm.sets.forgetting.presentations.sum() == 16  # of the second epoch, after the exchange
    assert (arm.sets.forgetting.spread(arm.sets.training) > 0).any() == (by == "variance")
    assert len(arm.epoch_losses()) == 2
    assert 0 <= arm.accuracy <= 100
    assert arm.seconds > 0
    assert [stage.rule.ratio for stage in arm.host.ordered[:3]] == pytest.approx([0.7] * 3)  # type: ignore[attr-defined]


def test_taking_turns_changes_nothing_for_an_arm(bench: Bench) -> None:
    levels = {"token": Levels(tokens=0.7), "lot": Levels("random", 0.7, lot=True)}
    schedule = Schedule(epochs=2, batch_size=10)
    together = train_arms(levels, bench, schedule, 0, removed=0.2, exchanged=0.05)
    for name in levels:
        alone = train_arms({name: levels[name]}, bench, schedule, 0, removed=0.2, exchanged=0.05)
        assert [step.loss for step in alone[name].history] == [step.loss for step in together[name].history]


def test_controls_stand_beside_what_they_control() -> None:
    scores = {"dense": 1.0, "example_token": 2.0, "all": 3.0, "all_random": 4.0, "all_topk": 5.0}
    assert beside_controls(scores) == {
        "by the method": {"dense": 1.0, "example token": 2.0, "all": 3.0},
        "by lot": {"all": 4.0},
        "fixed-ratio top-k": {"all": 5.0},
    }


def test_accuracies_are_grouped_by_level() -> None:
    figure = accuracies({"dense": 20.0, "all": 30.0, "all_topk": 25.0})
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["dense", "all"]
    plt.close(figure)


def test_the_attention_level_is_set_against_both_dense_trainings() -> None:
    operations = {"dense": 1.0, "dense_unfused": 1.0, "attention": 1.0}
    figure = training_time({"dense": 1.0, "dense_unfused": 1.25, "attention": 1.5, "lot": 9.0}, operations)
    assert "1.50 x dense, 1.20 x dense unfused" in figure.axes[0].get_title()
    assert len(figure.axes[0].get_xticklabels()) == 3
    plt.close(figure)


def test_backbones_that_do_not_take_the_images_are_refused() -> None:
    with pytest.raises(WrongUse, match="deit_s does not take the images of fashion_mnist"):
        prepare("deit_s", "fashion_mnist", "", torch.device("cpu"), images=10, test_images=10)
