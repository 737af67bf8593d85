"""The constants that are fitted, the points that they are fitted to, and how well that predicts the rest.

Two fits, both on published points that were seen, never on recalled ones:
- runtimes on Adreno 650: one utilisation per runtime, and `half_outputs` and `half_depth` that they share;
- chip power of fixed-point designs on Xilinx FPGAs: static power, and energy of a DSP slice in a busy cycle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares, minimize

from hw_models.comparison import Comparison, Role, leave_group_out
from hw_models.device import Device
from hw_models.mobile import layer_estimates
from hw_models.quantity import Quantity
from hw_models.reference_points import PhonePoint, SurveyPoint, points
from hw_models.span import Span
from hw_models.workload import Workload

FEWEST_BITS = 8
"""Designs of narrower numbers compute in look-up tables, so that DSP slices do not tell their power."""
FITTED_NETWORKS = ("vgg16", "resnet18", "mobilenet_v2")
"""Networks whose printed latencies the runtimes are fitted to; others are left to predict."""
OTHER_BLOCKS = ("arria", "stratix")
"""Intel's DSP blocks hold two multipliers of another size; a count of them is not a count of slices."""


@dataclass(frozen=True)
class RuntimeFit:
    """What the runtimes of a phone GPU have in common, and how much of its peak each reaches."""

    half_outputs: float
    half_depth: float
    utilisation: dict[str, float]

    def device(self, device: Device, runtime: str) -> Device:
        """`device` as `runtime` uses it."""
        return device.model_copy(
            update={
                "utilisation": _fitted(self.utilisation[runtime], "fraction"),
                "half_outputs": _fitted(self.half_outputs, "count"),
                "half_depth": _fitted(self.half_depth, "count"),
            }
        )


@dataclass(frozen=True)
class PowerFit:
    """Chip power of an FPGA design: static watts, and joules of a DSP slice in a busy cycle."""

    static_w: float
    dsp_j: float

    def power_w(self, dsp: float, clock_hz: float) -> float:
        return self.static_w + self.dsp_j * dsp * clock_hz


def phone_points(networks: Mapping[str, Workload], device: str) -> list[PhonePoint]:
    """Published dense latencies on `device`, seen, of the networks given."""
    return [
        point
        for point in points("phones", "seen")
        if point.quantity == "latency_ms"
        and point.weights == "dense"
        and point.device == device
        and point.network in networks
    ]


def fit_runtimes(
    points: Sequence[PhonePoint], networks: Mapping[str, Workload], device: Device
) -> RuntimeFit:
    """The fit with the least squared logarithmic errors of latency."""
    runtimes = sorted({point.framework for point in points})

    def parameters(x: np.ndarray) -> RuntimeFit:
        values = [float(value) for value in np.exp(x)]
        return RuntimeFit(values[0], values[1], dict(zip(runtimes, values[2:], strict=True)))

    def errors(x: np.ndarray) -> list[float]:
        fit = parameters(x)
        return [float(np.log(predict(point, fit, networks, device) / point.value)) for point in points]

    start = np.log([3e4, 32.0, *[0.1] * len(runtimes)])
    low = np.log([1.0, 0.5, *[1e-3] * len(runtimes)])
    high = np.log([1e6, 1e3, *[1.0] * len(runtimes)])
    return parameters(least_squares(errors, start, bounds=(low, high), x_scale="jac").x)


def predict(point: PhonePoint, fit: RuntimeFit, networks: Mapping[str, Workload], device: Device) -> float:
    """Milliseconds of the point's network under its runtime."""
    layers = layer_estimates(networks[point.network], fit.device(device, point.framework), point.batch)
    return Span.sum(layer.latency for layer in layers).value


def runtime_comparisons(
    points: Sequence[PhonePoint],
    networks: Mapping[str, Workload],
    device: Device,
    *,
    by_network: bool = False,
) -> list[Comparison]:
    """Every point predicted from all the others, or from all points of other networks."""

    def compare(point: PhonePoint, fit: RuntimeFit, role: Role) -> Comparison:
        name = f"{point.network}, {point.framework}"
        predicted = predict(point, fit, networks, device)
        return Comparison(name, predicted, point.value, "ms", role, point.confidence)

    return leave_group_out(
        points,
        (lambda point: point.network) if by_network else id,
        lambda others: fit_runtimes(others, networks, device),
        compare,
    )


def power_points() -> list[SurveyPoint]:
    """Published fixed-point designs on Xilinx chips whose slices, clock and power were seen."""
    return [
        point
        for point in points("fpga_survey", "seen")
        if point.dsp_used
        and point.clock_mhz
        and point.weight_bits
        and point.weight_bits >= FEWEST_BITS
        and not point.device.startswith(OTHER_BLOCKS)
    ]


def fit_power(points: Sequence[SurveyPoint]) -> PowerFit:
    """The fit with the least sum of absolute logarithmic errors: one odd design does not bend it."""
    work = np.array([_dsp_hz(point) for point in points])
    power = np.array([point.power_w for point in points])

    def loss(x: np.ndarray) -> float:
        return float(np.abs(np.log((np.exp(x[0]) + np.exp(x[1]) * work) / power)).sum())

    starts = [np.log([static, joules]) for static in (0.3, 1.0, 3.0) for joules in (1e-11, 3e-11, 1e-10)]
    found = [
        minimize(loss, x, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000})
        for x in starts
    ]
    static, joules = np.exp(min(found, key=lambda result: result.fun).x)
    return PowerFit(float(static), float(joules))


def power_comparisons(points: Sequence[SurveyPoint]) -> list[Comparison]:
    """Every design's power predicted from all the others."""

    def compare(point: SurveyPoint, fit: PowerFit, role: Role) -> Comparison:
        assert point.dsp_used
        assert point.clock_mhz
        predicted = fit.power_w(point.dsp_used, point.clock_mhz * 1e6)
        name = f"{point.design}, {point.device}"
        return Comparison(name, predicted, point.power_w, "W", role, point.confidence)

    return leave_group_out(points, id, fit_power, compare)


def _dsp_hz(point: SurveyPoint) -> float:
    assert point.dsp_used
    assert point.clock_mhz
    return point.dsp_used * point.clock_mhz * 1e6


def _fitted(value: float, unit: str) -> Quantity:
    return Quantity(value=value, unit=unit, confidence="derived", basis="fitted, see calibrate.py")
