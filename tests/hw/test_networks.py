"""Published architectures: parameters exact, multiply-accumulates as derived from their definitions."""

import pytest
import torch

from hw_models import Workload, trace
from lib.lab.torchvision_ops import prepare_torchvision


def traced(name: str) -> Workload:
    prepare_torchvision()
    import timm

    with torch.device("meta"):  # counting needs no weights
        model = timm.create_model(name)
    return trace(model, torch.empty(1, 3, 224, 224))


def deit_macs(width: int, blocks: int = 12, patches: int = 196, classes: int = 1000) -> int:
    tokens = patches + 1
    block = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * 4 * tokens * width**2
    return patches * 16 * 16 * 3 * width + blocks * block + width * classes


@pytest.mark.parametrize(
    ("name", "width", "gmacs", "params"),
    [
        ("deit_tiny_patch16_224", 192, 1.254, 5_717_416),
        ("deit_small_patch16_224", 384, 4.599, 22_050_664),
        ("deit_base_patch16_224", 768, 17.564, 86_567_656),
    ],
)
def test_deit(name: str, width: int, gmacs: float, params: int) -> None:
    workload = traced(name)
    assert workload.macs == deit_macs(width)
    assert round(workload.macs / 1e9, 3) == gmacs
    assert workload.params == sum(layer.params for layer in workload.layers) == params
    assert workload.weight_bytes == 4 * params
    assert (workload.execution, workload.uncounted, workload.unread_params) == ("fake", (), ())


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("swin_tiny_patch4_window7_224", 4.49),
        ("swin_small_patch4_window7_224", 8.74),
        ("swin_base_patch4_window7_224", 15.43),
        ("pit_ti_224", 0.70),
        ("pit_xs_224", 1.39),
        ("pit_s_224", 2.87),
        ("pit_b_224", 12.40),
    ],
)
def test_hierarchical_transformers(name: str, gmacs: float) -> None:
    workload = traced(name)
    assert round(workload.macs / 1e9, 2) == gmacs
    assert not workload.uncounted


@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [
        ("resnet18", 1_814_073_344, 11_689_512),
        ("mobilenetv2_100", 300_774_272, 3_504_872),  # depthwise convolutions
    ],
)
def test_convolutional_networks(name: str, macs: int, params: int) -> None:
    workload = traced(name)
    assert (workload.macs, workload.params) == (macs, params)
    assert not workload.uncounted


def test_fused_and_unfused_attention_agree_on_a_whole_network() -> None:
    prepare_torchvision()
    from timm.layers import set_fused_attn, use_fused_attn

    before = use_fused_attn()
    counts = []
    try:
        for fused in (True, False):
            set_fused_attn(fused)
            workload = traced("deit_tiny_patch16_224")
            counts.append((workload.macs, sum(layer.kind == "attention" for layer in workload.layers)))
    finally:
        set_fused_attn(bool(before))
    assert counts == [(deit_macs(192), 12), (deit_macs(192), 0)]


def test_real_execution_counts_the_same() -> None:
    prepare_torchvision()
    import timm

    class Checked(torch.nn.Module):
        """Looks at a value, which shapes alone cannot give."""

        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x if x.sum().item() == 0 else x * 0)

    workload = trace(Checked(timm.create_model("deit_tiny_patch16_224")), torch.zeros(1, 3, 224, 224))
    assert (workload.execution, workload.macs) == ("real", deit_macs(192))


def test_position_biases_are_weights_and_not_read_for_every_image() -> None:
    """Swin gathers a 7 x 7 window's biases from a table of 13 x 13 for each head, in each of its blocks."""
    workload = traced("swin_tiny_patch4_window7_224")
    added = next(layer for layer in workload.layers if layer.operation == "aten.add")
    windows, heads, tokens = 64, 3, 49
    assert added.name == "layers.0.blocks.0.attn"
    assert added.input_elements == windows * heads * tokens**2
    assert added.weight_elements == heads * tokens**2


def test_standardised_weights_are_weights() -> None:
    workload = traced("resnetv2_50x1_bit")
    names = {layer.weight for layer in workload.layers if layer.kind == "convolution"}
    assert None not in names
    assert "stages.0.blocks.0.conv1.weight" in names
    assert workload.weight_bytes == 4 * workload.params
