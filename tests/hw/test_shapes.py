"""Multiply-accumulates that can be worked out by hand."""

import pytest

from hw_models.shapes import Attention, Convolution, Gemm


def test_gemm_counts_every_product() -> None:
    assert Gemm(batch=3, m=2, k=5, n=7).macs == 3 * 2 * 5 * 7


def test_attention_counts_both_products() -> None:
    shape = Attention(batch=2, heads=3, queries=5, keys=7, width=4, value_width=6)
    assert shape.macs == 2 * 3 * (5 * 7 * 4 + 5 * 7 * 6)


@pytest.mark.parametrize(
    ("transposed", "positions"),
    [(False, 4 * 4), (True, 9 * 9)],
)
def test_convolution_works_per_output_and_transposed_per_input(transposed: bool, positions: int) -> None:
    shape = Convolution(
        batch=2,
        channels_in=6,
        channels_out=4,
        groups=2,
        kernel=(3, 3),
        stride=(2, 2),
        padding=(0, 0),
        dilation=(1, 1),
        size_in=(9, 9),
        size_out=(4, 4),
        transposed=transposed,
    )
    assert shape.macs == 2 * positions * 3 * 3 * 6 * 4 // 2
