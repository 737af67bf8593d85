"""Trains the small ViTs whose weights are committed: `python -m lib.lab.pretrain`, once per data set.

Recipe: AdamW, one warm-up epoch, cosine decay, random flip and shift by up to two pixels, no label smoothing,
the last epoch's weights (nothing is chosen by test accuracy). Interrupted training goes on from its last
finished epoch.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import torch
import typer
from torch import nn

from lib.errors import ReproError
from lib.lab.backbones import SMALL_VITS
from lib.lab.checkpoint import load_state, save_state
from lib.lab.compute import seeded
from lib.lab.datasets import load
from lib.lab.fit import Schedule, classification, fit, optimizer_for
from lib.lab.train import accuracy
from lib.project import REPOSITORY
from lib.samples import file_sha256


@dataclass(frozen=True)
class Recipe(Schedule):
    epochs: int = 40
    seed: int = 0


def train(
    recipe: Recipe,
    folder: Path,
    *,
    dataset: str = "fashion_mnist",
    data_root: str = "",
    limit: int | None = None,
) -> tuple[nn.Module, float]:
    """The trained network and its test accuracy; an epoch's state is kept in `folder` to go on from."""
    generator = seeded(recipe.seed)
    train_split = load(dataset, "train", data_root=data_root, limit=limit)
    test_split = load(dataset, "test", data_root=data_root)
    model = SMALL_VITS[dataset].build(len(train_split.classes))
    optimizer = optimizer_for(model, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    resume = folder / "pretrain.safetensors"
    first = 0
    if resume.exists():
        facts = load_state(resume, model, optimizer, generator)
        if facts["recipe"] != asdict(recipe):
            raise ReproError(f"{resume} belongs to another recipe; delete it to train with this one")
        first = facts["epoch"] + 1
    steps = fit(
        model,
        train_split,
        recipe,
        generator,
        classification(model),
        optimizer=optimizer,
        first_epoch=first,
    )
    losses = []
    for step in steps:
        losses.append(step.loss)
        if step.ends_epoch:
            facts = {"epoch": step.epoch, "recipe": asdict(recipe)}
            save_state(resume, model, optimizer, generator, facts)
            print(f"epoch {step.epoch + 1}/{recipe.epochs}: training loss {fmean(losses):.4f}", flush=True)
            losses.clear()
    return model.eval(), accuracy(model, test_split)


def main(
    dataset: Annotated[str, typer.Option(help="fashion_mnist (embedded) or cifar10")] = "fashion_mnist",
    data_root: Annotated[str, typer.Option(help="where CIFAR-10 lies, if not downloaded")] = "",
    epochs: Annotated[int, typer.Option(min=1, help="passes over the training images")] = Recipe.epochs,
    seed: Annotated[int, typer.Option(help="seed of initialisation, order and augmentation")] = Recipe.seed,
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 1,
    output: Annotated[Path | None, typer.Option(help="where the weights go; data/samples if empty")] = None,
) -> None:
    """Train the small ViT of a data set; write its weights with their provenance."""
    from safetensors.torch import save_file

    if dataset not in SMALL_VITS:
        raise typer.BadParameter(f"known: {', '.join(SMALL_VITS)}", param_hint="--dataset")
    torch.set_num_threads(threads)
    recipe = Recipe(epochs=epochs, seed=seed)
    folder = REPOSITORY.cache / "pretrain" / dataset
    model, test_accuracy = train(recipe, folder, dataset=dataset, data_root=data_root)
    data = load(dataset, "train", data_root=data_root)
    provenance = {
        "recipe": json.dumps(asdict(recipe), sort_keys=True),
        "data": f"{data.name} {data.sha256}",
        "test_accuracy": f"{test_accuracy:.4f}",
        "command": f"python -m lib.lab.pretrain --dataset {dataset} --epochs {epochs} --seed {seed}",
        "torch": torch.__version__,
    }
    path = output or REPOSITORY.samples / f"{SMALL_VITS[dataset].sample}.safetensors"
    save_file(model.state_dict(), path, metadata=provenance)
    count = len(load(dataset, "test", data_root=data_root))
    print(f"test accuracy {100 * test_accuracy:.2f} % on {count} images; weights in {path}")
    print(f"for data/samples/manifest.yaml: sha256 {file_sha256(path)}, bytes {path.stat().st_size}")


if __name__ == "__main__":
    typer.run(main)
