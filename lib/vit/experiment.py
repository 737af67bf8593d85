"""The token papers' experiment: variants of one dense network, trained alike, compared at equal cost."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from lib.errors import WrongUse
from lib.lab.backbones import SMALL_VITS, build, trained_small_vit
from lib.lab.compute import seeded
from lib.lab.datasets import ImageSplit, load
from lib.lab.train import accuracy
from lib.vit import spvit
from lib.vit.finetune import Objective, Recipe, Step, finetune
from lib.vit.host import TokenHost, class_token_vit

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


@dataclass(frozen=True)
class Bench:
    """A trained dense network and the data it is pruned on; `probe` is a small part of `test`."""

    dense: "VisionTransformer"
    train: ImageSplit
    test: ImageSplit
    probe: ImageSplit

    def copy(self) -> "VisionTransformer":
        """The dense network with weights of its own."""
        return copy.deepcopy(self.dense)


def prepare(
    backbone: str, dataset: str, data_root: str, device: torch.device, *, images: int, test_images: int
) -> Bench:
    """The small ViT with committed weights on small images, or an ImageNet network with timm's weights.

    `images` and `test_images` limit Fashion-MNIST and CIFAR-10 (at its own 32x32 pixels, in patches of 4);
    ImageNet is used whole.

    Raises:
        WrongUse: the backbone has no trained weights for this data set.
        ReproError: weights or data are missing.
    """
    if (backbone == "small_vit") != (dataset in SMALL_VITS):
        raise WrongUse(
            f"no trained weights of {backbone} for {dataset}: use small_vit with {' or '.join(SMALL_VITS)}, "
            "or deit_t, deit_s, deit_b with imagenet and data_root"
        )
    train, test = train_and_test(dataset, data_root, images=images, test_images=test_images)
    if dataset in SMALL_VITS:
        probe = load(dataset, "test", data_root=data_root, limit=min(250, test_images))
        return Bench(trained_small_vit(dataset).to(device), train, test, probe)
    probe = load(dataset, "val", data_root=data_root, limit=1000)
    dense = class_token_vit(build(backbone, pretrained=True))
    return Bench(dense.to(device), train, test, probe)


def train_and_test(
    dataset: str, data_root: str, *, images: int, test_images: int
) -> tuple[ImageSplit, ImageSplit]:
    """Images to train on and to test with; the numbers limit sets of small images, others are used whole."""
    small = dataset in SMALL_VITS
    train = load(dataset, "train", data_root=data_root, limit=images if small else None)
    if small:
        return train, load(dataset, "test", data_root=data_root, limit=test_images)
    return train, load(dataset, "val", data_root=data_root)


@dataclass(frozen=True)
class Arm:
    """A trained variant: its network, its history and its test accuracy in percent."""

    name: str
    host: TokenHost
    history: Sequence[Step]
    accuracy: float


def train_arm(
    name: str, host: TokenHost, bench: Bench, objective: Objective, recipe: Recipe, seed: int
) -> Arm:
    """Fine-tune `host` against the dense network of `bench` and test it by gathered execution."""
    host.to(next(bench.dense.parameters()).device)
    generator = seeded(seed)
    history: list[Step] = []
    with tqdm(desc=name, unit="step", leave=False) as bar:
        for step in finetune(host, bench.dense, bench.train, objective, recipe, generator):
            history.append(step)
            bar.total = step.total
            bar.set_postfix(loss=f"{step.loss:.3f}")
            bar.update()
    score = accuracy(host, bench.test, generator=torch.Generator().manual_seed(seed))
    return Arm(name, host, history, 100 * score)


def soft_accuracies(
    bench: Bench, keep_ratios: Sequence[float], recipe: Recipe, seed: int
) -> dict[float, float]:
    """Test accuracy in percent of SPViT's soft variant, trained at each of `keep_ratios` from one start."""
    patches = bench.dense.patch_embed.num_patches
    result = {}
    for keep_ratio in keep_ratios:
        seeded(seed)
        targets = spvit.geometric_targets(keep_ratio, 3)
        host = spvit.prune(bench.copy(), targets, counts=spvit.kept_patches(targets, patches))
        arm = train_arm(f"keep {keep_ratio}", host, bench, spvit.objective(targets), recipe, seed)
        result[keep_ratio] = arm.accuracy
    return result
