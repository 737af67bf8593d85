"""The comparison rebuilt from models: choices, fits that leave a network out, what follows from energies."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from hw_models import Estimate, LayerEstimate, Workload, load_device
from hw_models.calibrate import RuntimeFit, phone_points
from hw_models.reference_points import points
from hw_models.span import Span
from hw_models.traffic import LayerWork
from lib.errors import WrongUse
from lib.hardware import mobile_vs_fpga as study
from lib.hardware import plots, tables
from lib.hardware.mobile_vs_fpga import Choice, Modelled
from lib.hardware.networks import networks


@pytest.fixture(scope="module")
def cnns() -> dict[str, Workload]:
    return networks(*study.NETWORKS)


@pytest.fixture(scope="module")
def fit(cnns: dict[str, Workload]) -> RuntimeFit:
    return study.runtime_fit(cnns)


@pytest.fixture(scope="module")
def results(cnns: dict[str, Workload], fit: RuntimeFit) -> tuple[Modelled, ...]:
    small = {name: cnns[name] for name in ("resnet18", "mobilenet_v2")}
    return study.experiment(small, dict.fromkeys(small, fit))


def planted(how: str, device: str, compute_ms: float, launch_ms: float, power_w: float) -> Modelled:
    """One operation of a network called net, whose time and power are given."""
    work = LayerWork("layer", "convolution", 1, 0, 16, 1.0, Span.exact(1.0))
    latency = Span.exact(compute_ms + launch_ms)
    layer = LayerEstimate(work, compute_ms, 0.0, launch_ms, latency)
    estimated = Estimate("net", load_device(device), 1, (layer,), {}, (), Span.exact(power_w))
    return Modelled("net", Choice(how, device, how), estimated)


def test_an_unknown_number_format_is_wrong_use() -> None:
    with pytest.raises(WrongUse, match="int3; choose from float32"):
        study.fpga_choices(["zcu102"], ["fixed8", "int3"])


def test_a_choice_knows_its_platform() -> None:
    assert all(choice.is_phone for choice in study.phone_choices())
    fpga = study.fpga_choices(study.BOARDS, study.FORMATS)
    assert not any(choice.is_phone for choice in fpga)
    assert len(fpga) == len(study.BOARDS) * len(study.FORMATS)


def test_the_phone_runs_a_runtime_and_the_fpga_an_engine(results: tuple[Modelled, ...]) -> None:
    for each in results:
        assert (each.estimate.design is None) == each.choice.is_phone
        assert each.energy_mj.low <= each.energy_mj.value <= each.energy_mj.high
        assert each.energy_mj.low > 0


def test_binary_weights_need_no_slices_and_are_no_slower(results: tuple[Modelled, ...]) -> None:
    found = {(each.network, each.choice.device, each.choice.how): each for each in results}
    for board in study.BOARDS:
        binary, fixed = (found["resnet18", board, how] for how in ("binary", "fixed16"))
        assert binary.estimate.design is not None
        assert fixed.estimate.design is not None
        assert binary.estimate.design.resources.dsp == 0 < fixed.estimate.design.resources.dsp
        assert binary.latency_ms.value <= fixed.latency_ms.value


def test_a_fit_does_not_see_the_network_it_leaves_out(
    cnns: dict[str, Workload], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two fits that follow are to points that differ in VGG-16 alone."""

    def faked(networks: dict[str, Workload], device: str) -> list[object]:
        known = phone_points(networks, device)
        return [
            point.model_copy(update={"value": 100 * point.value}) if point.network == "vgg16" else point
            for point in known
        ]

    honest = study.runtime_fit(cnns, "vgg16")
    monkeypatch.setattr(study, "phone_points", faked)
    assert study.runtime_fit(cnns, "vgg16") == honest


def test_networks_that_are_never_fitted_to_get_the_fit_to_all_others(
    cnns: dict[str, Workload], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "runtime_fit", lambda networks, without="": without or "all")
    assert study.fits_without(cnns) == {
        "vgg16": "vgg16",
        "resnet18": "resnet18",
        "mobilenet_v2": "mobilenet_v2",
        "resnet50": "all",
    }


def test_predictions_stand_beside_every_published_dense_latency(
    cnns: dict[str, Workload], fit: RuntimeFit
) -> None:
    found = study.runtime_predictions(cnns, dict.fromkeys(cnns, fit))
    assert len(found) == 16  # four networks under four runtimes
    assert all(each.published == point.value and each.predicted > 0 for point, each in found.items())


def test_the_turning_factor_is_a_quotient_of_energies() -> None:
    # 3 W x 4 ms = 12 mJ on the FPGA, 1.5 W x 2 ms = 3 mJ on the phone
    fpga, phone = planted("fixed8", "zcu102", 4, 0, 3), planted("mnn", study.PHONE, 2, 0, 1.5)
    assert study.turning_factor(fpga, phone).value == pytest.approx(4)
    assert study.fpga_wins([fpga, phone], ["fixed8"]) == []
    assert study.fpga_wins([planted("fixed8", "zcu102", 0.9, 0, 3), phone], ["fixed8"]) == ["net"]


def test_the_phone_loses_below_a_share_of_its_peak_worked_out_by_hand() -> None:
    # 8 ms of arithmetic and 2 ms beside it at 1.5 W are 15 mJ; 27 mJ are 18 ms, 16 of them arithmetic
    phone = planted("mnn", study.PHONE, 8, 2, 1.5)
    assert study.phone_losing_share(phone, 0.1, 27) == pytest.approx(0.05)
    assert study.phone_losing_share(phone, 0.1, 15) == pytest.approx(0.1)
    # 3 mJ allow no more than the 2 ms beside arithmetic
    assert study.phone_losing_share(phone, 0.1, 3) == float("inf")


