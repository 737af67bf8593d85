"""The experiment on tickets: what networks are shown, equal starts, and what positions alone tell."""

import pytest
import torch
from torch import Tensor, nn

from lib.lab.datasets import ImageSplit, load
from lib.lab.fit import Schedule
from lib.vit.ticket_arms import (
    Fed,
    ScratchArm,
    Views,
    families,
    given,
    lv_student,
    positions_accuracy,
    score_arms,
    student,
    swin_student,
    train_shown,
)
from lib.vit.vit_data_lth import TicketViT, find_tickets, ticket_selector
from tests.vit.parts import network, pictures


@pytest.fixture(scope="module")
def split() -> ImageSplit:
    return load("fashion_mnist", "train", limit=32)


def whole(images: Tensor) -> tuple[Tensor, ...]:
    return (images,)


def narrow() -> nn.Module:
    return TicketViT(student("small_vit", "fashion_mnist", depth=1))


def test_network_is_fed_what_it_is_shown_and_the_selector_is_no_part_of_it() -> None:
    selector = ticket_selector(network(), 0.5)
    model = TicketViT(network()).eval()
    fed = Fed(model, lambda images: (images, find_tickets(selector, images)))
    images = pictures(2, network())
    assert torch.equal(fed(images), model(images, find_tickets(selector, images)))
    assert len(list(fed.parameters())) == len(list(model.parameters()))


def test_arms_of_one_seed_start_from_the_same_weights_and_see_the_same_images(split: ImageSplit) -> None:
    seen: list[Tensor] = []

    def noted(images: Tensor) -> tuple[Tensor, ...]:
        seen.append(images)
        return (images,)

    still = Schedule(1, 16, learning_rate=0.0, weight_decay=0.0)
    first, second = (train_shown("arm", narrow, noted, split, still, seed=5) for _ in range(2))
    assert torch.equal(seen[0], seen[2])
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert first.losses == second.losses
    assert not first.model.training


def test_training_lowers_the_loss(split: ImageSplit) -> None:
    arm = train_shown("arm", narrow, whole, split, Schedule(12, 16, 3e-3), seed=0)
    assert len(arm.losses) == 24
    assert sum(arm.losses[-4:]) < 0.8 * sum(arm.losses[:4])


def test_limited_training_sees_the_front_of_the_split(split: ImageSplit) -> None:
    seen: list[Tensor] = []

    def noted(images: Tensor) -> tuple[Tensor, ...]:
        seen.append(images)
        return (images,)

    still = Schedule(1, 16, learning_rate=0.0, shift_pixels=0)
    train_shown("arm", narrow, noted, split, still, seed=0, limit=5)
    front = torch.stack([split[index][0] for index in range(5)])
    ((images,),) = [seen]
    found = {tuple(image.abs().sum(0).sum(0).sort().values.tolist()) for image in images}
    assert found == {tuple(image.abs().sum(0).sum(0).sort().values.tolist()) for image in front}


class Constant(nn.Module):
    """Answers one class, or the number of the first patch it is given."""

    def __init__(self, answer: int | None = None) -> None:
        super().__init__()
        self.anchor, self.answer = nn.Parameter(torch.zeros(1)), answer

    def forward(self, images: Tensor, ticket: Tensor | None = None) -> Tensor:
        answer = (
            torch.full((len(images),), self.answer) if self.answer is not None else images[:, 0, 0, 0].long()
        )
        return nn.functional.one_hot(answer, 10).float()


def test_every_arm_is_tested_in_every_way_on_the_same_patches(split: ImageSplit) -> None:
    calls: list[int] = []

    def drawn(images: Tensor) -> tuple[Tensor, ...]:
        calls.append(len(images))
        return (torch.zeros_like(images),)

    arms = {
        name: ScratchArm(name, Constant(answer), []) for name, answer in (("a", 0), ("b", 3), ("c", None))
    }
    found = score_arms(arms, split, {"whole": whole, "drawn": drawn})
    share = [100 * float((split.labels == label).double().mean()) for label in (0, 3)]
    assert found["a"] == {"whole": share[0], "drawn": share[0]}
    assert found["b"]["drawn"] == share[1]
    assert found["c"]["drawn"] == share[0]
    assert calls == [32]


def test_views_show_tickets_of_equal_size() -> None:
    views = Views(ticket_selector(network(), 0.78), torch.Generator().manual_seed(0))
    images = pictures(3, network())
    assert views.counts == (39, 31, 25)
    assert views.tickets(images)[1].shape == views.random(images)[1].shape == (3, 25)
    assert torch.equal(views.tickets(images)[1], find_tickets(views.selector, images))
    assert views.everything(images) == (images,)
    assert Views(ticket_selector(network(), 1.0), views.draws).counts == (49,)


def test_known_tickets_serve_every_batch_size() -> None:
    model = TicketViT(network()).eval()
    known = given(model, torch.arange(25)[None])
    images = pictures(3, network())
    assert torch.equal(known(images), model(images, torch.arange(25).expand(3, -1)))


@pytest.mark.parametrize(("rate", "packed"), [(0.78, True), (0.8, False)])
def test_families_train_and_pack_squares_only(split: ImageSplit, rate: float, packed: bool) -> None:
    views = Views(ticket_selector(network(), rate), torch.Generator().manual_seed(0))
    networks = families("small_vit", "fashion_mnist", views, 28)
    assert ("Swin small dense" in networks) is packed
    assert set(networks) >= {"Swin", "Swin zero", "LV-ViT", "LV-ViT tickets"}
    if packed:
        for name, (make, shown) in networks.items():
            arm = train_shown(name, make, shown, split, Schedule(1, 16), seed=0, limit=16)
            assert len(arm.losses) == 1


def test_lv_student_has_the_small_patches_and_the_auxiliary_head() -> None:
    model = lv_student("small_vit", "cifar10")
    ticket = torch.arange(9)[None]
    model.eval()
    logits = TicketViT(model)(torch.randn(1, 3, 32, 32), ticket)
    assert logits.shape == (1, 10)
    logits.sum().backward()
    assert model.aux_head.weight.grad is not None  # type: ignore[union-attr]
    assert model.patch_embed.num_patches == 64


def test_swin_student_takes_whole_and_packed_images() -> None:
    for size in (28, 20):
        assert swin_student("small_vit", "fashion_mnist", size)(torch.zeros(1, 1, size, size)).shape == (
            1,
            10,
        )


def test_positions_alone_tell_a_class_only_if_the_selector_does(split: ImageSplit) -> None:
    # a selector that keeps the left half of class 0 and the right half of all others would tell class 0
    class Telling(nn.Module):
        patches = 4

        def __init__(self) -> None:
            super().__init__()
            self.anchor = nn.Parameter(torch.zeros(1))
            self.place = 0

        def forward(self, images: Tensor) -> object:
            from lib.vit.host import Output, StageTrace

            labels = split.labels[self.place : self.place + len(images)]
            self.place = (self.place + len(images)) % len(split)
            keep = torch.zeros(len(images), 4)
            keep[:, :2] = 1.0
            keep[labels > 0] = torch.tensor([0.0, 0, 1, 1])
            return Output(torch.zeros(len(images), 2), [StageTrace(keep, keep)])

    told = positions_accuracy(Telling(), split, split)  # type: ignore[arg-type]
    shares = torch.bincount(split.labels, minlength=10).double() / len(split)
    assert told == pytest.approx(100 * float(shares[0] + shares[1:].max()))
