"""Tokens in rows, and their means."""

import pytest
import torch

from lib.vit.tokens import (
    IMAGE,
    PACKAGE,
    PREFIX,
    Rows,
    outside_box,
    segment_mean,
)


def test_segment_mean_by_hand() -> None:
    values = torch.tensor([[1.0, 10.0], [3.0, 30.0], [5.0, 50.0], [7.0, 70.0]])
    weight = torch.tensor([1.0, 3.0, 0.0, 2.0])
    image = torch.tensor([0, 0, 1, 1])
    # image 0: (1*1 + 3*3) / 4 = 2.5; image 1: its first row has no weight
    assert segment_mean(values, weight, image, 2).tolist() == [[2.5, 25.0], [7.0, 70.0]]


def test_segment_mean_of_an_image_without_weight_is_zero() -> None:
    values, image = torch.ones(2, 3), torch.tensor([0, 2])
    means = segment_mean(values, torch.tensor([1.0, 0.0]), image, 3)
    assert means.tolist() == [[1.0] * 3, [0.0] * 3, [0.0] * 3]


def test_segment_mean_of_values_per_head() -> None:
    values = torch.arange(12.0).view(2, 3, 2)
    means = segment_mean(values, torch.ones(2), torch.tensor([0, 0]), 1)
    assert torch.equal(means, values.mean(0, keepdim=True))


def test_normalised_package_stays_in_the_box_of_its_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, 20, 8, generator=generator)
    weight = torch.rand(4, 20, generator=generator)
    weight = weight * (weight > 0.5)
    image = torch.arange(4).repeat_interleave(20)
    package = segment_mean(values.flatten(0, 1), weight.flatten(), image, 4)
    assert outside_box(package, values, weight) <= 1.0e-6


def test_unnormalised_package_leaves_the_box() -> None:
    values = torch.tensor([[[1.0], [2.0], [9.0]]])
    weight = torch.tensor([[0.9, 0.8, 0.0]])
    package = (weight[..., None] * values).sum(1)
    # 0.9 + 1.6 = 2.5 lies 0.5 above the larger of the two tokens that count
    assert outside_box(package, values, weight) == pytest.approx(0.5)


def test_rows_hold_every_token_of_every_image() -> None:
    x = torch.arange(12.0).view(2, 3, 2)
    rows = Rows.of(x, prefix=1)
    assert rows.kind.tolist() == [PREFIX, IMAGE, IMAGE] * 2
    assert rows.position.tolist() == [-1, 0, 1] * 2
    assert rows.uniform
    assert torch.equal(rows.dense(), x)


def test_kept_rows_and_packages_by_hand() -> None:
    rows = Rows.of(torch.arange(6.0).view(2, 3, 1), prefix=1)
    keep = torch.tensor([True, False, True, True, True, True])
    left = rows.kept(keep, torch.tensor([[10.0], [20.0]]), torch.tensor([True, False]))
    assert left.values.flatten().tolist() == [0, 2, 10, 3, 4, 5]
    assert left.image.tolist() == [0, 0, 0, 1, 1, 1]
    assert left.kind.tolist() == [PREFIX, IMAGE, PACKAGE, PREFIX, IMAGE, IMAGE]
    assert left.position.tolist() == [-1, 1, -1, -1, 0, 1]
    assert left.lengths == (3, 3)


def test_groups_gather_images_of_equal_length() -> None:
    rows = Rows.of(torch.zeros(3, 3, 1), prefix=1)
    keep = torch.tensor([True, True, True, True, False, True, True, True, True])
    left = rows.kept(keep, torch.zeros(3, 1), torch.zeros(3, dtype=torch.bool))
    assert [(length, index.tolist()) for length, index in left.groups] == [
        (2, [[3, 4]]),
        (3, [[0, 1, 2], [5, 6, 7]]),
    ]
