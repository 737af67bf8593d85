"""Fits: a known model is found again, recalled points are never used, and no point predicts itself."""

from dataclasses import dataclass
from typing import Any

import pytest

from hw_models import calibrate
from hw_models.calibrate import (
    PowerFit,
    RuntimeFit,
    fit_power,
    fit_runtimes,
    phone_points,
    power_comparisons,
    power_points,
    predict,
    runtime_comparisons,
)
from hw_models.reference_points import PhonePoint, SurveyPoint, points
from tests.hw.toys import gemm, processor, workload

NETWORKS = {
    "large": workload(gemm(5000, 300, 64, bits=16), gemm(5000, 64, 64, bits=16)),
    "small": workload(gemm(50, 300, 64, bits=16)),
    "short": workload(gemm(5000, 8, 64, bits=16)),
    "mixed": workload(gemm(400, 27, 32, bits=16), gemm(100, 900, 128, bits=16)),
}
TRUTH = RuntimeFit(half_outputs=9000, half_depth=60, utilisation={"fast": 0.4, "slow": 0.05})
DESIGNS = [(198, 125), (900, 150), (1500, 200), (2400, 100), (64, 250), (700, 300)]
POWER = PowerFit(static_w=1.5, dsp_j=4e-11)


def phone(network: str, framework: str, value: float = 1, **changes: Any) -> PhonePoint:
    row: dict[str, Any] = {
        "network": network,
        "device": "toy",
        "framework": framework,
        "weights": "dense",
        "rate": 1,
        "bits": 16,
        "batch": 1,
        "quantity": "latency_ms",
        "value": value,
        "confidence": "seen",
        "source": "https://example.org",
    }
    return PhonePoint(**row | changes)


def survey(dsp: int | None, mhz: float | None, watts: float = 1, **changes: Any) -> SurveyPoint:
    row: dict[str, Any] = {
        "design": f"{dsp} at {mhz}",
        "task": "classification",
        "network": "vgg16",
        "device": "zcu102",
        "weight_format": "fixed",
        "weight_bits": 16,
        "activation_bits": 16,
        "clock_mhz": mhz,
        "dsp_used": dsp,
        "dsp_total": None,
        "power_w": watts,
        "gops_per_w": None,
        "frames_per_s_per_w": None,
        "confidence": "seen",
        "source": "https://example.org",
    }
    return SurveyPoint(**row | changes)


def measured_phones() -> list[PhonePoint]:
    """Latencies exactly as the known model gives them."""
    return [
        phone(network, runtime, predict(phone(network, runtime), TRUTH, NETWORKS, processor()))
        for network in NETWORKS
        for runtime in TRUTH.utilisation
    ]


def measured_designs() -> list[SurveyPoint]:
    return [survey(dsp, mhz, POWER.power_w(dsp, mhz * 1e6)) for dsp, mhz in DESIGNS]


@dataclass(frozen=True)
class Library:
    """Stands for the files of published points."""

    rows: tuple[Any, ...]

    def __call__(self, name: str, confidence: str | None = None) -> tuple[Any, ...]:
        return tuple(row for row in self.rows if confidence is None or row.confidence == confidence)


def test_runtimes_are_found_again() -> None:
    found = fit_runtimes(measured_phones(), NETWORKS, processor())
    assert found.half_outputs == pytest.approx(TRUTH.half_outputs, rel=1e-3)
    assert found.half_depth == pytest.approx(TRUTH.half_depth, rel=1e-3)
    assert found.utilisation == pytest.approx(TRUTH.utilisation, rel=1e-3)


def test_runtimes_predict_the_points_that_they_were_fitted_to() -> None:
    measured = measured_phones()
    found = fit_runtimes(measured, NETWORKS, processor())
    for point in measured:
        assert predict(point, found, NETWORKS, processor()) == pytest.approx(point.value, rel=1e-3)


def test_a_runtime_changes_its_three_numbers_of_the_device_alone() -> None:
    device = TRUTH.device(processor(), "slow")
    assert (device.need("utilisation").si, device.need("half_outputs").si) == (0.05, 9000)
    assert device.need("half_depth").si == 60
    assert device.need("launch") == processor().need("launch")
    assert device.peak == processor().peak


