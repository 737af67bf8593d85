"""AFTrans's experiment: arms that differ in where the second look goes, trained alike from one start."""

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib.catalogue import find
from lib.errors import ReproError, WrongUse
from lib.finegrained.aftrans import AFTrans, Settings, objective
from lib.lab.backbones import trained_small_vit
from lib.lab.compute import seeded
from lib.lab.datasets import ImageSplit, load
from lib.lab.fit import Schedule, fit
from lib.lab.torchvision_ops import prepare_torchvision
from lib.vit.host import class_token_vit

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

VIT_B16 = "vit_base_patch16_224.augreg_in21k"
"""timm's ViT-B/16 with ImageNet-21k weights, the start that this line of work takes."""
PHOTOGRAPHS = ("cub200", "stanford_dogs", "inat2017")


@dataclass(frozen=True)
class Bench:
    """A pretrained network with a head for the classes of `train` and `test`."""

    dense: "VisionTransformer"
    train: ImageSplit
    test: ImageSplit


@dataclass(frozen=True)
class ArmPlan:
    """What sets an arm apart: its settings, the weight beta of its local loss, whether it is trained."""

    settings: Settings
    beta: float = 1.0
    trained: bool = True


@dataclass(frozen=True)
class Arm:
    """A trained arm: its model, its loss at every step, and test accuracies in percent.

    `whole`: of the global branch alone; `both`: of the sum of both branches' logits. `gate_moved`: the most
    that training changed any weight of the gate.
    """

    model: AFTrans
    losses: tuple[float, ...]
    whole: float
    both: float
    gate_moved: float

    @torch.inference_mode()
    def boxes(self, log_g: Tensor) -> Tensor:
        """The boxes that this arm's gate makes of given product maps."""
        return self.model.collect(log_g).boxes


def arms(eta: float, reduction: int, beta: float) -> dict[str, ArmPlan]:
    """The arms: the start; one look; AFTrans, also at a random place, with equal weights, or a taught gate.

    The start is AFTrans before any training: the pretrained network, with a copied token and table.
    """
    default = Settings(eta, reduction)
    return {
        "start": ArmPlan(default, beta, trained=False),
        "global_only": ArmPlan(default, beta=0.0),
        "aftrans": ArmPlan(default, beta),
        "random_region": ArmPlan(Settings(eta, reduction, where="random"), beta),
        "uniform": ArmPlan(Settings(eta, reduction, gated=False), beta),
        "taught_gate": ArmPlan(Settings(eta, reduction, squeeze="log", straight_through=True), beta),
    }


def prepare(
    backbone: str,
    dataset: str,
    data_root: str,
    device: torch.device,
    *,
    images: int,
    test_images: int,
    image_size: int = 448,
) -> Bench:
    """The small ViT on the look-alike garments, or ViT-B/16 on photographs (`image_size` pixels a side).

    The small ViT was trained on ten kinds of garment; of its head the rows of the five look-alikes remain,
    and the images are normalised as in that training. ViT-B/16 gets a new head. `images` and `test_images`
    limit the embedded data; photographs are used whole.

    Raises:
        WrongUse: backbone and data set do not go together.
        ReproError: weights or data are missing.
    """
    if (backbone, dataset) == ("small_vit", "fashion_upper_body"):
        classes = find(dataset).classes
        train, test = (
            load("fashion_mnist", split, limit=limit, classes=classes)
            for split, limit in (("train", images), ("test", test_images))
        )
        rows = [find("fashion_mnist").classes.index(name) for name in classes]
        return Bench(with_rows(trained_small_vit(), rows).to(device), train, test)
    if backbone != "vit_b16" or dataset not in PHOTOGRAPHS:
        raise WrongUse(
            f"{backbone} does not go with {dataset}: use small_vit with fashion_upper_body, or vit_b16 with "
            f"{', '.join(PHOTOGRAPHS)} and data_root"
        )
    train, test = (
        load(dataset, split, data_root=data_root, image_size=image_size) for split in ("train", "test")
    )
    return Bench(_vit_b16(image_size, len(train.classes)).to(device), train, test)


def with_rows(backbone: nn.Module, rows: list[int]) -> "VisionTransformer":
    """`backbone` whose classifier keeps these rows, in this order."""
    vit = class_token_vit(backbone)
    old = vit.head
    assert isinstance(old, nn.Linear)
    head = nn.Linear(old.in_features, len(rows))
    with torch.no_grad():
        head.weight.copy_(old.weight[rows])
        head.bias.copy_(old.bias[rows])
    vit.head, vit.num_classes = head, len(rows)
    return vit


def _vit_b16(image_size: int, classes: int) -> "VisionTransformer":
    prepare_torchvision()
    import timm

    try:
        model = timm.create_model(VIT_B16, pretrained=True, img_size=image_size, num_classes=classes)
    except Exception as error:
        # the hub client raises many kinds of errors when it cannot be reached; none says what to do
        raise ReproError(
            f"the weights of {VIT_B16} could not be fetched ({type(error).__name__}); connect to the "
            "internet once, or put them into the Hugging Face cache (HF_HOME) of this machine"
        ) from error
    return class_token_vit(model)


def train_arm(name: str, plan: ArmPlan, bench: Bench, schedule: Schedule, seed: int, alpha: float) -> Arm:
    """Train one arm from the start that all share, on the same images in the same order, and test it.

    An arm that is not trained is tested as it starts.
    """
    order = seeded(seed)
    model = AFTrans(copy.deepcopy(bench.dense), plan.settings).to(next(bench.dense.parameters()).device)
    places = torch.Generator().manual_seed(seed)
    before = _gate_weights(model)
    losses = []
    schedule = schedule if plan.trained else replace(schedule, epochs=0)
    with tqdm(desc=name, unit="step", leave=False) as bar:
        for step in fit(model, bench.train, schedule, order, objective(model, alpha, plan.beta, places)):
            losses.append(step.loss)
            bar.total = step.total
            bar.update()
    whole, both = accuracies(model, bench.test, torch.Generator().manual_seed(seed))
    moved = max(
        (float((a - b).abs().max()) for a, b in zip(_gate_weights(model), before, strict=True)), default=0.0
    )
    return Arm(model, tuple(losses), whole, both, moved)


def _gate_weights(model: AFTrans) -> list[Tensor]:
    return [] if model.gate is None else [weight.detach().clone() for weight in model.gate.parameters()]


@torch.inference_mode()
def accuracies(model: AFTrans, split: ImageSplit, generator: torch.Generator) -> tuple[float, float]:
    """Test accuracies in percent: of the global branch alone, and of the sum of both branches' logits."""
    model.eval()
    device = next(model.parameters()).device
    right = [0, 0]
    for images, labels in split.batches(100):
        scales = model.scales(images.to(device), generator)
        for index, logits in enumerate((scales.whole, scales.whole + scales.part)):
            right[index] += int((logits.argmax(-1).cpu() == labels).sum())
    return 100 * right[0] / len(split), 100 * right[1] / len(split)
