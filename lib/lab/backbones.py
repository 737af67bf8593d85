"""The networks the papers prune: timm's own, LV-ViT (timm lacks it), and a small ViT for embedded images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

from lib.errors import ReproError, WrongUse
from lib.lab.torchvision_ops import prepare_torchvision

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

Model = TypeVar("Model", bound=nn.Module)


class ConvStem(nn.Module):
    """Tokens `(batch, tokens, dim)` of images `(batch, channels, height, width)`, by convolutions.

    A stack of strided convolutions replaces the single patch projection: LV-ViT's stem (7x7/2, two 3x3, then
    a projection), and, with one 3x3/2 layer, the stem that trains a small ViT on 28x28 images in minutes.

    Args:
        widths: output channels of the layers before the projection; the first has stride 2, the others 1.
        kernel: kernel size of the first layer (the others are 3x3).
        activation: layer made after each batch normalisation.

    The projection's kernel and stride are what remains of `patch_size` after the first layer's stride.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        *,
        widths: tuple[int, ...],
        kernel: int,
        activation: type[nn.Module],
        **_: Any,  # timm passes its patch embedding's other options; a convolutional stem has no use for them
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_chans
        for index, width in enumerate(widths):
            size, stride = (kernel, 2) if index == 0 else (3, 1)
            convolution = nn.Conv2d(channels, width, size, stride, size // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), activation()]
            channels = width
        self.stem = nn.Sequential(*layers)
        self.proj = nn.Conv2d(channels, embed_dim, patch_size // 2, patch_size // 2)
        side = img_size // patch_size
        self.grid_size = (side, side)
        self.num_patches = side * side
        self.patch_size = (patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(self.stem(images)).flatten(2).transpose(1, 2)


class Scale(nn.Module):
    """Multiplies by a constant: LV-ViT halves each residual branch (its "skip factor" of 2)."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def small_vit(
    num_classes: int = 10,
    *,
    image_size: int = 28,
    channels: int = 1,
    dim: int = 64,
    depth: int = 12,
    heads: int = 4,
) -> "VisionTransformer":
    """A ViT with patches of 4 pixels; DeiT's depth, so token stages sit where the papers put them.

    28x28 grey images (Fashion-MNIST) give 49 patches, 32x32 colour images (CIFAR-10) give 64.

    Convolutional stem and Xavier initialisation: together they are worth nine points of accuracy after five
    epochs of 5,000 images, measured against a patch projection with truncated-normal weights.
    """
    prepare_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    stem = partial(ConvStem, widths=(dim // 2,), kernel=3, activation=nn.GELU)
    model = VisionTransformer(
        img_size=image_size,
        patch_size=4,
        in_chans=channels,
        num_classes=num_classes,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        embed_layer=stem,
    )
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


@dataclass(frozen=True)
class SmallVit:
    """The small ViT for one data set: the sample that holds its trained weights, and the images it takes."""

    sample: str
    image_size: int
    channels: int

    def build(self, num_classes: int = 10) -> "VisionTransformer":
        """The network, untrained."""
        return small_vit(num_classes, image_size=self.image_size, channels=self.channels)


def _lv_vit(num_classes: int, dim: int, depth: int, heads: int) -> "VisionTransformer":
    from timm.models.vision_transformer import VisionTransformer

    class LVViT(VisionTransformer):
        """timm's ViT with LV-ViT's auxiliary head: logits = class head + 0.5 x its maximum over tokens."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.aux_head = nn.Linear(self.embed_dim, self.num_classes)
            for block in self.blocks:
                block.ls1, block.ls2 = Scale(0.5), Scale(0.5)

        def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
            """Logits `(batch, classes)` of normalised tokens `(batch, 1 + tokens, dim)`."""
            if pre_logits:
                return x[:, 0]
            return self.head(x[:, 0]) + 0.5 * self.aux_head(x[:, 1:]).amax(1)

    return LVViT(
        img_size=224,
        patch_size=16,
        num_classes=num_classes,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        mlp_ratio=3.0,
        qkv_bias=False,
        embed_layer=partial(ConvStem, widths=(64, 64, 64), kernel=7, activation=nn.ReLU),
    )


OWN: dict[str, Callable[[int], nn.Module]] = {
    "small_vit": small_vit,
    "lv_vit_s": partial(_lv_vit, dim=384, depth=16, heads=6),
    "lv_vit_m": partial(_lv_vit, dim=512, depth=20, heads=8),
}
TIMM: dict[str, str] = {
    "deit_t": "deit_tiny_patch16_224",
    "deit_s": "deit_small_patch16_224",
    "deit_b": "deit_base_patch16_224",
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "pit_ti": "pit_ti_224",
    "pit_xs": "pit_xs_224",
    "pit_s": "pit_s_224",
    "pit_b": "pit_b_224",
}


def build(name: str, *, num_classes: int | None = None, pretrained: bool = False) -> nn.Module:
    """The network called `name` in the papers (`deit_s`, `lv_vit_m`, `small_vit` ...), in evaluation mode.

    Args:
        num_classes: 1,000 for the ImageNet networks and 10 for the small one unless given.
        pretrained: load timm's ImageNet weights; they are downloaded on first use.

    Raises:
        WrongUse: unknown name, or pretrained weights asked of a network that has none in timm.
        ReproError: the weights could not be fetched.
    """
    from difflib import get_close_matches

    if name not in OWN and name not in TIMM:
        near = get_close_matches(name, [*OWN, *TIMM], n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted([*OWN, *TIMM]))}"
        raise WrongUse(f"unknown backbone {name!r}{hint}")
    prepare_torchvision()
    if name in OWN:
        if pretrained:
            raise WrongUse(
                f"{name} has no weights in timm; give a checkpoint of yours to load_weights, "
                "or use one of " + ", ".join(sorted(TIMM))
            )
        return OWN[name](num_classes or (10 if name == "small_vit" else 1000)).eval()
    import timm

    try:
        return timm.create_model(TIMM[name], pretrained=pretrained, num_classes=num_classes or 1000).eval()
    except Exception as error:
        # the hub client raises many kinds of errors when it cannot be reached; none says what to do
        if not pretrained:
            raise
        raise ReproError(
            f"the ImageNet weights of {TIMM[name]} could not be fetched ({type(error).__name__}); connect to "
            "the internet once, or put them into the Hugging Face cache (HF_HOME) of this machine"
        ) from error


def load_weights(model: Model, path: Path) -> Model:
    """`model` with the safetensors checkpoint at `path` loaded strictly.

    Raises:
        ReproError: the file is missing, truncated, or does not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        model.load_state_dict(tensors, strict=True)
    except FileNotFoundError as error:
        raise ReproError(f"checkpoint {path} does not exist; check the path") from error
    except SafetensorError as error:
        raise ReproError(
            f"checkpoint {path} is truncated or not safetensors ({error}); fetch it again"
        ) from error
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise ReproError(
            f"checkpoint {path} does not fit {type(model).__name__}: {lines[-1].strip()}"
        ) from error
    return model


def parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


SMALL_VITS: dict[str, SmallVit] = {
    "fashion_mnist": SmallVit("vit_fashion", image_size=28, channels=1),
    "cifar10": SmallVit("vit_cifar10", image_size=32, channels=3),
}


def trained_small_vit(dataset: str = "fashion_mnist") -> "VisionTransformer":
    """The small ViT with the weights for `dataset` that are committed (`python -m lib.lab.pretrain --help`).

    Raises:
        WrongUse: no weights of the small ViT for that data set.
    """
    from lib.samples import sample

    if dataset not in SMALL_VITS:
        raise WrongUse(f"no trained small ViT for {dataset!r}; known: {', '.join(SMALL_VITS)}")
    return load_weights(SMALL_VITS[dataset].build(), sample(SMALL_VITS[dataset].sample)).eval()
