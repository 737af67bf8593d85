"""OFARPruning's experiment: structures found early, trained together, against its neighbours."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lib.cnn.counting import Counter, counter
from lib.cnn.early_search import StructureSearch
from lib.cnn.experiment import Bench, SgdSchedule, matched_strength, train
from lib.cnn.importance import sparse_classification
from lib.cnn.masks import Masks, kept_channels, site_scores
from lib.cnn.once_for_all import Sampler, Structures, calibrated, joint_loss, leading_structures, resized
from lib.cnn.recalibration import recalibrate
from lib.cnn.removal import remove_channels
from lib.cnn.scoring import right_answers
from lib.cnn.sites import Kept, Site, find_sites, widths
from lib.cnn.subnetwork import Statistics, SubNetworks
from lib.errors import ReproError
from lib.lab.compute import seeded
from lib.lab.fit import Loss, classification
from lib.lab.image_splits import ImageSplit
from lib.lab.measure import latencies


@dataclass(frozen=True)
class Settings:
    """Pruning rates and image sides (the bench's own must be the largest), and lengths in epochs.

    `search_epochs`: of the sparse training that the search looks at; `joint_epochs`: of the joint training.
    `comparisons`: masks that the newest is compared with. `least`: channels that every site keeps.
    """

    rates: tuple[float, ...]
    sides: tuple[int, ...]
    search_epochs: int
    joint_epochs: int
    comparisons: int = 4
    least: int = 4
    batches: int = 5

    @property
    def points(self) -> tuple[tuple[float, int], ...]:
        """All (p, r), the unpruned network at every side included."""
        return tuple((rate, side) for rate in (0.0, *self.rates) for side in self.sides)


@dataclass(frozen=True)
class Searches:
    """The searches by (p, r), and epochs of training that they took, of `epochs` for each side."""

    by_point: Mapping[tuple[float, int], StructureSearch]
    epochs: int

    def structures(self, settings: Settings) -> dict[tuple[float, int], Kept]:
        """The found structure at every (p, r); the whole network at rate 0."""
        return {
            point: kept_channels(self.by_point[point].found) if point[0] else {} for point in settings.points
        }

    def stopped(self, by_hamming: bool = False) -> float:
        """Epochs until the last search of a side was over, mean over sides; all epochs if one never was."""
        sides = {side for _, side in self.by_point}
        ends = [
            max(
                (search.stopped_by_hamming if by_hamming else search.stopped) or self.epochs
                for (_, at), search in self.by_point.items()
                if at == side
            )
            for side in sides
        ]
        return math.fsum(ends) / len(ends)

    def similarity(self, epoch: int) -> float:
        """Least similarity to the masks before, mean over (p, r); epochs count from the first compared."""
        values = [search.similarities[epoch] for search in self.by_point.values()]
        return math.fsum(values) / len(values)


def search(bench: Bench, settings: Settings, seed: int) -> Searches:
    """Sparse trainings from one initialisation, one for each side, each watched at every pruning rate.

    They run on to their end, so that what came after the stop can be seen; the found structures are those of
    the stop. Raises ReproError if too few epochs are left to compare.
    """
    if settings.search_epochs <= settings.comparisons:
        raise ReproError(
            f"{settings.search_epochs} epochs leave nothing to compare with {settings.comparisons} masks "
            "before: raise search_epochs or lower comparisons"
        )
    found: dict[tuple[float, int], StructureSearch] = {}
    for side in settings.sides:
        generator = seeded(seed)
        model = bench.build()
        sites = find_sites(model, bench.image.to(bench.device))
        watches = [
            StructureSearch(rate, settings.comparisons, least=settings.least) for rate in settings.rates
        ]
        schedule = SgdSchedule(settings.search_epochs)
        strength = matched_strength(schedule, len(bench.train))
        loss = at_side(sparse_classification(model, sites, strength), side)

        def look(
            epoch: int,
            model: nn.Module = model,
            sites: tuple[Site, ...] = sites,
            watches: list[StructureSearch] = watches,
        ) -> None:
            scores = site_scores(model, sites)
            for watch in watches:
                watch.see(scores)

        train(f"search at {side} pixels", model, bench, schedule, generator, loss, at_epoch=look)
        found |= {(watch.rate, side): watch for watch in watches}
    return Searches(found, settings.search_epochs)


def at_side(loss: Loss, side: int) -> Loss:
    """`loss` of images resized to `side`."""

    def of_batch(images: Tensor, labels: Tensor, places: Tensor, progress: float) -> Tensor:
        return loss(resized(images, side), labels, places, progress)

    return of_batch


@dataclass(frozen=True)
class Point:
    """One sub-network at one side: cost of an image, and accuracies in percent.

    `held_out` chooses; `test` reports; `stale`: test accuracy with the statistics of the full network.
    """

    rate: float
    side: int
    macs: int
    held_out: float
    test: float
    stale: float


@dataclass(frozen=True)
class Family:
    """Networks that were trained together: shared weights, their structures, and every point evaluated."""

    subs: SubNetworks
    structures: Structures
    points: tuple[Point, ...]

    def at(self, budget: float) -> Point:
        """The point of highest held-out accuracy that costs at most `budget` MACs.

        Raises ReproError if none is that cheap.
        """
        cheap = [point for point in self.points if point.macs <= budget]
        if not cheap:
            least = min(point.macs for point in self.points)
            raise ReproError(
                f"a budget of {budget / 1e6:.3f} MMACs is impossible: the cheapest trained network costs "
                f"{least / 1e6:.3f}; train with a higher pruning rate or a smaller side"
            )
        return max(cheap, key=lambda point: (point.held_out, -point.macs))


def train_family(
    name: str, bench: Bench, structures: Structures, trained: Sequence[int], settings: Settings, seed: int
) -> Family:
    """Joint training of `structures`, at the sides `trained` only, and evaluation at those sides."""
    generator = seeded(seed)
    model = bench.build()
    subs = SubNetworks(model, find_sites(model, bench.image.to(bench.device)))
    mine = {point: _to(kept, bench.device) for point, kept in structures.items() if point[1] in trained}
    loss = joint_loss(subs, Sampler(mine), torch.Generator().manual_seed(seed))
    train(name, model, bench, SgdSchedule(settings.joint_epochs), generator, loss)
    batches = bench.batches(settings.batches, generator)
    counts = counters(bench, model, subs.sites, settings)
    points = []
    for (rate, side), kept in mine.items():
        own = calibrated(subs, kept, side, batches)
        points.append(
            Point(
                rate,
                side,
                counts[side].macs(widths(subs.sites, kept)),
                accuracy(subs, kept, side, bench.held_out, own),
                accuracy(subs, kept, side, bench.test, own),
                accuracy(subs, kept, side, bench.test, None),
            )
        )
    return Family(subs, mine, tuple(points))


def families(bench: Bench, learned: Structures, settings: Settings, seed: int) -> dict[str, Family]:
    """OFARPruning and its neighbours, from one initialisation with the same images in the same order.

    `ofar`: learned channels, all sides. `rates`: learned channels, largest side only. `mutualnet`: leading
    channels of one ratio, all sides. `us_net`: those, largest side only. The uniform structures cost what the
    learned ones cost, at most.
    """
    model = bench.build()
    sites = find_sites(model, bench.image.to(bench.device))
    count = counter(model, sites, bench.image.to(bench.device))
    uniform = leading_structures(learned, sites, count.macs, least=settings.least)
    largest = (max(settings.sides),)
    plans = {
        "ofar": (learned, settings.sides),
        "rates": (learned, largest),
        "mutualnet": (uniform, settings.sides),
        "us_net": (uniform, largest),
    }
    return {
        name: train_family(name, bench, structures, sides, settings, seed)
        for name, (structures, sides) in plans.items()
    }


def deployed(family: Family, point: Point, bench: Bench, batches: Sequence[Tensor]) -> nn.Module:
    """The sub-network of `point` on its own: channels removed, statistics re-estimated from `batches`."""
    kept = family.structures[point.rate, point.side]
    image = bench.image.to(bench.device)
    small = remove_channels(family.subs.model, family.subs.sites, kept, image)
    recalibrate(small, [resized(images, point.side) for images in batches])
    return small.eval()


def deployment_check(family: Family, bench: Bench, batches: Sequence[Tensor]) -> dict[str, float]:
    """Over all points: differences between a sub-network cut out as it runs and one whose channels are gone.

    `deployed_gap`: of logits, relative to the largest. `deployed_macs_off`: of counts.
    """
    gap, off = 0.0, 0
    for point in family.points:
        kept = family.structures[point.rate, point.side]
        small = deployed(family, point, bench, batches)
        images = resized(batches[0], point.side)
        with torch.inference_mode():
            alone = small(images)
            cut = family.subs(images, kept, calibrated(family.subs, kept, point.side, batches))
        gap = max(gap, float((alone - cut).abs().max() / cut.abs().max()))
        off = max(off, abs(counter(small, (), images[:1]).macs({}) - point.macs))
    return {"deployed_gap": gap, "deployed_macs_off": off}


def relative_times(
    family: Family, points: Sequence[Point], bench: Bench, batches: Sequence[Tensor], batch: int = 32
) -> list[float]:
    """Measured time of each point's own network over the whole network's at the largest side, on this CPU."""
    calls: dict[str, Callable[[], object]] = {}
    whole_side = max(side for _, side in family.structures)
    for name, point in [("whole", None), *((str(number), point) for number, point in enumerate(points))]:
        model = deployed(family, point, bench, batches) if point else copy.deepcopy(family.subs.model)
        side = point.side if point else whole_side
        images = torch.zeros(batch, bench.test.channels, side, side)
        calls[name] = partial(model.cpu().eval(), images)
    times = latencies(calls, burst_s=0.03)
    return [times[str(number)].minimum_s / times["whole"].minimum_s for number in range(len(points))]


def ticket_masks(found: Searches, settings: Settings, rate: float, seed: int) -> dict[str, Masks]:
    """Masks of `rate` at the largest side: half-way, at the end, and by chance with the former's widths."""
    history = found.by_point[rate, max(settings.sides)].history
    generator = torch.Generator().manual_seed(seed)
    half = history[len(history) // 2 - 1]
    chance = {
        name: mask[torch.randperm(len(mask), generator=generator).to(mask.device)]
        for name, mask in half.items()
    }
    return {"half_way": half, "end": history[-1], "chance": chance}


def tickets(bench: Bench, masks: Mapping[str, Masks], settings: Settings, seed: int) -> dict[str, float]:
    """Test accuracy, in percent, of networks with a mask's channels only, trained from one initialisation."""
    found = {}
    for name, mask in masks.items():
        generator = seeded(seed)
        parent = bench.build()
        sites = find_sites(parent, bench.image.to(bench.device))
        small = remove_channels(parent, sites, kept_channels(mask), bench.image.to(bench.device))
        train(name, small, bench, SgdSchedule(settings.joint_epochs), generator, classification(small))
        found[name] = bench.accuracy(small)
    return found


def counters(bench: Bench, model: nn.Module, sites: Sequence[Site], settings: Settings) -> dict[int, Counter]:
    """The counts of `model` by side."""
    image = bench.image.to(bench.device)
    return {side: counter(model, sites, resized(image, side)) for side in settings.sides}


def accuracy(
    subs: SubNetworks, kept: Kept, side: int, split: ImageSplit, statistics: Statistics | None
) -> float:
    """Accuracy in percent of a sub-network on `split` at `side`.

    Raises ReproError if logits are not finite.
    """

    def forward(images: Tensor) -> Tensor:
        return subs(resized(images, side), kept, statistics)

    return 100 * right_answers(forward, subs.model, split, what=f"logits at {side} pixels") / len(split)


def _to(kept: Kept, device: torch.device) -> Kept:
    return {name: index.to(device) for name, index in kept.items()}
