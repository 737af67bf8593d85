"""Device files: every number accounted for, and errors that name file and field."""

from pathlib import Path

import pytest

from hw_models import DeviceError, device_names, estimate, load_device
from hw_models.device import read_device
from tests.hw.toys import gemm, other, workload

GOOD = """
name: toy
title: A toy
kind: cpu
peak:
  32: {value: 10, unit: GOP/s, confidence: seen, source: "https://example.org"}
bandwidth: {value: 5, unit: GB/s, confidence: recalled}
utilisation: {value: 0.5, low: 0.2, high: 0.8, unit: fraction, confidence: assumed, basis: a guess}
launch: {value: 2, low: 1, high: 4, unit: us, confidence: assumed, basis: a guess}
vector: {value: 4, unit: count, confidence: recalled}
half_outputs: {value: 256, unit: count, confidence: recalled}
half_depth: {value: 16, unit: count, confidence: recalled}
sparse_utilisation:
  block: {value: 0.8, unit: fraction, confidence: recalled}
caches:
  - capacity: {value: 64, unit: KiB, confidence: recalled}
    bandwidth: {value: 100, unit: GB/s, confidence: recalled}
  - capacity: {value: 2, unit: MiB, confidence: recalled}
    bandwidth: {value: 20, unit: GB/s, confidence: recalled}
technology: cmos_45nm
memory: ddr4
energy_scale: {value: 0.2, unit: fraction, confidence: recalled}
lanes: {value: 4, unit: count, confidence: recalled}
power: {value: 3, unit: W, confidence: recalled}
static_power: {value: 300.0e-3, unit: W, confidence: recalled}
"""

BOARD = """
name: toy
title: A toy
kind: fpga
bandwidth: {value: 5, unit: GB/s, confidence: recalled}
launch: {value: 2, unit: us, confidence: recalled}
fabric:
  dsp: {value: 220, unit: count, confidence: recalled}
  block_rams: {value: 140, unit: count, confidence: recalled}
  luts: {value: 53200, unit: count, confidence: recalled}
  flip_flops: {value: 106400, unit: count, confidence: recalled}
usable: {value: 0.8, unit: fraction, confidence: recalled}
clock: {value: 150, unit: MHz, confidence: recalled}
host_element: {value: 2, unit: ns, confidence: recalled}
host_call: {value: 10, unit: us, confidence: recalled}
static_power: {value: 1, unit: W, confidence: recalled}
dsp_energy: {value: 30, unit: pJ, confidence: recalled}
"""


@pytest.mark.parametrize("name", device_names())
def test_shipped_device_loads(name: str) -> None:
    device = load_device(name)
    assert device.name == name
    assert bool(device.fabric) == (device.kind == "fpga")
    assert bool(device.peak) == (device.kind != "fpga")


def test_devices_of_the_papers_are_shipped() -> None:
    assert {"snapdragon_855_cpu", "adreno_640", "adreno_650", "zcu102", "xc7z020"} <= set(device_names())


@pytest.mark.parametrize("name", device_names())
def test_numbers_of_a_shipped_device_are_where_its_model_looks(name: str) -> None:
    """Every field of a file is one of its kind: an FPGA has no peak, a processor no fabric and no clock."""
    device = load_device(name)
    foreign: tuple[str, ...] = ("fabric", "usable", "clock", "host_element", "host_call", "dsp_energy")
    if device.kind == "fpga":
        foreign = ("peak", "utilisation", "vector", "half_outputs", "half_depth", "caches", "lanes")
    assert [field for field in foreign if getattr(device, field)] == []


def test_values_are_in_si_units() -> None:
    device = read_device(GOOD, "toy.yaml", "toy")
    assert device.need_peak(32).si == 10e9
    assert device.need("bandwidth").si == 5e9
    assert device.need("launch").si_range == pytest.approx((1e-6, 4e-6))
    assert device.need("bandwidth").si_range == (5e9, 5e9)


def test_values_of_the_new_fields_are_in_si_units() -> None:
    device, chip = read_device(GOOD, "toy.yaml", "toy"), read_device(BOARD, "toy.yaml", "toy")
    assert [cache.capacity.si for cache in device.caches] == [65536, 2 * 2**20]
    assert [cache.bandwidth.si for cache in device.caches] == [100e9, 20e9]
    assert device.need("static_power").si == 0.3
    assert chip.need("clock").si == 150e6
    assert chip.need("dsp_energy").si == pytest.approx(30e-12)
    assert chip.need("host_element").si == pytest.approx(2e-9)
    assert chip.need_fabric("dsp").si == 220


