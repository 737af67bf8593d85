"""Published points: every file loads with its provenance, and a broken one is named with line and column."""

from importlib.resources import files

import pytest

from hw_models.errors import HardwareModelError
from hw_models.quantity import UNITS
from hw_models.reference_points import (
    EfficiencyPoint,
    PhonePoint,
    Point,
    point_files,
    points,
    read_points,
)

GOOD = """# Points of a toy.
network,device,framework,weights,rate,bits,batch,quantity,value,confidence,source,where,note
toy_net,toy_phone,mnn,dense,1,,1,latency_ms,12.5,seen,https://example.org,Table 1,
# A comment in between.
toy_net,toy_phone,own,pruned,,16,1,latency_ms,5,recalled,,Table 1,"from memory, unsure"
"""


@pytest.mark.parametrize("name", point_files())
def test_every_file_of_points_loads_with_its_provenance(name: str) -> None:
    rows = points(name)
    assert rows
    for row in rows:
        assert row.confidence in ("seen", "recalled", "derived")
        assert row.confidence != "seen" or (row.source or "").startswith("https://")


@pytest.mark.parametrize("name", ["phones", "fpga_survey", "fpga_efficiency", "heatvit", "power"])
def test_a_file_of_points_says_first_what_it_is(name: str) -> None:
    assert name in point_files()
    assert (files("hw_models") / f"reference/{name}.csv").read_text(encoding="utf-8").startswith("# ")


def test_no_phone_point_is_given_twice() -> None:
    keys = [
        (row.network, row.device, row.framework, row.weights, row.rate, row.quantity, row.where)
        for row in points("phones")
    ]
    assert len(set(keys)) == len(keys)


def test_no_fpga_point_is_given_twice() -> None:
    keys = [(row.network, row.design, row.quantity) for row in points("fpga_efficiency")]
    assert len(set(keys)) == len(keys)
    designs = [row.design for row in points("fpga_survey")]
    assert len(set(designs)) == len(designs)


def test_power_repeats_the_survey_faithfully() -> None:
    survey = {row.design: row for row in points("fpga_survey")}
    repeated = [row for row in points("power") if row.design.startswith(("classify_", "detect_"))]
    assert {row.design for row in repeated} == {
        design for design, row in survey.items() if row.confidence == "seen"
    }
    for row in repeated:
        design = survey[row.design]
        for column in (
            "device",
            "network",
            "weight_bits",
            "activation_bits",
            "clock_mhz",
            "dsp_used",
            "power_w",
        ):
            assert getattr(row, column) == getattr(design, column), (row.design, column)


def test_no_design_uses_more_slices_than_there_are() -> None:
    for row in points("fpga_survey"):
        if row.dsp_used and row.dsp_total:
            assert row.dsp_used <= row.dsp_total, row.design


def test_numbers_are_converted_and_blanks_are_none() -> None:
    first, second = read_points(GOOD, "toy.csv", PhonePoint)
    assert (first.value, first.rate, first.bits, first.batch) == (12.5, 1.0, None, 1)
    assert (second.rate, second.bits, second.source, second.note) == (None, 16, None, "from memory, unsure")


def test_published_values_arrive_as_printed() -> None:
    found = [
        row.value
        for row in points("phones")
        if (row.network, row.framework, row.where) == ("vgg16", "own", "Table 2")
    ]
    assert found == [103]
    ranges = [(row.low, row.high) for row in points("fpga_efficiency") if row.design == "survey_16bit"]
    assert ranges == [(13.6, 47.7)]


def test_confidence_selects_rows() -> None:
    seen, recalled = points("phones", "seen"), points("phones", "recalled")
    assert seen
    assert recalled
    assert {row.confidence for row in seen} == {"seen"}
    assert set(points("phones", ["seen", "recalled"])) == {*seen, *recalled}


def test_columns_of_an_unknown_kind_of_file_stay_text() -> None:
    (row,) = read_points("height,confidence,source\n12.5,seen,https://example.org\n", "other.csv", Point)
    assert row.model_extra == {"height": "12.5"}


def test_a_range_has_a_middle() -> None:
    header = "design,network,device,weight_format,weight_bits,quantity,low,high,confidence,source,where,note"
    text = f"{header}\na,net,,,8,gops_per_w,1,2,recalled,,,\n"
    assert read_points(text, "toy.csv", EfficiencyPoint)[0].value == 1.5
    with pytest.raises(HardwareModelError, match=r"toy\.csv: line 2: low 2 is above high 1"):
        read_points(text.replace("1,2", "2,1"), "toy.csv", EfficiencyPoint)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("12.5", "fast", r"toy\.csv: line 3: column value: .*number, got 'fast'"),
        ("12.5", "nan", r"toy\.csv: line 3: column value: .*finite"),
        ("12.5", "-1", r"toy\.csv: line 3: column value: .*greater than 0"),
        ("12.5", "", r"toy\.csv: line 3: column value: .*"),
        ("16,1,latency", "16.5,1,latency", r"toy\.csv: line 5: column bits: .*integer, got '16\.5'"),
        ("dense", "thin", r"toy\.csv: line 3: column weights: .*'dense' or 'pruned'"),
        ("seen", "rumoured", r"toy\.csv: line 3: column confidence: .*'seen', 'recalled' or 'derived'"),
        ("https://example.org", "", r"toy\.csv: line 3: column source: .*needs the address"),
        ("https://example.org", "a book", r"toy\.csv: line 3: column source: .*must be an address"),
        (",Table 1,\n", ",Table 1\n", r"toy\.csv: line 3: 12 cells for 13 columns"),
        ("rate,bits", "rate,width", r"toy\.csv: line 2: column bits: missing\n.*column width: unknown"),
        ("rate,bits", "rate,rate", r"toy\.csv: line 2: column rate: stands twice"),
        ('unsure"', "unsure", r"toy\.csv: line 5: .*end of data"),
    ],
)
def test_a_broken_file_is_named_with_line_and_column(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(HardwareModelError, match=message):
        read_points(GOOD.replace(old, new, 1), "toy.csv", PhonePoint)


def test_every_mistake_of_a_file_is_listed() -> None:
    broken = GOOD.replace("12.5", "fast").replace("pruned", "thin")
    with pytest.raises(HardwareModelError, match=r"(?s)line 3: column value.*line 5: column weights"):
        read_points(broken, "toy.csv", PhonePoint)


def test_a_file_without_a_header_is_an_error() -> None:
    with pytest.raises(HardwareModelError, match=r"toy\.csv: no header"):
        read_points("# nothing here\n\n", "toy.csv", PhonePoint)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(HardwareModelError, match=r"'phone'; did you mean phones\? there are: .*power"):
        points("phone")


def test_units_of_the_points_with_units_are_known_or_plain() -> None:
    plain = {"x", "percent", "frames/s"}
    assert {row.unit for row in points("heatvit")} <= set(UNITS) | plain
