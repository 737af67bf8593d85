"""Device files: every number accounted for, and errors that name file and field."""

from pathlib import Path

import pytest

from hw_models import DeviceError, device_names, load_device
from hw_models.device import read_device

GOOD = """
name: toy
title: A toy
kind: cpu
peak:
  32: {value: 10, unit: GOP/s, confidence: seen, source: "https://example.org"}
bandwidth: {value: 5, unit: GB/s, confidence: recalled}
utilisation: {value: 0.5, low: 0.2, high: 0.8, unit: fraction, confidence: assumed, basis: a guess}
launch: {value: 2, low: 1, high: 4, unit: us, confidence: assumed, basis: a guess}
"""


def test_shipped_devices_load() -> None:
    assert {"snapdragon_855_cpu", "adreno_640", "adreno_650", "zcu102"} <= set(device_names())
    for name in device_names():
        device = load_device(name)
        assert device.name == name
        assert device.peak


def test_values_are_in_si_units() -> None:
    device = read_device(GOOD, "toy.yaml", "toy")
    assert device.need_peak(32).si == 10e9
    assert device.need("bandwidth").si == 5e9
    assert device.need("launch").si_range == pytest.approx((1e-6, 4e-6))
    assert device.need("bandwidth").si_range == (5e9, 5e9)


def test_derived_peaks_follow_from_their_basis() -> None:
    zcu102, cpu = load_device("zcu102"), load_device("snapdragon_855_cpu")
    dsp, clock = zcu102.facts["dsp_slices"].si, zcu102.facts["clock"].si
    assert zcu102.need_peak(16).si == pytest.approx(2 * dsp * clock)
    assert zcu102.need_peak(8).si == pytest.approx(2 * zcu102.need_peak(16).si)
    assert cpu.need_peak(32).si == pytest.approx((2.84 * 16 + 3 * 2.42 * 16 + 4 * 1.80 * 8) * 1e9, rel=1e-3)


def test_unknown_device_suggests_the_nearest() -> None:
    with pytest.raises(
        DeviceError, match=r"unknown device 'adreno640'; did you mean adreno_640\? known: .*zcu102"
    ):
        load_device("adreno640")


def test_device_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(GOOD)
    assert load_device(tmp_path / "toy.yaml") == load_device(str(tmp_path / "toy.yaml"))
    with pytest.raises(DeviceError, match=r"no device file .*absent\.yaml"):
        load_device(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value: 10,", "value: -10,", r"toy.yaml: peak.32.value: .*greater than 0"),
        ("value: 10,", "value: 1e10,", r"toy.yaml: peak.32.value: .*'1e10' is text"),
        ("value: 10,", "value: .nan,", r"toy.yaml: peak.32.value: .*finite"),
        ("value: 10, unit: GOP/s", "value: 10", r"toy.yaml: peak.32.unit: Field required"),
        ("unit: GOP/s", "unit: GFLOPs", r"toy.yaml: peak.32: unknown unit 'GFLOPs'; known: GOP/s"),
        ("unit: GOP/s", "unit: GB/s", r"toy.yaml: peak.32: GB/s measures bytes per second, need operations"),
        ("unit: GB/s", "unit: MHz", r"toy.yaml: bandwidth: MHz measures frequency, need bytes per second"),
        (', source: "https://example.org"', "", r"toy.yaml: peak.32: a number that was seen needs a source"),
        ("https://example.org", "a book", r"toy.yaml: peak.32: source must be an address"),
        ("seen", "rumoured", r"toy.yaml: peak.32.confidence: .*'seen', 'recalled'"),
        (", basis: a guess}\nlaunch", "}\nlaunch", r"toy.yaml: utilisation: .*needs a basis"),
        ("low: 0.2, high: 0.8, ", "", r"toy.yaml: utilisation: .*needs a range"),
        ("low: 0.2, ", "", r"toy.yaml: utilisation: a range needs both"),
        ("low: 0.2", "low: 0.6", r"toy.yaml: utilisation: value 0.5 lies outside"),
        ("high: 0.8", "high: 1.2", r"toy.yaml: utilisation: a fraction is at most 1"),
        ("kind: cpu", "kind: cpu\ncolour: red", r"toy.yaml: colour: Extra inputs are not permitted"),
        ("kind: cpu", "kind: cpu\nkind: gpu", r"toy.yaml: .*key 'kind' is given twice"),
        ("name: toy", "name: other", r"toy.yaml: name is 'other', the file's is 'toy'"),
        ("kind: cpu", "kind: [", r"toy.yaml: .*while parsing"),
    ],
)
def test_malformed_file_is_named_with_its_field(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(DeviceError, match=message):
        read_device(GOOD.replace(old, new, 1), "toy.yaml", "toy")


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"toy\.yaml: "):
        read_device("", "toy.yaml", "toy")


@pytest.mark.parametrize("field", ["bandwidth", "utilisation", "launch"])
def test_missing_number_is_an_error_when_needed(field: str) -> None:
    lines = [line for line in GOOD.splitlines() if not line.startswith(field)]
    device = read_device("\n".join(lines), "toy.yaml", "toy")
    with pytest.raises(DeviceError, match=rf"toy: {field} is not given in toy\.yaml"):
        device.need(field)  # type: ignore[arg-type]


def test_missing_peak_names_the_widths_there_are() -> None:
    with pytest.raises(DeviceError, match=r"zcu102: peak\.32 is not given in devices/zcu102\.yaml .*8, 16"):
        load_device("zcu102").need_peak(32)