def test_derived_peaks_follow_from_their_basis() -> None:
    cpu = load_device("snapdragon_855_cpu")
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
        ("kind: cpu", "kind: npu", r"toy.yaml: kind: .*'cpu', 'gpu' or 'fpga'"),
        ("vector: {value: 4, unit: count", "vector: {value: 4", r"toy.yaml: vector.unit: Field required"),
        ("value: 4, unit: count", "value: 4, unit: ms", r"toy.yaml: vector: ms measures time, need count"),
        ("value: 256", "value: 0", r"toy.yaml: half_outputs.value: .*greater than 0"),
        (
            "unit: count, confidence: recalled}\nsparse",
            "unit: GHz, confidence: recalled}\nsparse",
            r"toy.yaml: half_depth: GHz measures frequency, need count",
        ),
        ("  block:", "  checkerboard:", r"toy.yaml: sparse_utilisation.checkerboard.*: Input should be"),
        (
            "value: 0.8, unit: fraction",
            "value: 1.8, unit: fraction",
            r"toy.yaml: sparse_utilisation.block: a fraction is at most 1",
        ),
        (
            "value: 0.8, unit: fraction",
            "value: 0.8, unit: count",
            r"toy.yaml: sparse_utilisation.block: count measures count, need fraction",
        ),
        (
            "unit: KiB",
            "unit: GB/s",
            r"toy.yaml: caches.0: capacity: GB/s measures bytes per second, need bytes",
        ),
        (
            "value: 20, unit: GB/s",
            "value: 20, unit: MiB",
            r"toy.yaml: caches.1: bandwidth: MiB measures bytes, need bytes per second",
        ),
        ("unit: KiB", "unit: KB, ways: 4", r"toy.yaml: caches.0.capacity.ways: Extra inputs"),
        ("  - capacity", "  - speed: 3\n    capacity", r"toy.yaml: caches.0.speed: Extra inputs"),
        ("  32: {value", "  '32': {value", r"toy.yaml: peak.32.*: .*integer"),
        ("technology: cmos_45nm", "technology: 45", r"toy.yaml: technology: .*string"),
        ("value: 3, unit: W", "value: 3, unit: pJ", r"toy.yaml: power: pJ measures energy, need power"),
        ("300.0e-3", "300e-3x", r"toy.yaml: static_power.value: .*'300e-3x' is text \(YAML needs 1.0e-3"),
        ("300.0e-3", "3e-1", r"toy.yaml: static_power.value: .*'3e-1' is text \(YAML needs 1.0e-3"),
    ],
)
def test_malformed_file_is_named_with_its_field(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(DeviceError, match=message):
        read_device(GOOD.replace(old, new, 1), "toy.yaml", "toy")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value: 150", "value: -150", r"toy.yaml: clock.value: .*greater than 0"),
        ("value: 150", "value: .inf", r"toy.yaml: clock.value: .*finite"),
        ("value: 150, unit: MHz", "value: 150", r"toy.yaml: clock.unit: Field required"),
        ("unit: MHz", "unit: GB/s", r"toy.yaml: clock: GB/s measures bytes per second, need frequency"),
        (
            "value: 220, unit: count",
            "value: 220, unit: KB",
            r"toy.yaml: fabric.dsp: KB measures bytes, need count",
        ),
        ("  luts", "  slices", r"toy.yaml: fabric.slices.*: Input should be"),
        ("unit: pJ", "unit: pJ/B", r"toy.yaml: dsp_energy: pJ/B measures energy per byte, need energy"),
        ("unit: ns", "unit: MHz", r"toy.yaml: host_element: MHz measures frequency, need time"),
        ("value: 10, unit: us", "value: 10, unit: W", r"toy.yaml: host_call: W measures power, need time"),
        ("value: 0.8", "value: 80", r"toy.yaml: usable: a fraction is at most 1"),
        ("value: 0.8", "value: 8e-1", r"toy.yaml: usable.value: .*'8e-1' is text \(YAML needs 1.0e-3"),
    ],
)
def test_malformed_file_of_an_fpga_is_named_with_its_field(old: str, new: str, message: str) -> None:
    assert old in BOARD
    with pytest.raises(DeviceError, match=message):
        read_device(BOARD.replace(old, new, 1), "toy.yaml", "toy")


def test_every_mistake_of_a_file_is_listed() -> None:
    broken = BOARD.replace("value: 150", "value: -1").replace("unit: pJ", "unit: pints")
    with pytest.raises(
        DeviceError, match=r"(?s)toy.yaml: clock.value: .*\ntoy.yaml: dsp_energy: unknown unit"
    ):
        read_device(broken, "toy.yaml", "toy")


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"toy\.yaml: "):
        read_device("", "toy.yaml", "toy")


