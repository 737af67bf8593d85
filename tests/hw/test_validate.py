"""The table that opens the package's README: its lines are those of the models as they are now."""

from collections.abc import Callable

import pytest

from hw_models import load_device
from hw_models.calibrate import FITTED_NETWORKS, fit_power, fit_runtimes, phone_points, power_points
from hw_models.comparison import Comparison
from hw_models.fusion import fused
from hw_models.validate import (
    Validation,
    block_pruning,
    host_latencies,
    markdown,
    power_of_designs,
    rtl_cycles,
    runtimes,
    systolic_cycles,
    vgg16_rates,
)
from lib.hardware.networks import network, networks
from lib.project import REPOSITORY

README = (REPOSITORY.root / "hw_models" / "README.md").read_text(encoding="utf-8")


def lines(*validations: Validation) -> list[str]:
    return markdown(validations).splitlines()[2:]


@pytest.mark.parametrize("make", [rtl_cycles, host_latencies, power_of_designs])
def test_line_is_the_models(make: Callable[[], Validation]) -> None:
    assert lines(make())[0] in README


def test_lines_of_the_systolic_array_are_the_models() -> None:
    found = lines(*systolic_cycles())
    assert len(found) == 4
    assert [line for line in found if line not in README] == []


def test_line_of_vgg16_is_the_models() -> None:
    assert lines(vgg16_rates(network("vgg16")))[0] in README


@pytest.mark.slow
def test_lines_of_the_runtimes_and_of_block_pruning_are_the_models() -> None:
    found = lines(*runtimes(networks(*FITTED_NETWORKS, "resnet50")), block_pruning())
    assert [line for line in found if line not in README] == []


def test_fitted_constants_of_the_phone_are_those_of_its_file() -> None:
    device = load_device("adreno_650")
    ready = {name: fused(work.at_bits(16)) for name, work in networks(*FITTED_NETWORKS).items()}
    fit = fit_runtimes(phone_points(ready, device.name), ready, device)
    assert device.need("half_outputs").value == pytest.approx(fit.half_outputs, rel=0.01)
    assert device.need("half_depth").value == pytest.approx(fit.half_depth, rel=0.01)
    assert device.need("utilisation").value == pytest.approx(fit.utilisation["mnn"], rel=0.01)
    ends = [device.need("utilisation").low, device.need("utilisation").high]
    assert ends == pytest.approx([min(fit.utilisation.values()), max(fit.utilisation.values())], rel=0.01)


@pytest.mark.parametrize("name", ["zcu102", "xc7z020", "xc7z045", "ku060", "adm_pcie_7v3"])
def test_fitted_power_is_that_of_every_fpgas_file(name: str) -> None:
    device, fit = load_device(name), fit_power(power_points())
    assert device.need("static_power").si == pytest.approx(fit.static_w, rel=0.01)
    assert device.need("dsp_energy").si == pytest.approx(fit.dsp_j, rel=0.01)


def test_line_shows_median_and_worst_of_the_absolute_errors() -> None:
    points = tuple(
        Comparison(name, predicted, 100, "ms", "predicted", "seen")
        for name, predicted in (("a", 90), ("b", 102), ("c", 140))
    )
    (line,) = lines(Validation("latency", "toy", "a source", "nothing", points))
    assert line == "| latency | toy | a source | nothing | 3 | 10 % | 40 % |"
