"""Networks: sizes, LV-ViT's own parts, weights, and what happens without them."""

from pathlib import Path
from typing import Never

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from lib.errors import ReproError, WrongUse
from lib.lab.backbones import (
    OWN,
    TIMM,
    ConvStem,
    Scale,
    _lv_vit,
    build,
    load_weights,
    parameters,
    small_vit,
    trained_small_vit,
)
from lib.lab.datasets import load
from lib.lab.torchvision_ops import prepare_torchvision
from lib.lab.train import accuracy
from lib.samples import sample
from lib.vit.host import blocks_of


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("small_vit", 612_458),
        ("deit_t", 5_717_416),
        ("deit_s", 22_050_664),
        ("lv_vit_s", 26_151_824),
        ("lv_vit_m", 55_830_544),
    ],
)
def test_parameter_counts_are_those_of_the_sheet(name: str, count: int) -> None:
    assert parameters(build(name)) == count


def test_networks_come_in_evaluation_mode_with_the_classes_asked_for() -> None:
    for name, classes in (("small_vit", 10), ("small_vit", 3), ("deit_t", 7)):
        model = build(name, num_classes=classes)
        images = torch.zeros(1, 1, 28, 28) if name == "small_vit" else torch.zeros(1, 3, 224, 224)
        assert not model.training
        with torch.inference_mode():
            assert model(images).shape == (1, classes)


@pytest.mark.parametrize("widths", [(8,), (8, 8, 8)])
def test_stem_makes_one_token_per_patch(widths: tuple[int, ...]) -> None:
    stem = ConvStem(28, 4, 1, 16, widths=widths, kernel=3, activation=nn.GELU)
    assert stem(torch.zeros(2, 1, 28, 28)).shape == (2, 49, 16)
    assert (stem.num_patches, stem.grid_size) == (49, (7, 7))


def test_stem_token_sees_its_own_patch() -> None:
    stem = ConvStem(28, 4, 1, 16, widths=(8,), kernel=3, activation=nn.GELU).eval()
    image = torch.zeros(1, 1, 28, 28)
    dark = stem(image)
    image[..., 9:11, 5:7] = 1.0  # inside the patch in row 2, column 1
    changed = (stem(image) != dark).any(-1)[0].nonzero().flatten().tolist()
    assert changed == [2 * 7 + 1]


def test_lv_vit_adds_half_the_maximum_of_its_auxiliary_head() -> None:
    model = _lv_vit(5, 32, 1, 4).eval()
    tokens = torch.randn(2, 197, 32)
    with torch.inference_mode():
        expected = (
            model.head(tokens[:, 0]) + 0.5 * model.get_submodule("aux_head")(tokens[:, 1:]).max(1).values
        )
        torch.testing.assert_close(model.forward_head(tokens), expected)


def test_lv_vit_halves_its_residual_branches() -> None:
    model = _lv_vit(5, 32, 1, 4).eval()
    block, x = blocks_of(model)[0], torch.randn(1, 4, 32)
    with torch.inference_mode():
        y = x + block.attn(block.norm1(x)) / 2
        torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)) / 2)
    assert torch.equal(Scale(0.5)(x), x / 2)


@pytest.mark.parametrize(
    ("name", "near"), [("deit_xs", "deit_s"), ("lvvit_s", "lv_vit_s"), ("small-vit", "small_vit")]
)
def test_unknown_backbone_suggests_the_nearest(name: str, near: str) -> None:
    with pytest.raises(WrongUse, match=f"unknown backbone '{name}'; did you mean {near}"):
        build(name)


def test_unknown_backbone_like_no_other_lists_them_all() -> None:
    with pytest.raises(WrongUse, match=r"known: deit_b, .*swin_t"):
        build("xxxxxxxx")


@pytest.mark.parametrize("name", sorted(OWN))
def test_own_networks_have_no_weights_in_timm(name: str) -> None:
    with pytest.raises(WrongUse, match=f"{name} has no weights in timm"):
        build(name, pretrained=True)


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("offline")])
def test_weights_that_cannot_be_fetched_say_what_to_do(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_args: object, **_options: object) -> Never:
        raise error

    prepare_torchvision()
    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(ReproError, match=f"{TIMM['deit_s']} could not be fetched.*HF_HOME"):
        build("deit_s", pretrained=True)
    with pytest.raises(type(error)):
        build("deit_s")


def test_saved_weights_are_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = small_vit(), small_vit()
    save_file(first.state_dict(), tmp_path / "weights.safetensors")
    assert load_weights(second, tmp_path / "weights.safetensors") is second
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_missing_truncated_and_misfitting_weights_are_clear_errors(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ReproError, match="does not exist"):
        load_weights(small_vit(), path)
    save_file(small_vit().state_dict(), path)
    with pytest.raises(ReproError, match="does not fit VisionTransformer"):
        load_weights(small_vit(num_classes=3), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ReproError, match="truncated"):
        load_weights(small_vit(), path)


def test_committed_weights_reach_the_accuracy_they_state() -> None:
    with safe_open(sample("vit_fashion"), framework="pt") as file:
        stated = float(file.metadata()["test_accuracy"])
    measured = accuracy(trained_small_vit(), load("fashion_mnist", "test"))
    assert measured == pytest.approx(stated, abs=0.002)
    assert measured > 0.85
