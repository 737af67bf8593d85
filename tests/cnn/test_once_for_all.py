"""Joint training: what is sampled, who teaches whom, and the uniform baselines."""

import pytest
import torch
from torch.nn import functional as F

from lib.cnn.counting import counter
from lib.cnn.once_for_all import Sampler, calibrated, divergence, joint_loss, leading_structures, resized
from lib.cnn.sites import Kept, whole
from lib.cnn.subnetwork import SubNetworks
from lib.errors import ReproError, WrongUse
from tests.cnn.parts import blank, network, pictures, sites_of, some_channels


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_resizing_to_the_same_side_changes_nothing_and_means_stay() -> None:
    images = pictures(2, 16)
    assert resized(images, 16) is images
    constant = torch.full((1, 1, 16, 16), 3.0)
    torch.testing.assert_close(resized(constant, 7), torch.full((1, 1, 7, 7), 3.0))
    assert resized(images, 9).shape == (2, 1, 9, 9)


def test_divergence_by_hand_and_zero_between_equals() -> None:
    teacher = torch.tensor([[0.0, 0.0]])
    student = torch.tensor([[0.0, 1.0986123]])  # probabilities 1/4 and 3/4
    by_hand = 0.5 * torch.tensor(2.0).log() + 0.5 * torch.tensor(2 / 3).log()
    torch.testing.assert_close(divergence(teacher, student), by_hand)
    assert divergence(teacher, teacher).abs() < 1e-7


def test_the_teacher_gets_no_gradient() -> None:
    teacher, student = torch.randn(3, 5).requires_grad_(), torch.randn(3, 5).requires_grad_()
    divergence(teacher, student).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


def test_every_step_has_the_narrowest_structure_and_all_are_drawn_in_time() -> None:
    structures: dict[tuple[float, int], Kept] = {
        (rate, side): {} for rate in (0.0, 0.5, 0.7) for side in (28, 20)
    }
    sampler, generator, seen = Sampler(structures), draws(), set()
    for _ in range(60):
        narrow, *others = sampler.draw(generator)
        assert narrow[0] == 0.7
        assert len(others) == 2
        seen |= {narrow, *others}
    assert seen == set(structures)
    assert sampler.largest == 28


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(WrongUse, match="at least one structure"):
        Sampler({})


def test_loss_is_cross_entropy_where_all_structures_are_the_whole_network() -> None:
    model = network().eval()
    sites = sites_of(model)
    images, labels = pictures(3), torch.tensor([0, 1, 2])
    loss = joint_loss(SubNetworks(model, sites), Sampler({(0.0, 28): whole(sites)}), draws())
    with torch.no_grad():
        value = loss(images, labels, torch.arange(3), 0.0)
    torch.testing.assert_close(value, F.cross_entropy(model(images), labels).detach())


def test_gradients_reach_channels_that_the_structure_lacks_only_through_the_labels() -> None:
    model = network()
    sites = sites_of(model)
    images, labels = pictures(4), torch.tensor([0, 1, 2, 3])
    kept = {"blocks.2.layers.0.0": torch.arange(10)}
    weight = model.get_parameter("blocks.2.layers.0.0.weight")
    plain = torch.autograd.grad(F.cross_entropy(model(images), labels), weight)[0]
    loss = joint_loss(SubNetworks(model, sites), Sampler({(0.5, 28): kept}), draws())
    joint = torch.autograd.grad(loss(images, labels, torch.arange(4), 0.0), weight)[0]
    torch.testing.assert_close(joint[10:], plain[10:])
    assert not torch.allclose(joint[:10], plain[:10], atol=1e-4)


def test_uniform_structures_are_leading_and_cost_no_more() -> None:
    model = network()
    sites = sites_of(model)
    macs = counter(model, sites, blank("resnet_small")).macs
    learned = {(0.4, 28): some_channels(sites, 0.6), (0.0, 28): {}}
    found = leading_structures(learned, sites, macs, least=4)
    assert found[0.0, 28] == {}
    uniform = found[0.4, 28]
    assert all(index.tolist() == list(range(len(index))) for index in uniform.values())
    costs = [macs({n: len(i) for n, i in kept.items()}) for kept in (uniform, learned[0.4, 28])]
    assert 0.9 * costs[1] < costs[0] <= costs[1]


def test_uniform_structure_that_cannot_be_as_cheap_is_refused() -> None:
    model = network()
    sites = sites_of(model)
    learned = {(0.9, 28): some_channels(sites, 0.01)}
    with pytest.raises(ReproError, match=r"no uniform width .* rate 0\.9"):
        leading_structures(learned, sites, counter(model, sites, blank("resnet_small")).macs, least=8)


def test_statistics_of_a_structure_depend_on_its_side_and_leave_the_parent_alone() -> None:
    model = network()
    sites = sites_of(model)
    kept, subs = some_channels(sites), SubNetworks(model, sites)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small, large = (calibrated(subs, kept, side, [pictures(16)]) for side in (14, 28))
    name = "blocks.2.layers.1.1.running_var"
    assert small[name].shape == (len(kept["blocks.2.layers.1.0"]),)
    assert not torch.allclose(small[name], large[name], rtol=0.01)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
