"""RAPQ's experiment: one float network, quantized in several ways at several widths, on images it has not
seen.

Each way is a `Method`. A table of rows (method by width) is filled one after the other; finished rows are
kept on disk, so that a killed run goes on where it was.
"""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib.cnn.image_parts import hold_out
from lib.cnn.quant_graph import QuantNetwork, prepare_network
from lib.cnn.quant_reconstruction import reconstruct
from lib.cnn.quantizers import ScaleKind, Widths
from lib.cnn.rapq import Recipe
from lib.cnn.rapq_networks import LITE0, SMALL, photographs, trained_on_imagenet, untrained
from lib.errors import ReproError, WrongUse
from lib.lab.compute import seeded
from lib.lab.datasets import load
from lib.lab.fit import Schedule, classification, fit
from lib.lab.image_splits import ImageSplit
from lib.lab.record import Table
from lib.lab.train import accuracy
from lib.project import REPOSITORY

EMBEDDED = "fashion_mnist"


def backbone_for(backbone: str, dataset: str) -> str:
    """`backbone`, or for `auto` the network that suits `dataset`."""
    if backbone != "auto":
        return backbone
    return LITE0 if dataset == "imagenet" else "mobilenet_small"


@dataclass(frozen=True)
class Method:
    """One way to quantize: kind of scales, share of the iterations (0: none), and c of the exponent."""

    scales: ScaleKind
    share: float = 1.0
    c: float = 0.0


METHODS: dict[str, Method] = {
    "rounded": Method("float", share=0.0),
    "float": Method("float"),
    "nearest": Method("nearest"),
    "local": Method("local"),
    "learned": Method("learned"),
    "rapq": Method("learned", c=0.9),
    "rapq_quick": Method("learned", c=0.1),
    "rapq_quarter": Method("learned", share=0.25, c=0.9),
}
"""rounded: round to nearest, scales of any size. float: the same scales, weights and activation scales
reconstructed (as BRECQ). nearest: each scale at its nearest power of two, weights reconstructed. local: the
better neighbour for each tensor alone. learned: powers of two learned in groups, p = 2. rapq: these with the
BN-informed exponent; rapq_quick with the released script's c; rapq_quarter with a quarter of the
iterations."""


@dataclass(frozen=True)
class Bench:
    """A trained float network, images to calibrate with `(n, channels, side, side)`, and images to test
    on.
    """

    model: nn.Module
    name: str
    calibration: Tensor
    test: ImageSplit
    accuracy: float
    """Of the float network on `test`, percent."""

    @property
    def example(self) -> Tensor:
        return self.calibration[:1]


def prepare(
    backbone: str,
    dataset: str,
    data_root: str,
    device: torch.device,
    *,
    seed: int,
    calibration: int,
    test_images: int,
    train_images: int,
    epochs: int,
    image_size: int,
) -> Bench:
    """The network, trained here for small images or with ImageNet weights, and its data.

    Small images: calibration images are drawn from those it was trained on. ImageNet: from `val`, and the
    rest of it, up to `test_images`, is tested on. `seed` draws them, and the training.

    Raises:
        WrongUse: the network does not go with the data, or too few images.
        ReproError: weights or data are missing.
    """
    if (backbone in SMALL) == (dataset == "imagenet"):
        raise WrongUse(
            f"{backbone} does not go with {dataset}: use {' or '.join(SMALL)} with {EMBEDDED} or cifar10, or "
            f"{LITE0} (or another ImageNet network) with imagenet and data_root"
        )
    if calibration < 1 or test_images < 1:
        raise WrongUse(
            "calibration and test_images are at least 1: there is nothing to calibrate or test with"
        )
    generator = seeded(seed)
    if dataset == "imagenet":
        everything = photographs(backbone, data_root, image_size or 224)
        wanted = min(len(everything) - calibration, test_images)
        if wanted < 1:
            raise WrongUse(
                f"{len(everything)} images leave none to test on beside {calibration} to calibrate with"
            )
        rest, drawn = hold_out(everything, calibration, generator)
        test: ImageSplit = rest if wanted == len(rest) else hold_out(rest, wanted, generator)[1]
        model, source = trained_on_imagenet(backbone).to(device), drawn
    else:
        side = image_size or None
        train = load(dataset, "train", data_root=data_root, limit=train_images, image_size=side)
        test = load(dataset, "test", data_root=data_root, limit=test_images, image_size=side)
        model = untrained(backbone, train.channels).to(device)
        schedule = Schedule(epochs, batch_size=64, learning_rate=4.0e-3)
        for _ in fit(model, train, schedule, generator, classification(model)):
            pass
        if calibration >= len(train):
            raise WrongUse(f"calibration of {calibration} images: only {len(train)} are there to draw from")
        source = hold_out(train, calibration, generator)[1]
    images = torch.cat([batch for batch, _ in source.batches(50)]).to(device)
    return Bench(model, backbone, images, test, 100 * accuracy(model, test, batch_size=50))


