"""Fine-tuning: what it trains, in which order, and how it leaves the network."""

import copy
from functools import cache

import pytest
import torch
from torch import Tensor

from lib.errors import ReproError
from lib.lab.compute import seeded
from lib.lab.datasets import ImageSplit, load
from lib.vit import spvit
from lib.vit.finetune import Recipe, Step, finetune
from lib.vit.host import TokenHost
from tests.vit.parts import network

TARGETS = (0.7, 0.49, 0.343)
FROZEN = {"backbone.cls_token", "backbone.pos_embed"}


@cache
def split() -> ImageSplit:
    return load("fashion_mnist", "train", limit=40)


def made(seed: int = 0, targets: tuple[float, ...] = TARGETS) -> TokenHost:
    torch.manual_seed(seed)
    return spvit.prune(network(), targets)


def trained(
    host: TokenHost, recipe: Recipe, seed: int = 0, targets: tuple[float, ...] = TARGETS
) -> list[Step]:
    teacher = network()
    return list(finetune(host, teacher, split(), spvit.objective(targets), recipe, seeded(seed)))


def snapshot(host: TokenHost) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in host.named_parameters()}


def test_every_parameter_but_the_frozen_ones_is_trained() -> None:
    host = made()
    before = snapshot(host)
    trained(host, Recipe(epochs=2, batch_size=8))
    unchanged = {name for name, value in host.named_parameters() if torch.equal(value, before[name])}
    assert unchanged == FROZEN


def test_network_is_left_in_evaluation_mode_with_all_stages_in_use() -> None:
    host = made()
    trained(host, Recipe(epochs=1, batch_size=20))
    assert not host.training
    assert host.active == {3, 6, 9}


def test_teacher_is_left_as_it_was() -> None:
    teacher = network()
    before = copy.deepcopy(teacher.state_dict())
    list(finetune(made(), teacher, split(), spvit.objective(TARGETS), Recipe(1, batch_size=20), seeded(0)))
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_stages_come_in_from_the_back(monkeypatch: pytest.MonkeyPatch) -> None:
    host = made()
    used: list[list[int]] = []
    activate = host.activate

    def listen(blocks: frozenset[int]) -> None:
        used.append(sorted(blocks))
        activate(blocks)

    monkeypatch.setattr(host, "activate", listen)
    steps = trained(host, Recipe(epochs=3, batch_size=20))
    # six steps: one more stage in each third of the first half
    assert used == [[9], [6, 9], [3, 6, 9], [3, 6, 9], [3, 6, 9], [3, 6, 9], [3, 6, 9]]
    assert [len(step.kept) for step in steps] == [1, 2, 3, 3, 3, 3]


def test_all_stages_at_once_if_asked() -> None:
    steps = trained(made(), Recipe(epochs=1, batch_size=20, progressive=False))
    assert [len(step.kept) for step in steps] == [3, 3]


def test_backbone_rests_at_first() -> None:
    host = made()
    before = snapshot(host)
    recipe = Recipe(epochs=2, batch_size=8, progressive=False)
    steps = finetune(host, network(), split(), spvit.objective(TARGETS), recipe, seeded(0))
    next(steps)
    changed = {name for name, value in host.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("stages.")}


def test_steps_are_counted_and_the_odd_batch_at_the_end_is_used() -> None:
    steps = trained(made(), Recipe(epochs=2, batch_size=16))
    assert [step.index for step in steps] == [1, 2, 3, 4, 5, 6]
    assert {step.total for step in steps} == {6}


def test_equal_seeds_train_equal_networks() -> None:
    first, second, other = made(), made(), made()
    for host, seed in ((first, 0), (second, 0), (other, 1)):
        trained(host, Recipe(epochs=1, batch_size=20), seed)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_stages_learn_their_targets() -> None:
    host = made()
    recipe = Recipe(8, batch_size=20, learning_rate=0.02, progressive=False, backbone_scale=0.0)
    weights = spvit.LossWeights(distillation=0.0, tokens=0.0, ratio=50.0)
    targets = (0.9, 0.5, 0.1)
    asking = spvit.objective(targets, weights)
    steps = list(finetune(host, network(), split(), asking, recipe, seeded(0)))

    def error(step: Step) -> float:
        return sum(abs(kept - rho) for kept, rho in zip(step.kept, targets, strict=True))

    assert error(steps[-1]) < error(steps[0])
    assert error(steps[-1]) < 0.2


def test_targets_of_one_in_front_have_no_stage_and_do_not_disturb() -> None:
    targets = (1.0, 0.7, 0.49)
    host = made(targets=targets)
    steps = trained(host, Recipe(epochs=2, batch_size=20), targets=targets)
    assert [len(step.kept) for step in steps] == [1, 2, 2, 2]


def test_random_control_trains_the_backbone_alone() -> None:
    host = spvit.prune_randomly(network(), (34, 24, 16))
    before = snapshot(host)
    trained(host, Recipe(epochs=1, batch_size=8))
    unchanged = {name for name, value in host.named_parameters() if torch.equal(value, before[name])}
    assert unchanged == FROZEN


def test_gradients_of_frozen_tokens_do_not_shrink_the_steps_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clipped: list[set[int]] = []
    clip = torch.nn.utils.clip_grad_norm_

    def listen(parameters: list[Tensor], norm: float) -> Tensor:
        clipped.append({id(parameter) for parameter in parameters})
        return clip(parameters, norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", listen)
    host = made()
    trained(host, Recipe(epochs=1, batch_size=20))
    frozen = {id(parameter) for name, parameter in host.named_parameters() if name in FROZEN}
    assert all(not ids & frozen for ids in clipped)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    host = made()
    with torch.no_grad():
        host.get_parameter("backbone.head.weight").fill_(float("inf"))
    with pytest.raises(ReproError, match="lower learning_rate"):
        trained(host, Recipe(epochs=1))
