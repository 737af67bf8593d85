"""The arms: what sets them apart, that they are trained alike, and what does not go together."""

import pytest
import torch

from lib.catalogue import find
from lib.errors import WrongUse
from lib.finegrained.experiment import Bench, arms, prepare, train_arm, with_rows
from lib.lab.backbones import trained_small_vit
from lib.lab.fit import Schedule
from lib.lab.train import accuracy

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return prepare("small_vit", "fashion_upper_body", "", CPU, images=32, test_images=50)


def test_the_look_alikes_keep_their_rows_of_the_head(bench: Bench) -> None:
    rows = [find("fashion_mnist").classes.index(name) for name in bench.test.classes]
    images, _ = next(bench.test.batches(4))
    with torch.no_grad():
        whole = trained_small_vit()(images)[:, rows]
        torch.testing.assert_close(bench.dense(images), whole)


def test_a_head_of_other_rows_is_in_their_order() -> None:
    vit = trained_small_vit()
    assert isinstance(vit.head, torch.nn.Linear)
    bias = vit.head.bias.detach().clone()
    head = with_rows(vit, [3, 1]).head
    assert isinstance(head, torch.nn.Linear)
    assert torch.equal(head.bias, bias[[3, 1]])


def test_only_the_global_arm_has_no_local_loss() -> None:
    plans = arms(1.0, 4, 0.5)
    assert [name for name, plan in plans.items() if plan.beta == 0] == ["global_only"]
    assert plans["random_region"].settings.where == "random"
    assert not plans["uniform"].settings.gated


def test_an_arm_trains_repeatably_and_leaves_the_start_and_its_gate_alone(bench: Bench) -> None:
    before = {name: value.clone() for name, value in bench.dense.state_dict().items()}
    schedule = Schedule(1, 16, 1e-3, warmup_epochs=0.1)
    plan = arms(1.0, 4, 1.0)["aftrans"]
    one, two = (train_arm("aftrans", plan, bench, schedule, 3, 1.0) for _ in range(2))
    assert one.losses == two.losses
    assert one.gate_moved == 0
    assert all(torch.equal(value, before[name]) for name, value in bench.dense.state_dict().items())


def test_the_start_is_the_pretrained_network_untrained(bench: Bench) -> None:
    start = train_arm("start", arms(1.0, 4, 1.0)["start"], bench, Schedule(1, 16, 1e-3), 0, 1.0)
    assert (start.losses, start.gate_moved) == ((), 0)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            start.model.backbone.state_dict().values(), bench.dense.state_dict().values(), strict=True
        )
    )
    assert start.whole == pytest.approx(100 * accuracy(bench.dense, bench.test))


def test_training_moves_a_taught_gate(bench: Bench) -> None:
    schedule = Schedule(1, 16, 1e-3, warmup_epochs=0.1)
    assert train_arm("taught", arms(1.0, 4, 1.0)["taught_gate"], bench, schedule, 0, 1.0).gate_moved > 0


@pytest.mark.parametrize(
    ("backbone", "dataset"),
    [("vit_b16", "fashion_upper_body"), ("small_vit", "cub200"), ("vit_b16", "imagenet")],
)
def test_what_does_not_go_together_is_refused(backbone: str, dataset: str) -> None:
    with pytest.raises(WrongUse, match="does not go with"):
        prepare(backbone, dataset, "", CPU, images=10, test_images=10)
