"""The arithmetic of "Mobile or FPGA?" done again from its own published points.

Nothing here is measured or modelled. Each function takes figures that the article prints or plots and derives
others that it also prints, so that a disagreement is the article's own. One multiply-accumulate is two
operations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hw_models import load_device
from hw_models.reference_points import Confidence, EfficiencyPoint, PhonePoint, points

PHONE_GPU = "adreno_650"
"""GPU of the phone that the article measures (Galaxy S20)."""

PRINTED: tuple[Confidence, ...] = ("seen", "derived")
"""What may enter the arithmetic: recalled points may not."""

Efficiency = Literal["gops_per_w", "frames_per_s_per_w"]


@dataclass(frozen=True)
class ImpliedPower:
    """Power at which a latency and an efficiency of the same network and framework agree."""

    network: str
    framework: str
    weights: str
    latency_ms: float
    frames_per_s_per_w: float
    approximate: bool
    """Whether one of the two was read off a plot without a printed value."""

    @property
    def power_w(self) -> float:
        """FPS / (FPS/W), with one frame at a time."""
        return 1000 / self.latency_ms / self.frames_per_s_per_w


@dataclass(frozen=True)
class OperationCount:
    """Operations of one frame at which two efficiencies of the same design agree."""

    network: str
    platform: Literal["phone", "fpga"]
    design: str
    gops_per_w: float
    frames_per_s_per_w: float

    @property
    def gop(self) -> float:
        """(GOPS/W) / (FPS/W): the count must be one number per network, whatever the design."""
        return self.gops_per_w / self.frames_per_s_per_w


@dataclass(frozen=True)
class Ratio:
    """A stated ratio of two published efficiencies, and the points that it should follow from."""

    claim: str
    quantity: Efficiency
    above: str
    below: str
    above_value: float
    below_value: float

    @property
    def value(self) -> float:
        return self.above_value / self.below_value

    @property
    def metrics(self) -> tuple[str, str]:
        """Names under which the card compares the two points: quantity, underscore, point."""
        return f"{self.quantity}_{self.above}", f"{self.quantity}_{self.below}"


@dataclass(frozen=True)
class NormalisedRate:
    """Speed of an FPGA design over what its DSP slices could do."""

    design: str
    task: str
    network: str | None
    device: str
    gops: float
    """Efficiency x power."""
    nominal_gops: float
    """DSP slices in use x clock x operations a slice does in a cycle."""

    @property
    def share(self) -> float:
        """Above 1 where slices multiply twice in a cycle or lookup tables multiply as well."""
        return self.gops / self.nominal_gops


@dataclass(frozen=True)
class RooflineShare:
    """Speed of a phone GPU on a dense network against its arithmetic peak."""

    network: str
    framework: str
    latency_ms: float
    gops: float
    peak_gops: float
    lowest_peak_gops: float
    """The other published count of the same peak."""

    @property
    def share(self) -> float:
        return self.gops / self.peak_gops

    @property
    def highest_share(self) -> float:
        return self.gops / self.lowest_peak_gops


@dataclass(frozen=True)
class PrunedGain:
    """Efficiency of the pruned network over that of the dense one in the same compiler."""

    network: str
    pruned_frames_per_s_per_w: float
    dense_latency_ms: float
    power_w: float

    @property
    def dense_frames_per_s_per_w(self) -> float:
        return 1000 / self.dense_latency_ms / self.power_w

    @property
    def gain(self) -> float:
        return self.pruned_frames_per_s_per_w / self.dense_frames_per_s_per_w


RATIOS: tuple[tuple[str, Efficiency, str, str], ...] = (
    ("c1_vgg16_low", "gops_per_w", "vgg16_tflite", "vgg16_fpga_survey_16bit"),
    ("c1_vgg16_high", "gops_per_w", "vgg16_mnn", "vgg16_fpga_survey_16bit"),
    ("c1_mobilenet_v2_low", "gops_per_w", "mobilenet_v2_tflite", "mobilenet_v2_fpga_arria"),
    ("c1_mobilenet_v2_high", "gops_per_w", "mobilenet_v2_mnn", "mobilenet_v2_fpga_arria"),
    ("c3_vgg16_points", "gops_per_w", "vgg16_mnn", "vgg16_tflite"),
    ("c3_mobilenet_v2_points", "gops_per_w", "mobilenet_v2_mnn", "mobilenet_v2_tflite"),
    ("c4_points", "gops_per_w", "resnet18_mnn", "resnet18_fpga_mixed_precision"),
    ("c5_points", "gops_per_w", "yolov2_fpga_binary_a", "yolov3_mnn"),
    ("c6_points", "gops_per_w", "yolov3_fpga_mixed", "yolov3_fpga_8bit"),
    ("c8_vgg16_points", "frames_per_s_per_w", "vgg16_own_pruned", "vgg16_mnn"),
    ("c8_resnet18_points", "frames_per_s_per_w", "resnet18_own_pruned", "resnet18_mnn"),
    ("c8_mobilenet_v2_points", "frames_per_s_per_w", "mobilenet_v2_own_pruned", "mobilenet_v2_mnn"),
)
"""Claim of the card, quantity, and the two points (names as in `efficiencies`) of every stated ratio."""


def efficiencies(quantity: Efficiency, phone: str = PHONE_GPU) -> dict[str, float]:
    """Published efficiencies by name: `<network>_<framework>` on the phone (`_pruned` added where it is so),
    `<network>_fpga_<design>` on FPGAs; of a range over designs, the best."""
    found = {_name(row): row.value for row in _phone_rows(phone, quantity)}
    for row in _fpga_rows(quantity):
        found[f"{row.network}_fpga_{row.design}"] = row.high
    return found


def implied_powers(phone: str = PHONE_GPU) -> tuple[ImpliedPower, ...]:
    """Power implied by each pair of latency and FPS/W published in one place (check 1)."""
    efficiency = {
        (row.network, row.framework, row.weights): row for row in _phone_rows(phone, "frames_per_s_per_w")
    }
    found = []
    for row in _phone_rows(phone, "latency_ms"):
        other = efficiency.get((row.network, row.framework, row.weights))
        if other is not None and other.source == row.source:
            rough = any("read off a plot" in point.note for point in (row, other))
            found.append(ImpliedPower(row.network, row.framework, row.weights, row.value, other.value, rough))
    return tuple(found)


def operation_counts(phone: str = PHONE_GPU) -> tuple[OperationCount, ...]:
    """Operations of a frame implied by each pair of published GOPS/W and FPS/W (check 2)."""
    found = []
    frames = {
        (row.network, row.framework, row.weights): row.value
        for row in _phone_rows(phone, "frames_per_s_per_w")
    }
    for row in _phone_rows(phone, "gops_per_w"):
        per_frame = frames.get((row.network, row.framework, row.weights))
        if per_frame is not None:
            found.append(OperationCount(row.network, "phone", row.framework, row.value, per_frame))
    fpga_frames = {(row.network, row.design): row for row in _fpga_rows("frames_per_s_per_w")}
    for point in _fpga_rows("gops_per_w"):
        partner = fpga_frames.get((point.network, point.design))
        if partner is not None:
            found.append(OperationCount(point.network, "fpga", point.design, point.value, partner.value))
    return tuple(found)


def ratios() -> tuple[Ratio, ...]:
    """The stated ratios, each from its two published points (check 3)."""
    values = {quantity: efficiencies(quantity) for quantity in ("gops_per_w", "frames_per_s_per_w")}
    return tuple(
        Ratio(claim, quantity, above, below, values[quantity][above], values[quantity][below])
        for claim, quantity, above, below in RATIOS
    )


def fpga_frame_range(network: str, gop: float) -> tuple[float, float]:
    """Lowest and highest FPS/W that the published GOPS/W of FPGA designs give at `gop` operations a frame."""
    rows = [row for row in _fpga_rows("gops_per_w") if row.network == network]
    return min(row.low for row in rows) / gop, max(row.high for row in rows) / gop


def normalised_rates(operations_per_dsp: int = 2) -> tuple[NormalisedRate, ...]:
    """Speed over nominal speed of every surveyed design whose figures allow it (check 4).

    With two operations, one multiply-accumulate, per slice and cycle the range of the figure comes out; with
    one operation every share doubles.
    """
    found = []
    for row in points("fpga_survey", PRINTED):
        if row.gops_per_w is None or row.clock_mhz is None or row.dsp_used is None:
            continue
        nominal = operations_per_dsp * row.dsp_used * row.clock_mhz / 1000
        rate = row.gops_per_w * row.power_w
        found.append(NormalisedRate(row.design, row.task, row.network, row.device, rate, nominal))
    return tuple(found)


def roofline_shares(macs: Mapping[str, int], phone: str = PHONE_GPU) -> tuple[RooflineShare, ...]:
    """Share of the 16-bit peak that each published dense latency reaches (check 5); `macs` by network."""
    peak = load_device(phone).need_peak(16)
    lowest = peak.si_range[0]
    found = []
    for row in _phone_rows(phone, "latency_ms"):
        if row.weights == "dense" and row.network in macs:
            rate = 2 * macs[row.network] / (row.value / 1000)
            found.append(
                RooflineShare(row.network, row.framework, row.value, rate / 1e9, peak.si / 1e9, lowest / 1e9)
            )
    return tuple(found)


def stated_power_w(phone: str = PHONE_GPU) -> float:
    """The one power that the article states for the phone's GPU."""
    (power,) = (row.power_w for row in points("power", PRINTED) if row.device == phone)
    return power


def pruned_gains(power_w: float, phone: str = PHONE_GPU) -> tuple[PrunedGain, ...]:
    """What pruning gained over the dense network in the authors' own compiler at `power_w` (check 7).

    The article prints no FPS/W of its dense networks: it is derived from their latency and the power.
    """
    dense = {
        row.network: row.value
        for row in _phone_rows(phone, "latency_ms")
        if (row.framework, row.weights) == ("own", "dense")
    }
    return tuple(
        PrunedGain(row.network, row.value, dense[row.network], power_w)
        for row in _phone_rows(phone, "frames_per_s_per_w")
        if (row.framework, row.weights) == ("own", "pruned") and row.network in dense
    )


def _phone_rows(phone: str, quantity: str) -> tuple[PhonePoint, ...]:
    return tuple(row for row in points("phones", PRINTED) if (row.device, row.quantity) == (phone, quantity))


def _fpga_rows(quantity: str) -> tuple[EfficiencyPoint, ...]:
    return tuple(row for row in points("fpga_efficiency", PRINTED) if row.quantity == quantity)


def _name(row: PhonePoint) -> str:
    return f"{row.network}_{row.framework}" + ("_pruned" if row.weights == "pruned" else "")
