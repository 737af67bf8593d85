"""The closed formulas against the traced network, and the figures that rest on them."""

import pytest
import torch

from hw_models import trace
from lib.finegrained.costs import Shape
from lib.finegrained.overlap import overlapping_vit


@pytest.mark.parametrize(("image", "stride"), [(32, 8), (35, 6), (32, 5)])
def test_formula_is_the_traced_network(image: int, stride: int) -> None:
    shape = Shape(layers=3, heads=2, dim=16, patch=8, channels=1, classes=7)
    vit = overlapping_vit(
        image, stride, patch_size=8, in_chans=1, embed_dim=16, depth=3, num_heads=2, num_classes=7
    )
    work = trace(vit.eval(), torch.zeros(1, 1, image, image))
    assert (work.macs, work.params) == (shape.macs(image, stride), shape.parameters(image, stride))


def test_tokens_of_vit_b16() -> None:
    sizes = ((224, 16), (304, 16), (304, 12), (448, 16), (448, 12))
    assert [Shape().tokens(*size) for size in sizes] == [197, 362, 626, 785, 1370]


def test_head_products_by_hand() -> None:
    assert Shape().head_products(448, 12) == 12 * 11 * 1370**2 == 247_750_800
    assert Shape().head_products(224, 12) == 12 * 11 * 325**2


def test_products_double_with_the_layers_but_not_with_the_heads() -> None:
    assert Shape().doubling("layers", 448, 12) == 2
    assert Shape().doubling("heads", 448, 12) == pytest.approx(23 / 11)
    assert Shape(heads=2).doubling("heads", 224, 16) == 3


@pytest.mark.parametrize(("image", "printed"), [(224, 0.0795), (448, 0.3162), (768, 0.7072), (1024, 1.0487)])
def test_the_published_shares_come_out_to_the_last_digit(image: int, printed: float) -> None:
    assert round(Shape().published_share(image), 4) == printed


def test_the_share_at_one_stride_is_half_of_the_published_one() -> None:
    assert Shape().share(448, 12) == pytest.approx(0.1632, abs=1e-4)
    assert Shape().published_share(448) / Shape().share(448, 12) == pytest.approx(1.94, abs=0.01)


def test_added_parameters_are_a_token_a_table_and_the_gate() -> None:
    assert Shape().added_parameters(448, 16) == (785 + 1) * 768 + 72
    assert Shape().added_parameters(448, 12, reduction=1) == (1370 + 1) * 768 + 288
