"""Tables of the hardware comparison: modelled figures beside published ones."""

from collections.abc import Mapping, Sequence

from hw_models.calibrate import RuntimeFit
from hw_models.heatvit import LISTED_MHZ, RECALLED_MHZ
from lib.hardware import mobile_vs_fpga as study
from lib.hardware.mobile_vs_fpga import TITLES, Modelled
from lib.hardware.plots import BOARD_TITLES, HOW, published_rows
from lib.lab.record import Table


def efficiency_table(results: Sequence[Modelled]) -> Table:
    """Modelled and published GOP/s/W where the article has a figure for the same network and numbers."""
    rows = []
    for network, how, label, low, high, device in published_rows():
        same = [
            each
            for each in results
            if (each.network, each.choice.how) == (network, how) and device in (None, each.choice.device)
        ]
        if not same:
            continue
        best = max(same, key=lambda each: each.gops_per_w)
        place = "phone" if best.choice.is_phone else BOARD_TITLES[best.choice.device]
        said = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        e = best.estimate
        numbers = (str(e.gops_per_w), said, label, str(e.frames_per_s_per_w))
        rows.append((TITLES[network], HOW[how], place, *numbers))
    header = ("network", "runtime or numbers", "modelled on", "GOP/s/W, modelled", "published", "of")
    return Table((*header, "frames/s/W, modelled"), tuple(rows))


def turning_table(results: Sequence[Modelled], fits: Mapping[str, RuntimeFit], format_name: str) -> Table:
    """For every network the best FPGA in a format, its energy over the phone's, and where that turns."""
    rows = []
    for network in dict.fromkeys(each.network for each in results):
        fpga, phone = study.best_fpga(results, network, (format_name,)), study.on_phone(results, network)
        used = fits[network].utilisation[study.REFERENCE]
        losing = study.phone_losing_share(phone, used, fpga.energy_mj.value)
        rows.append(
            (
                TITLES[network],
                BOARD_TITLES[fpga.choice.device],
                str(fpga.energy_mj),
                str(phone.energy_mj),
                str(study.turning_factor(fpga, phone)),
                f"{100 * used:.1f} %",
                f"below {100 * losing:.1f} %",
            )
        )
    header = ("network", f"best FPGA, {format_name}", "mJ an image", "phone, mJ", "FPGA over phone")
    return Table((*header, "phone reaches of its peak", "and would lose"), tuple(rows))


def heatvit_table(metrics: Mapping[str, tuple[float, str]]) -> Table:
    """Predicted and published figures, how sure the published one is, and how far off the prediction is."""
    rows, slow = [], f"_{RECALLED_MHZ:.0f}"
    published = study.heatvit_published()
    for name, (value, unit) in metrics.items():
        if name in published:
            said, confidence = published[name]
            quantity, _, network = name.removesuffix(slow).partition("_")
            clock = f"{RECALLED_MHZ if name.endswith(slow) else LISTED_MHZ:.0f} MHz"
            figures = (
                f"{value:.2f} {unit}",
                f"{said:.2f} {unit}",
                confidence,
                f"{100 * (value / said - 1):+.0f} %",
            )
            rows.append((f"{quantity}, {TITLES.get(network, network)}", clock, *figures))
    return Table(("quantity", "clock", "predicted", "published", "figure was", "off by"), tuple(rows))
