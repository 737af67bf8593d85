"""Tickets as pixels: blanked and packed images, square maps, and the networks that take them."""

import pytest
import torch

from hw_models import trace
from lib.errors import WrongUse
from lib.lab.torchvision_ops import prepare_torchvision
from lib.vit.pixel_tickets import is_square, side, small_dense, square_map, swin, zeroed


def numbered(batch: int = 1, channels: int = 1, rows: int = 6, columns: int = 6) -> torch.Tensor:
    """Images whose pixels are numbered from 1 on, so that none is 0 by itself."""
    count = batch * channels * rows * columns
    return torch.arange(1.0, count + 1).view(batch, channels, rows, columns)


def test_zeroed_by_hand() -> None:
    ticket = torch.tensor([[0, 5]])
    result = zeroed(numbered(), ticket, 2)[0, 0]
    expected = torch.zeros(6, 6)
    expected[:2, :2] = numbered()[0, 0, :2, :2]
    expected[2:4, 4:] = numbered()[0, 0, 2:4, 4:]
    assert torch.equal(result, expected)


def test_zeroed_with_all_patches_is_the_image_bit_for_bit() -> None:
    images = numbered(2, 3)
    assert torch.equal(zeroed(images, torch.arange(9).expand(2, -1), 2), images)


def test_pixels_that_fill_no_patch_are_blanked() -> None:
    images = numbered(1, 2, 7, 5)
    result = zeroed(images, torch.arange(6)[None], 2)
    assert torch.equal(result[..., :6, :4], images[..., :6, :4])
    assert result[..., 6:, :].abs().sum() == 0
    assert result[..., 4:].abs().sum() == 0


def test_small_dense_by_hand_in_raster_order() -> None:
    image = numbered()[0, 0]
    result = small_dense(numbered(), torch.tensor([[8, 0, 5, 1]]), 2)
    assert result.shape == (1, 1, 4, 4)
    expected = torch.cat(
        (torch.cat((image[:2, :2], image[:2, 2:4]), 1), torch.cat((image[2:4, 4:], image[4:, 4:]), 1))
    )
    assert torch.equal(result[0, 0], expected)


def test_small_dense_with_all_patches_is_the_image_bit_for_bit() -> None:
    images = numbered(3, 2)
    assert torch.equal(small_dense(images, torch.arange(9).expand(3, -1), 2), images)


def test_images_of_a_batch_are_packed_by_their_own_tickets() -> None:
    images = numbered(2, 3)
    tickets = torch.tensor([[0, 1, 2, 3], [2, 4, 6, 8]])
    both = small_dense(images, tickets, 2)
    for row in range(2):
        assert torch.equal(both[row : row + 1], small_dense(images[row : row + 1], tickets[row : row + 1], 2))


def test_squares() -> None:
    assert [count for count in (170, 144, 121, 101, 84) if is_square(count)] == [144, 121]
    assert (side(144), side(121), side(1)) == (12, 11, 1)


@pytest.mark.parametrize("count", [0, 101, 84])
def test_counts_that_fill_no_square_are_refused(count: int) -> None:
    with pytest.raises(WrongUse, match="square"):
        side(count)


def test_small_dense_refuses_a_ticket_that_is_no_square() -> None:
    with pytest.raises(WrongUse, match="5 patches fill no square"):
        small_dense(numbered(), torch.arange(5)[None], 2)


@pytest.mark.parametrize("shape", [(2, 4), (1, 10), (1, 0)])
def test_ticket_of_other_images_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(WrongUse, match="9 patches"):
        zeroed(numbered(), torch.zeros(shape, dtype=torch.long), 2)


def test_square_map_by_hand() -> None:
    values = torch.tensor([[[1.0, 10], [2, 20], [3, 30], [4, 40]]])
    assert square_map(values).tolist() == [[[[1, 2], [3, 4]], [[10, 20], [30, 40]]]]


def test_gradients_pass_through_both_variants() -> None:
    images = numbered().requires_grad_()
    (
        zeroed(images, torch.tensor([[4]]), 2).sum() + small_dense(images, torch.tensor([[4]]), 2).sum()
    ).backward()
    assert images.grad is not None
    assert images.grad.sum() == 8
    assert (images.grad[0, 0, 2:4, 2:4] == 2).all()


def test_swin_t_at_192_pixels_with_windows_of_6() -> None:
    with torch.device("meta"):
        full, small = swin(224), swin(192)
    costs = [
        trace(model, torch.zeros(1, 3, size, size, device="meta")).macs
        for model, size in ((full, 224), (small, 192))
    ]
    windows = [
        [part.window_size for part in m.modules() if hasattr(part, "window_size")] for m in (full, small)
    ]
    assert set(windows[0]) == {(7, 7)}
    assert set(windows[1]) == {(6, 6)}
    assert costs[1] / costs[0] == pytest.approx((192 / 224) ** 2, rel=0.01)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in full.parameters())


def test_small_swin_trains_on_both_variants() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 1, 28, 28)
    ticket = torch.stack([torch.randperm(49)[:25].sort().values for _ in range(2)])
    for made in (zeroed(images, ticket, 4), small_dense(images, ticket, 4)):
        model = swin(made.shape[-1], patch=2, dim=16, depths=(2, 2), heads=(2, 2), channels=1, num_classes=10)
        logits = model(made)
        assert logits.shape == (2, 10)
        logits.square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_swin_refuses_images_of_broken_tokens() -> None:
    with pytest.raises(WrongUse, match="150 pixels"):
        swin(150)


def test_resnet_50_takes_zeroed_images_at_no_lower_cost() -> None:
    prepare_torchvision()
    import timm

    with torch.device("meta"):
        model = timm.create_model("resnet50")
        images = torch.zeros(1, 3, 224, 224)
        blanked = zeroed(images, torch.arange(144)[None], 16)
    assert blanked.shape == images.shape
    assert trace(model, blanked).macs == trace(model, images).macs