def without(text: str, field: str) -> str:
    """`text` without the line, or the line and its list, that gives `field`."""
    lines, kept = text.splitlines(), []
    inside = False
    for line in lines:
        inside = line.startswith(f"{field}:") or (inside and line.startswith(" "))
        if not inside:
            kept.append(line)
    assert len(kept) < len(lines)
    return "\n".join(kept)


@pytest.mark.parametrize(
    "field", ["bandwidth", "utilisation", "launch", "vector", "half_outputs", "half_depth"]
)
def test_a_number_that_the_processor_model_needs(field: str) -> None:
    device = read_device(without(GOOD, field), "toy.yaml", "toy")
    with pytest.raises(DeviceError, match=rf"toy: {field} is not given in toy\.yaml; add it with unit"):
        estimate(workload(gemm(2, 3, 4, bits=32)), device)


@pytest.mark.parametrize("field", ["energy_scale", "lanes", "static_power", "technology", "memory"])
def test_what_energy_needs(field: str) -> None:
    found = estimate(workload(gemm(2, 3, 4, bits=32)), read_device(without(GOOD, field), "toy.yaml", "toy"))
    with pytest.raises(DeviceError, match=rf"toy: {field} is not given in toy\.yaml; add it"):
        _ = found.energy


@pytest.mark.parametrize("field", ["bandwidth", "launch", "usable", "clock", "host_element", "host_call"])
def test_a_number_that_the_fpga_model_needs(field: str) -> None:
    network = workload(gemm(2, 3, 4), other("normalisation", 8, operation="aten.native_layer_norm"))
    with pytest.raises(DeviceError, match=rf"toy: {field} is not given in toy\.yaml; add it with unit"):
        estimate(network, read_device(without(BOARD, field), "toy.yaml", "toy"))


@pytest.mark.parametrize("resource", ["dsp", "block_rams", "luts", "flip_flops"])
def test_a_resource_that_the_fpga_model_needs(resource: str) -> None:
    lines = [line for line in BOARD.splitlines() if not line.startswith(f"  {resource}")]
    with pytest.raises(DeviceError, match=rf"toy: fabric\.{resource} is not given in toy\.yaml"):
        estimate(workload(gemm(2, 3, 4)), read_device("\n".join(lines), "toy.yaml", "toy"))


def test_missing_structure_is_named() -> None:
    device = read_device(GOOD, "toy.yaml", "toy")
    assert device.need_sparse_utilisation("block").si == 0.8
    with pytest.raises(DeviceError, match=r"toy: sparse_utilisation\.channel is not given in toy\.yaml"):
        device.need_sparse_utilisation("channel")


def test_missing_peak_names_the_widths_there_are() -> None:
    with pytest.raises(
        DeviceError, match=r"adreno_640: peak\.8 is not given in devices/adreno_640\.yaml .*16, 32"
    ):
        load_device("adreno_640").need_peak(8)


def test_missing_peak_of_an_fpga_says_that_there_is_none() -> None:
    with pytest.raises(DeviceError, match=r"zcu102: peak\.8 is not given .*widths given: none"):
        load_device("zcu102").need_peak(8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "toy.yaml: is empty"),
        (b"\xff\xfe\x00", "toy.yaml: not a text file in UTF-8"),
        (b"? [a, b]\n: 1\n", "toy.yaml: .*is no text or number"),
        (b"[" * 5000, "toy.yaml: "),
    ],
)
def test_a_file_that_is_no_device_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "toy.yaml").write_bytes(content)
    with pytest.raises(DeviceError, match=message):
        load_device(tmp_path / "toy.yaml")


def test_a_folder_is_no_device_file(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no device file"):
        load_device(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value: 64, unit: KiB", "value: 4, unit: MiB"),  # larger than the one behind it
        ("value: 100, unit: GB/s", "value: 10, unit: GB/s"),  # slower than the one behind it
        ("value: 20, unit: GB/s", "value: 1, unit: GB/s"),  # slower than main memory
    ],
)
def test_caches_out_of_order_are_refused(old: str, new: str) -> None:
    assert old in GOOD
    with pytest.raises(DeviceError, match=r"toy\.yaml: caches: give the nearest first"):
        read_device(GOOD.replace(old, new), "toy.yaml", "toy")


def test_bit_widths_of_peaks_are_positive() -> None:
    with pytest.raises(DeviceError, match="peak: bit widths must be positive"):
        read_device(GOOD.replace("  32: {", "  -32: {"), "toy.yaml", "toy")


def test_a_device_survives_its_own_text() -> None:
    device = load_device("adreno_650")
    assert read_device(device.to_yaml(), "adreno_650.yaml", "adreno_650").model_dump() == device.model_dump()
