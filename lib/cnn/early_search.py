"""When a structure has been found: the newest mask resembles each of those before it (OFARPruning, stage 1).

After every epoch the scales give a mask for each pruning rate p. The search for p is over once
min over i = 1..k of sim(m_t, m_(t-i)) reaches eps_p. Early-Bird tickets ask the same of Hamming distances,
max d <= 0.1, with k = 4; eps_p is that distance as a cosine, so that the two rules mean the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from lib.cnn.masks import Masks, cosine, equivalent_threshold, flat, global_masks, hamming
from lib.errors import WrongUse

EARLY_BIRD_DISTANCE = 0.1


@dataclass
class StructureSearch:
    """The masks of one training, epoch by epoch, at one pruning rate.

    `comparisons` (k): masks that the newest is compared with. `distance`: Hamming distance that counts as
    alike.
    `least`: channels that every site keeps.
    """

    rate: float
    comparisons: int = 4
    distance: float = EARLY_BIRD_DISTANCE
    least: int = 0
    history: list[Masks] = field(default_factory=list)
    similarities: list[float] = field(default_factory=list)
    stopped: int | None = None
    stopped_by_hamming: int | None = None

    def __post_init__(self) -> None:
        if self.comparisons < 1 or not 0 <= self.distance <= 1:
            raise WrongUse(
                f"a search compares with at least one mask at a distance in [0, 1], not {self.comparisons} "
                f"at {self.distance:g}"
            )

    @property
    def threshold(self) -> float:
        """eps_p, the cosine that is asked for."""
        return equivalent_threshold(self.distance, self.rate)

    def see(self, scores: Mapping[str, Tensor]) -> bool:
        """Takes in the scores after one more epoch; whether the search is over, now or before.

        `similarities` gets the least similarity to the masks before, once there are k of them.
        """
        self.history.append(global_masks(scores, self.rate, least=self.least))
        if len(self.history) > self.comparisons:
            newest, *before = [flat(masks) for masks in self.history[: -self.comparisons - 2 : -1]]
            self.similarities.append(min(cosine(newest, other) for other in before))
            # a cosine of exactly eps must count, whatever its last bit
            if self.stopped is None and self.similarities[-1] >= self.threshold - 1e-9:
                self.stopped = len(self.history)
            far = max(hamming(newest, other) for other in before)
            if self.stopped_by_hamming is None and far <= self.distance + 1e-9:
                self.stopped_by_hamming = len(self.history)
        return self.stopped is not None

    @property
    def found(self) -> Masks:
        """The masks at which the search stopped, or the newest ones if it has not."""
        if not self.history:
            raise WrongUse("the search has seen no epoch yet")
        return self.history[(self.stopped or len(self.history)) - 1]
