"""Mask, component, box and crop: cases by hand, odd grids, both strides, and the control."""

import numpy
import pytest
import torch

from lib.errors import WrongUse
from lib.finegrained.regions import (
    Grid,
    area_share,
    bounding_box,
    boxes_of,
    crop,
    largest_component,
    light_share,
    random_boxes,
    threshold,
)


def mask_of(*rows: str) -> torch.Tensor:
    """`(1, patches)` from rows of '#' and '.'."""
    return torch.tensor([[letter == "#" for row in rows for letter in row]])


def test_threshold_by_hand() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0, 6.0]])  # mean 3
    assert threshold(scores, 1.0).tolist() == [[False, False, False, True]]
    assert threshold(scores, 0.5).tolist() == [[False, True, True, True]]


@pytest.mark.parametrize("factor", [1.0e-30, 0.37, 1.0e20])
def test_positive_factors_change_no_mask(factor: float) -> None:
    scores = torch.rand(20, 49, generator=torch.Generator().manual_seed(0))
    assert torch.equal(threshold(scores * factor, 1.0), threshold(scores, 1.0))


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_equal_scores_give_an_empty_mask_and_the_whole_image(value: float) -> None:
    mask = threshold(torch.full((1, 49), value), 1.0)
    assert not mask.any()
    assert boxes_of(mask, Grid(28, 28, 4, 4)).tolist() == [[0, 0, 28, 28]]


def test_corners_connect_and_the_largest_part_wins() -> None:
    mask = mask_of("#...", ".#..", "....", "..##").view(4, 4).numpy()
    mask[3, 1] = True  # three in the last row against two along a diagonal
    assert largest_component(mask).nonzero()[0].tolist() == [3, 3, 3]
    mask[2, 2] = True  # joins both through corners
    assert largest_component(mask).sum() == 6


def test_of_equal_parts_the_first_in_reading_order_wins() -> None:
    mask = mask_of("#..#").view(1, 4).numpy()
    assert largest_component(mask).tolist() == [[True, False, False, False]]


def test_box_by_hand_tiled_and_overlapping() -> None:
    mask = mask_of("....", ".##.", "..#.", "....")
    assert boxes_of(mask, Grid(16, 16, 4, 4)).tolist() == [[4, 4, 12, 12]]
    # rows 1 to 2 at stride 3: from 3 to 2 x 3 + 4
    assert boxes_of(mask, Grid(13, 13, 4, 3)).tolist() == [[3, 3, 10, 10]]


def test_grid_that_does_not_divide_and_is_not_square() -> None:
    grid = Grid(30, 23, 4, 3)
    assert (grid.rows, grid.columns, grid.patches) == (9, 7, 63)
    boxes = boxes_of(torch.ones(1, 63, dtype=torch.bool), grid)
    assert boxes.tolist() == [[0, 0, 28, 22]]


@pytest.mark.parametrize("stride", [16, 12])
def test_boxes_stay_inside_the_image(stride: int) -> None:
    grid = Grid(448, 448, 16, stride)
    mask = torch.rand(50, grid.patches, generator=torch.Generator().manual_seed(1)) > 0.8
    boxes = boxes_of(mask, grid)
    assert (boxes >= 0).all()
    assert (boxes <= 448).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_random_boxes_have_the_same_size_and_reach_every_edge() -> None:
    grid = Grid(28, 28, 4, 4)
    boxes = torch.tensor([[4, 8, 16, 28]]).expand(500, 4)
    blind = random_boxes(boxes, grid, torch.Generator().manual_seed(0))
    assert torch.equal(blind[:, 2:] - blind[:, :2], boxes[:, 2:] - boxes[:, :2])
    assert (blind[:, 0].min(), blind[:, 2].max(), blind[:, 1].min(), blind[:, 3].max()) == (0, 28, 0, 28)
    assert torch.equal(area_share(blind, grid), area_share(boxes, grid))


def test_random_box_of_the_whole_image_is_the_whole_image() -> None:
    assert random_boxes(torch.tensor([[0, 0, 28, 28]]), Grid(28, 28, 4, 4), None).tolist() == [[0, 0, 28, 28]]


def test_crop_of_the_whole_image_is_the_image() -> None:
    images = torch.randn(2, 3, 9, 7)
    assert torch.equal(crop(images, torch.tensor([[0, 0, 9, 7]] * 2)), images)


def test_crop_is_bilinear_by_hand() -> None:
    image = torch.tensor([[[[0.0, 4.0, 9.0, 9.0]]]])
    # two pixels to four, centres at -0.25, 0.25, 0.75, 1.25 of the two
    torch.testing.assert_close(
        crop(image, torch.tensor([[0, 0, 1, 2]])), torch.tensor([[[[0.0, 1.0, 3.0, 4.0]]]])
    )


def test_box_of_one_patch_is_that_patch() -> None:
    component = numpy.zeros((7, 7), dtype=bool)
    component[6, 6] = True
    assert bounding_box(component, Grid(28, 28, 4, 4)) == (24, 24, 28, 28)


@pytest.mark.parametrize(("patch", "stride"), [(32, 32), (4, 5), (4, 0)])
def test_impossible_grids_are_refused(patch: int, stride: int) -> None:
    with pytest.raises(WrongUse):
        Grid(28, 28, patch, stride)


def test_light_is_counted_from_the_darkest_pixel() -> None:
    images = torch.tensor([[[[-1.0, 0.0], [2.0, -1.0]]], [[[5.0, 5.0], [5.0, 6.0]]]])
    boxes = torch.tensor([[0, 0, 1, 2], [1, 1, 2, 2]])
    # above the darkest: 1 of 1 + 3 in the upper row; all of 1 in the last pixel
    torch.testing.assert_close(light_share(images, boxes), torch.tensor([0.25, 1.0]))
