"""The arithmetic of CSB-RNN (ICS 2020) done again from its own printed figures.

Nothing here is measured or modelled: every function derives, from figures that the paper prints, others that
it prints as well, so that a disagreement is the paper's own. Weights of its ten networks are counted, not
quoted (`hw_models.csb_validation.networks`). One multiply-accumulate is two operations.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

from hw_models.csb import csr_index_overhead, index_overhead
from hw_models.csb_validation import networks
from hw_models.reference_points import points

TABLE2_RATES: Mapping[str, float] = {"MT1": 12.5, "SR1": 13.0, "SR2": 20.0}
"""Pruning rates of the three models that ran on the board (Table 2, with 16-bit weights)."""
FRAMES_PER_S = 2000
"""Frames a second that the paper calls realtime for speech (section 6.3.3)."""
ESE_DENSE_OPS = 2.52e12
"""Operations a second of ESE, counted on the unpruned network (https://arxiv.org/abs/1612.00694)."""
INDEX_BITS, WEIGHT_BITS = 5, 16
"""Bits of a position inside a block of side 32, and of a weight (section 6)."""


@dataclass(frozen=True)
class BoardRow:
    """A row of Table 3: one step of a model on one accelerator."""

    model: str
    design: str
    pes: int
    clock_mhz: float
    latency_us: float
    power_w: float
    printed_kframes_per_s_per_w: float
    printed_gain: float

    @property
    def kframes_per_s_per_w(self) -> float:
        """Thousands of frames a joule at one frame per latency."""
        return 1000 / (self.latency_us * self.power_w)

    @property
    def energy_uj(self) -> float:
        """Energy of one latency."""
        return self.latency_us * self.power_w


def table3() -> tuple[BoardRow, ...]:
    """The eight rows of Table 3."""
    return tuple(
        BoardRow(
            row["model"],
            row["design"],
            int(row["pes"]),
            float(row["clock_mhz"]),
            float(row["latency_us"]),
            float(row["power_w"]),
            printed_kframes_per_s_per_w=float(row["kframes_per_s_per_w"]),
            printed_gain=float(row["gain"]),
        )
        for row in _rows("csb_rnn")
    )


def _own_and_rivals() -> Iterator[tuple[BoardRow, BoardRow]]:
    """(row of CSB-RNN, row of a rival) for every rival on the same model."""
    rows = table3()
    own = {row.model: row for row in rows if row.design == "csb_rnn"}
    return ((own[row.model], row) for row in rows if row.design != "csb_rnn")


def latency_gains() -> dict[str, float]:
    """How many times faster than each rival, by `model_design`."""
    return {_key(rival): rival.latency_us / own.latency_us for own, rival in _own_and_rivals()}


def latency_reductions() -> dict[str, float]:
    """By how many percent the latency is lower than that of each rival, by `model_design`."""
    return {name: 100 * (1 - 1 / gain) for name, gain in latency_gains().items()}


def pe_shares() -> dict[str, float]:
    """PEs of CSB-RNN over those of each rival in percent, by `model_design`."""
    return {_key(rival): 100 * own.pes / rival.pes for own, rival in _own_and_rivals()}


def efficiencies() -> dict[str, float]:
    """Thousands of frames a joule, from latency and power, by `model_design`."""
    return {_key(row): row.kframes_per_s_per_w for row in table3()}


def efficiency_gains() -> dict[str, float]:
    """Efficiency over that of the least efficient design of the same model, from unrounded efficiencies."""
    rows = table3()
    worst = {
        row.model: min(other.kframes_per_s_per_w for other in rows if other.model == row.model)
        for row in rows
    }
    return {_key(row): row.kframes_per_s_per_w / worst[row.model] for row in rows}


def compute_times_us() -> dict[str, float]:
    """Microseconds that the multiplications of one step take if every PE has one in every cycle, by model."""
    weights = _weights()
    return {
        own.model: weights[own.model] / TABLE2_RATES[own.model] / own.pes / own.clock_mhz
        for own in table3()
        if own.design == "csb_rnn"
    }


def implied_utilisations() -> dict[str, float]:
    """Percent of PE cycles with a multiplication if the printed latency were nothing else, by model."""
    times = compute_times_us()
    return {own.model: 100 * times[own.model] / own.latency_us for own in table3() if own.design == "csb_rnn"}


def dense_equivalents_tops() -> dict[str, float]:
    """Tera-operations a second, counted on the unpruned network, by model."""
    weights = _weights()
    return {
        own.model: 2 * weights[own.model] / own.latency_us / 1e6
        for own in table3()
        if own.design == "csb_rnn"
    }


def rate_gains() -> dict[str, float]:
    """Pruning rate of CSB over that of every other scheme of Table 2, by `model_scheme`."""
    rows = _rows("csb_pruning")
    own = {row["model"]: float(row["rate"]) for row in rows if row["scheme"] == "csb"}
    return {
        f"{row['model'].lower()}_{row['scheme']}": own[row["model"]] / float(row["rate"])
        for row in rows
        if row["scheme"] != "csb"
    }


def best_rates() -> dict[str, float]:
    """The highest rate over the four block sizes of Fig 10, by model."""
    best: dict[str, float] = {}
    for row in _rows("csb_index_overhead"):
        best[row["model"]] = max(best.get(row["model"], 0.0), float(row["rate"]))
    return best


def index_overheads() -> dict[str, float]:
    """2 sqrt(rate)/block in percent for the 40 bars of Fig 10b, by `model_block`."""
    return {
        f"{row['model'].lower()}_{row['block']}": 100 * index_overhead(float(row["rate"]), int(row["block"]))
        for row in _rows("csb_index_overhead")
    }


def index_overheads_with_edges() -> dict[str, float]:
    """The same with the blocks that each matrix has, those cut off by its edges among them.

    A side of S positions then holds ceil(S/B)/S blocks a position in place of 1/B."""
    chosen = networks()
    found = {}
    for row in _rows("csb_index_overhead"):
        rate, block = float(row["rate"]), int(row["block"])
        shapes = [shape for layer in chosen[row["model"]] for shape in layer.matrices]
        entries = sum(
            height * width * (ceil(height / block) / height + ceil(width / block) / width)
            for height, width in shapes
        )
        weights = sum(height * width for height, width in shapes)
        found[f"{row['model'].lower()}_{block}"] = 100 * sqrt(rate) * entries / weights
    return found


def explained_overheads() -> set[str]:
    """The bars that either count gives to 0.1 points, the precision of the print and of its rate."""
    printed = printed_index_overheads()
    counts = index_overheads(), index_overheads_with_edges()
    return {name for name in printed if any(abs(count[name] - printed[name]) <= 0.1 for count in counts)}


def printed_index_overheads() -> dict[str, float]:
    """The 40 bars as printed, in percent, by `model_block`."""
    return {
        f"{row['model'].lower()}_{row['block']}": float(row["nio_percent"])
        for row in _rows("csb_index_overhead")
    }


@dataclass(frozen=True)
class CsrOverhead:
    """Index entries of the unstructured model over its weights, in percent."""

    model: str
    printed: float
    one_matrix: float
    """If the matrices of a layer share their row pointers."""
    several: float
    """If input, recurrent and projection matrix have row pointers of their own."""

    @property
    def explained(self) -> bool:
        """Whether the printed figure, to its last digit, lies between the two readings."""
        return self.one_matrix - 0.05 <= self.printed <= self.several + 0.05


def csr_overheads() -> tuple[CsrOverhead, ...]:
    """The last bar of every model in Fig 10b under both readings."""
    chosen = networks()
    found: dict[str, CsrOverhead] = {}
    for row in _rows("csb_index_overhead"):
        layers = chosen[row["model"]]
        kept = round(sum(layer.weights for layer in layers) / float(row["csr_rate"]))
        heights = [[height for height, _ in layer.matrices] for layer in layers]
        found[row["model"]] = CsrOverhead(
            row["model"],
            float(row["csr_nio_percent"]),
            100 * csr_index_overhead(kept, sum(each[0] for each in heights)),
            100 * csr_index_overhead(kept, sum(map(sum, heights))),
        )
    return tuple(found.values())


def ranges() -> dict[str, tuple[tuple[float, ...], str]]:
    """The sets of figures of which the paper prints the ends, with their units."""
    return {
        "best_rate": (tuple(best_rates().values()), "x"),
        "rate_gain": (tuple(rate_gains().values()), "x"),
        "csr_overhead": (tuple(each.several for each in csr_overheads()), "percent"),
        "latency": (tuple(row.latency_us for row in table3() if row.design == "csb_rnn"), "us"),
        "latency_gain": (tuple(latency_gains().values()), "x"),
        "latency_reduction": (tuple(latency_reductions().values()), "percent"),
        "pe_share": (tuple(pe_shares().values()), "percent"),
    }


def bit_overhead(entries_percent: float) -> float:
    """Index bits over weight bits in percent, of a count of index entries over weights in percent."""
    return entries_percent * INDEX_BITS / WEIGHT_BITS


def sharing_overheads() -> dict[str, float]:
    """CLBs that sharing adds, in percent of the engine without it: mean of the six engines of Fig 11."""
    rows = _rows("csb_sharing_area")
    return {
        direction: 100 * (sum(float(row[direction]) / float(row["none"]) for row in rows) / len(rows) - 1)
        for direction in ("vertical", "horizontal", "both")
    }


@dataclass(frozen=True)
class EseStep:
    """What ESE's row of Table 3 stands for, judged by ESE's own throughput."""

    layer_weights: int
    latency_us: float
    power_w: float
    csb_latency_us: float
    csb_energy_uj: float

    @property
    def steps(self) -> float:
        """Evaluations of one layer that fit into the latency at ESE's published operations a second."""
        return ESE_DENSE_OPS * self.latency_us * 1e-6 / (2 * self.layer_weights)

    @property
    def latency_gain(self) -> float:
        """Time of ESE for one layer step over that of CSB-RNN for both layers of its model."""
        return self.latency_us / self.steps / self.csb_latency_us

    @property
    def energy_uj(self) -> float:
        """Energy of one of those evaluations."""
        return self.latency_us * self.power_w / self.steps

    @property
    def energy_gain(self) -> float:
        """Energy of ESE a step over that of CSB-RNN a step, each for its own network."""
        return self.energy_uj / self.csb_energy_uj


def ese_step() -> EseStep:
    """ESE's row against its throughput: the paper's first SR1 layer is the layer that ESE runs."""
    rows = {(row.model, row.design): row for row in table3()}
    ese, own = rows["SR1", "ese"], rows["SR1", "csb_rnn"]
    layer = networks()["SR1"][0]
    return EseStep(layer.weights, ese.latency_us, ese.power_w, own.latency_us, own.energy_uj)


def realtime_bound_us() -> float:
    """Microseconds a frame at the rate that the paper calls realtime."""
    return 1e6 / FRAMES_PER_S


def _weights() -> dict[str, int]:
    return {model: sum(layer.weights for layer in layers) for model, layers in networks().items()}


def _key(row: BoardRow) -> str:
    return f"{row.model.lower()}_{row.design}"


def _rows(name: str) -> list[dict[str, Any]]:
    return [point.model_dump() for point in points(name)]