def quantize(
    bench: Bench, method: str, widths: str, recipe: Recipe, seed: int, *, progress: bool = False
) -> QuantNetwork:
    """The network of `bench`, quantized. Raises WrongUse for an unknown method or width."""
    if method not in METHODS:
        raise WrongUse(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    how = METHODS[method]
    network = prepare_network(bench.model, Widths.named(widths), how.scales, bench.example)
    steps = {name: int(how.share * getattr(recipe, name)) for name in ("iterations", "activation_iterations")}
    recipe = dataclasses.replace(recipe, **steps)
    with tqdm(
        total=2 * len(network), desc=f"{method} {widths}", unit="unit", leave=False, disable=not progress
    ) as bar:
        generator = torch.Generator().manual_seed(seed)
        reconstruct(network, bench.calibration, recipe, generator, c=how.c, progress=lambda _: bar.update())
    return network


@dataclass(frozen=True)
class Row:
    """One quantized network: top-1 in percent, and seconds to quantize it."""

    method: str
    widths: str
    accuracy: float
    seconds: float
    calibration: int
    excess_levels: int
    """Most distinct values in an output channel of an inner layer's weight, less the 2^b that are allowed."""


def fill_row(bench: Bench, method: str, widths: str, recipe: Recipe, seed: int) -> Row:
    """Quantizes, and tests."""
    start = time.perf_counter()
    network = quantize(bench, method, widths, recipe, seed, progress=True)
    seconds = time.perf_counter() - start
    score = 100 * accuracy(network, bench.test, batch_size=50)
    return Row(method, widths, score, seconds, len(bench.calibration), excess_levels(network))


def excess_levels(network: QuantNetwork) -> int:
    """Most distinct values in a channel of the inner layers, less 2^b; 0 or below as it must be."""
    found = [
        len(torch.unique(channel)) - 2**layer.quantizer.bits
        for layer in network.layers[1:-1]
        if layer.quantizer is not None and layer.frozen is not None
        for channel in layer.frozen[0]
    ]
    return max(found, default=0)


@dataclass(frozen=True)
class Shares:
    """Percent of scales that are powers of two."""

    weights: float
    activations: float


def power_of_two_shares(network: QuantNetwork) -> Shares:
    """Of all weight scales and all activation scales of a quantized `network`, the first and last layer
    included.
    """
    weights = [layer.quantizer.scale.values()[0].flatten() for layer in network.layers if layer.quantizer]
    activations = [
        quantizer.values()[0].view(1) for quantizer in network.activations if quantizer.t is not None
    ]
    return Shares(_power_of_two_share(weights), _power_of_two_share(activations))


def _power_of_two_share(scales: Sequence[Tensor]) -> float:
    every = torch.cat(list(scales)).detach().double()
    return 100 * float((torch.frexp(every).mantissa == 0.5).double().mean())


@torch.no_grad()
def identity_gap(bench: Bench) -> float:
    """Largest difference of logits between the float network and the prepared one with 32 bits, over the
    largest.
    """
    network = prepare_network(bench.model, Widths.named("w32a32"), "learned", bench.example)
    images = bench.calibration[:4]
    logits = bench.model(images)
    return float((network(images) - logits).abs().max() / logits.abs().max())


def nearest_losses(
    recipe: Recipe, settings: Mapping[str, int], known: Mapping[str, float] = MappingProxyType({})
) -> dict[str, float]:
    """Points lost to scales of any size by nearest powers of two at W2A4: a depthwise and a plain network.

    Both on the embedded images, with the `settings` of `prepare`; losses that are `known`, by the name of the
    network, are not measured again.
    """
    found = {}
    for name in SMALL:
        if name in known:
            found[name.removesuffix("_small")] = known[name]
            continue
        calibration = min(settings["calibration"], 256)
        small = {**settings, "image_size": 0, "calibration": calibration, "test_images": 2000}
        bench = prepare(name, EMBEDDED, "", torch.device("cpu"), **small)
        rows = [fill_row(bench, method, "w2a4", recipe, settings["seed"]) for method in ("float", "nearest")]
        found[name.removesuffix("_small")] = rows[0].accuracy - rows[1].accuracy
    return found


def losses_in(rows: Sequence[Row], bench: Bench) -> dict[str, float]:
    """The loss that `nearest_losses` asks for, of the network of `bench`, where `rows` hold it on those
    images.
    """
    scores = {(row.method, row.widths): row.accuracy for row in rows}
    if bench.test.name != EMBEDDED or not {("float", "w2a4"), ("nearest", "w2a4")} <= scores.keys():
        return {}
    return {bench.name: scores["float", "w2a4"] - scores["nearest", "w2a4"]}


def as_table(rows: Sequence[Row], bench: Bench) -> Table:
    """`rows` for reading."""
    header = ("bits", "method", "top-1 (%)", "loss (points)", "calibration images", "seconds")
    lines = [("float32", "none", f"{bench.accuracy:.2f}", "", "", "")]
    for row in rows:
        numbers = (f"{row.accuracy:.2f}", f"{bench.accuracy - row.accuracy:.2f}", str(row.calibration))
        lines.append((row.widths.upper(), row.method, *numbers, f"{row.seconds:.1f}"))
    return Table(header, tuple(lines))


def table(
    bench: Bench,
    methods: Sequence[str],
    widths: Sequence[str],
    recipe: Recipe,
    seed: int,
    kept: Path | None,
    *,
    extra: Sequence[str] = (),
) -> Iterator[Row]:
    """Rows for all `widths` by `methods`, and by `extra` for the last of them.

    Finished ones are read from the file `kept` instead of computed. Raises ReproError if it is damaged.
    """
    finished = _read(kept)
    todo = [(width, method) for width in widths for method in methods]
    todo += [(widths[-1], method) for method in extra]
    for width, method in tqdm(todo, desc="table", unit="row", leave=False):
        key = f"{method} {width}"
        if key not in finished:
            finished[key] = asdict(fill_row(bench, method, width, recipe, seed))
            if kept is not None:
                _write(kept, finished)
        yield Row(**finished[key])  # type: ignore[arg-type]
    if kept is not None:
        kept.unlink(missing_ok=True)  # whole: a later run shall compute, not read


def kept_rows(bench: Bench, recipe: Recipe, seed: int) -> Path:
    """The file for finished rows of this experiment: another one for other weights, images or code."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for tensor in (*bench.model.state_dict().values(), bench.calibration):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    facts = [
        bench.name,
        bench.test.sha256,
        len(bench.test),
        bench.accuracy,
        asdict(recipe),
        seed,
        torch.__version__,
    ]
    digest.update(json.dumps(facts).encode())
    return REPOSITORY.cache / "rapq" / f"{digest.hexdigest()[:20]}.json"


def _read(path: Path | None) -> dict[str, Mapping[str, object]]:
    if path is None or not path.exists():
        return {}
    try:
        rows: dict[str, Mapping[str, object]] = json.loads(path.read_text(encoding="utf-8"))
        for row in rows.values():
            Row(**row)  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError) as error:
        raise ReproError(
            f"finished rows {path} are damaged; delete the file to compute them again"
        ) from error
    return rows


def _write(path: Path, rows: Mapping[str, Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path)
