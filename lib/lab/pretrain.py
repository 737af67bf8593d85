"""Trains the small ViT whose weights are committed: `python -m lib.lab.pretrain`.

Recipe: AdamW, one warm-up epoch, cosine decay, random flip and shift by up to two pixels, no label smoothing,
the last epoch's weights (nothing is chosen by test accuracy). Interrupted training goes on from its last
finished epoch.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import ReproError
from lib.lab.backbones import small_vit
from lib.lab.checkpoint import load_state, save_state
from lib.lab.compute import seeded
from lib.lab.datasets import load
from lib.lab.train import accuracy
from lib.project import REPOSITORY
from lib.samples import file_sha256

OUTPUT = REPOSITORY.samples / "vit_fashion.safetensors"


@dataclass(frozen=True)
class Recipe:
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    shift_pixels: int = 2
    seed: int = 0


def augment(images: Tensor, generator: torch.Generator, shift: int) -> Tensor:
    """`images (batch, channels, height, width)` flipped by chance and shifted by up to `shift` pixels."""
    flip = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(flip, images.flip(-1), images)
    height, width = images.shape[-2:]
    padded = F.pad(images, (shift,) * 4, mode="replicate")
    top, left = torch.randint(0, 2 * shift + 1, (2, len(images)), generator=generator)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    batch = torch.arange(len(images))[:, None, None, None]
    channels = torch.arange(images.shape[1])[None, :, None, None]
    return padded[batch, channels, rows, columns]


def rate(recipe: Recipe, step: int, steps_an_epoch: int) -> float:
    """Learning rate at `step`: linear warm-up, then half a cosine down to one hundredth."""
    warmup = recipe.warmup_epochs * steps_an_epoch
    total = recipe.epochs * steps_an_epoch
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    phase = (step - warmup) / max(1.0, total - warmup)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase)))


def train(recipe: Recipe, folder: Path, *, limit: int | None = None) -> tuple[nn.Module, float]:
    """The trained network and its test accuracy; an epoch's state is kept in `folder` to go on from."""
    generator = seeded(recipe.seed)
    train_split = load("fashion_mnist", "train", limit=limit)
    test_split = load("fashion_mnist", "test")
    model = small_vit(len(train_split.classes))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=recipe.weight_decay)
    steps_an_epoch = math.ceil(len(train_split) / recipe.batch_size)
    folder.mkdir(parents=True, exist_ok=True)
    resume = folder / "pretrain.safetensors"
    first = 0
    if resume.exists():
        facts = load_state(resume, model, optimizer, generator)
        if facts["recipe"] != asdict(recipe):
            raise ReproError(f"{resume} belongs to another recipe; delete it to train with this one")
        first = facts["epoch"] + 1
    for epoch in range(first, recipe.epochs):
        model.train()
        total = 0.0
        for index, (images, labels) in enumerate(train_split.batches(recipe.batch_size, generator=generator)):
            for group in optimizer.param_groups:
                group["lr"] = rate(recipe, epoch * steps_an_epoch + index, steps_an_epoch)
            loss = F.cross_entropy(model(augment(images, generator, recipe.shift_pixels)), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item() * len(labels)
        save_state(resume, model, optimizer, generator, {"epoch": epoch, "recipe": asdict(recipe)})
        print(f"epoch {epoch + 1}/{recipe.epochs}: training loss {total / len(train_split):.4f}", flush=True)
    return model.eval(), accuracy(model, test_split)


def main(
    epochs: Annotated[int, typer.Option(min=1, help="passes over the training images")] = Recipe.epochs,
    seed: Annotated[int, typer.Option(help="seed of initialisation, order and augmentation")] = Recipe.seed,
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 1,
    output: Annotated[Path, typer.Option(help="where the weights go")] = OUTPUT,
) -> None:
    """Train the small ViT on the embedded Fashion-MNIST images; write its weights with their provenance."""
    from safetensors.torch import save_file

    torch.set_num_threads(threads)
    recipe = Recipe(epochs=epochs, seed=seed)
    model, test_accuracy = train(recipe, REPOSITORY.cache / "pretrain")
    data = load("fashion_mnist", "train")
    provenance = {
        "recipe": json.dumps(asdict(recipe), sort_keys=True),
        "data": f"{data.name} {data.sha256}",
        "test_accuracy": f"{test_accuracy:.4f}",
        "command": f"python -m lib.lab.pretrain --epochs {epochs} --seed {seed}",
        "torch": torch.__version__,
    }
    save_file(model.state_dict(), output, metadata=provenance)
    count = len(load("fashion_mnist", "test"))
    print(f"test accuracy {100 * test_accuracy:.2f} % on {count} images; weights in {output}")
    print(f"for data/samples/manifest.yaml: sha256 {file_sha256(output)}, bytes {output.stat().st_size}")


if __name__ == "__main__":
    typer.run(main)