def test_the_best_fpga_takes_the_least_energy(results: tuple[Modelled, ...]) -> None:
    best = study.best_fpga(results, "resnet18", study.UNQUANTISED)
    rivals = [r for r in results if r.network == "resnet18" and r.choice.how in study.UNQUANTISED]
    assert best.energy_mj.value == min(each.energy_mj.value for each in rivals)
    with pytest.raises(WrongUse, match="no FPGA was modelled for vgg16"):
        study.best_fpga(results, "vgg16", ("fixed8",))


def test_efficiencies_have_a_name_for_every_platform(results: tuple[Modelled, ...]) -> None:
    found = study.efficiencies(results)
    phone = study.on_phone(results, "resnet18")
    assert found["resnet18_mnn"] == pytest.approx(2 * phone.estimate.macs / 1e6 / phone.energy_mj.value)
    assert found["resnet18_fpga_fixed8"] == max(found[f"resnet18_{b}_fixed8"] for b in study.BOARDS)
    formats = (found[f"resnet18_fpga_{name}"] for name in study.UNQUANTISED)
    assert found["resnet18_fpga_unquantised"] == max(formats)


def test_ratios_of_phone_and_fpga_take_the_articles_opponents(
    cnns: dict[str, Workload], fit: RuntimeFit, results: tuple[Modelled, ...]
) -> None:
    both = (*results, *study.experiment({"vgg16": cnns["vgg16"]}, {"vgg16": fit}))
    found, named = study.phone_over_fpga(both), study.efficiencies(both)
    assert found["vgg16_low"] == named["vgg16_tflite"] / named["vgg16_fpga_unquantised"]
    assert found["mobilenet_v2_high"] == named["mobilenet_v2_mnn"] / named["mobilenet_v2_fpga_fixed8"]


def test_what_is_drawn_is_chosen_from_the_results(results: tuple[Modelled, ...]) -> None:
    drawn = study.chosen(results, ["resnet18"], ["zcu102"], ["fixed8", "binary"])
    assert [each.choice.how for each in drawn] == ["mnn", "tvm", "tflite", "own", "cpu", "fixed8", "binary"]


def test_the_articles_arithmetic_by_the_names_of_the_card() -> None:
    # VGG-16: 160.4 / 5.1 = 31.45 and 72.6 / 2.3 = 31.57
    assert study.operation_count_spread() == pytest.approx(31.565 / 31.451 - 1, abs=1e-4)
    rates = study.normalised_rates()
    # 27.7 x 1.75 / (2 x 198 x 0.125), 38.9 x 4 / (2 x 855 x 0.125)
    assert rates["vgg16_xc7z020"] == pytest.approx(0.979, abs=1e-3)
    assert rates["vgg16_xc7z045"] == pytest.approx(0.728, abs=1e-3)
    assert rates["lowest"] < rates["vgg16_xc7z045"] < rates["highest"]
    assert study.fpga_frames() == pytest.approx({"lowest": 9.4 / 31.52, "highest": 47.7 / 31.52}, rel=1e-3)


def test_published_blocks_are_those_of_the_figure() -> None:
    assert study.published_blocks("speedup") == {"1": 1.5, "16": 2.9, "32": 3.3, "64": 3.5, "matrix": 3.6}
    assert list(study.published_blocks("top1_percent").values()) == [69.9, 69.7, 69.1, 67.3, 63.7]


def test_a_recalled_clock_makes_a_seen_latency_recalled() -> None:
    said = study.heatvit_published()
    assert said["latency_deit_small"] == (9.15, "seen")
    assert said["latency_deit_small_150"] == (9.15, "recalled")
    assert said["latency_deit_tiny_150"][0] == pytest.approx(1e3 / 271.2)
    assert said["latency_deit_tiny_150"][1] == "recalled"
    assert (said["speedup_lowest"], said["pruning_highest"]) == ((3.46, "seen"), (2.58, "seen"))
    assert {row.confidence for row in points("heatvit") if row.quantity == "frame_rate"} == {"recalled"}


def test_share_of_the_packed_peak_by_hand() -> None:
    # 2520 slices x 2 x 300 MHz = 1.512 TMAC/s; 1.512 GMAC in 2 ms is half of it
    assert study.packed_peak_share(1.512e9, 2, load_device("zcu102"), 300) == pytest.approx(0.5)


def test_costs_are_relative_to_the_heavier_network(results: tuple[Modelled, ...]) -> None:
    costs = study.relative_costs(results, {}, "mobilenet_v2", "resnet18")
    assert costs["operations"] == pytest.approx(300_774_272 / 1_814_073_344)
    phone = [study.on_phone(results, name).latency_ms.value for name in ("mobilenet_v2", "resnet18")]
    assert costs["phone GPU"] == pytest.approx(phone[0] / phone[1])


def test_figures_hold_a_panel_per_network_and_units(results: tuple[Modelled, ...]) -> None:
    mpl.use("Agg")
    figure = plots.energies(study.chosen(results, ["resnet18", "mobilenet_v2"], ["xc7z020"], ["fixed8"]))
    assert [axes.get_title() for axes in figure.axes] == ["ResNet-18", "MobileNetV2"]
    assert all("(mJ)" in axes.get_ylabel() for axes in figure.axes)
    plt.close("all")


def test_tables_hold_published_figures_beside_the_models(results: tuple[Modelled, ...]) -> None:
    table = tables.efficiency_table(results)
    (row,) = (row for row in table.rows if row[:2] == ("ResNet-18", "MNN"))
    assert row[4] == "118.2"
    heatvit = tables.heatvit_table({"latency_deit_small": (18.3, "ms")})
    assert heatvit.rows == (("latency, DeiT-S", "300 MHz", "18.30 ms", "9.15 ms", "seen", "+100 %"),)