def test_runtimes_left_out_are_predicted_from_the_others() -> None:
    found = runtime_comparisons(measured_phones(), NETWORKS, processor())
    assert len(found) == 8
    assert {each.role for each in found} == {"left out"}
    assert max(abs(each.error) for each in found) < 0.01


def test_networks_left_out_are_predicted_from_the_others() -> None:
    found = runtime_comparisons(measured_phones(), NETWORKS, processor(), by_network=True)
    assert max(abs(each.error) for each in found) < 0.01


@pytest.mark.parametrize("by_network", [True, False])
def test_a_latency_never_sees_itself(by_network: bool) -> None:
    """However wrong a point is, its own prediction stays: those of others move instead."""
    right = measured_phones()
    wrong = [
        point.model_copy(update={"value": 50 * point.value}) if i == 0 else point
        for i, point in enumerate(right)
    ]
    before, after = (
        runtime_comparisons(each, NETWORKS, processor(), by_network=by_network) for each in (right, wrong)
    )
    assert after[0].predicted == pytest.approx(before[0].predicted, rel=1e-6)
    assert any(abs(b.predicted / a.predicted - 1) > 0.1 for a, b in zip(before[1:], after[1:], strict=True))


def test_power_is_found_again() -> None:
    found = fit_power(measured_designs())
    assert found.static_w == pytest.approx(POWER.static_w, rel=1e-3)
    assert found.dsp_j == pytest.approx(POWER.dsp_j, rel=1e-3)


def test_one_odd_design_does_not_bend_the_fit() -> None:
    odd = measured_designs()
    odd[2] = odd[2].model_copy(update={"power_w": 20 * odd[2].power_w})
    found = fit_power(odd)
    assert (found.static_w, found.dsp_j) == pytest.approx((POWER.static_w, POWER.dsp_j), rel=0.01)


def test_power_by_hand() -> None:
    assert POWER.power_w(1000, 100e6) == pytest.approx(1.5 + 4)


def test_powers_left_out_are_predicted_from_the_others() -> None:
    found = power_comparisons(measured_designs())
    assert [each.published for each in found] == [point.power_w for point in measured_designs()]
    assert max(abs(each.error) for each in found) < 0.01
    assert {each.role for each in found} == {"left out"}


def test_a_power_never_sees_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that tells by its static power which points it saw."""
    measured = measured_designs()
    monkeypatch.setattr(
        calibrate, "fit_power", lambda others: PowerFit(sum(point.power_w for point in others), 0)
    )
    total = sum(point.power_w for point in measured)
    assert [each.predicted for each in power_comparisons(measured)] == pytest.approx(
        [total - point.power_w for point in measured]
    )


def test_recalled_latencies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (phone("large", "fast"), phone("small", "fast", confidence="recalled", source=None))
    monkeypatch.setattr(calibrate, "points", Library(rows))
    assert phone_points(NETWORKS, "toy") == [rows[0]]


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": "top1_percent"},
        {"weights": "pruned", "rate": 8},
        {"device": "another"},
        {"network": "unknown"},
        {"confidence": "derived"},
    ],
)
def test_other_figures_of_phones_are_not_used(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(calibrate, "points", Library((phone("large", "fast").model_copy(update=changes),)))
    assert phone_points(NETWORKS, "toy") == []


def test_recalled_powers_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (survey(198, 125), survey(900, 150, confidence="recalled", source=None))
    monkeypatch.setattr(calibrate, "points", Library(rows))
    assert power_points() == [rows[0]]


@pytest.mark.parametrize(
    "changes",
    [
        {"dsp_used": None},
        {"clock_mhz": None},
        {"weight_bits": None},
        {"weight_bits": 4},
        {"device": "stratix_v"},
        {"device": "arria_10"},
    ],
)
def test_other_designs_are_not_used(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    monkeypatch.setattr(calibrate, "points", Library((survey(198, 125).model_copy(update=changes),)))
    assert power_points() == []


def test_published_points_that_are_used_were_all_seen() -> None:
    networks = {row.network: workload() for row in points("phones")}
    used = [*phone_points(networks, "adreno_650"), *power_points()]
    assert len(used) >= 15
    assert {point.confidence for point in used} == {"seen"}
