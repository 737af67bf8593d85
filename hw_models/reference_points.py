"""Published points to compare models with: rows of `reference/*.csv`, each with confidence and source.

Files made by simulators lie in the same folder; they carry no confidence column and are no points.
A line that begins with `#` is a comment.
"""

import csv
import difflib
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, overload

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hw_models.errors import HardwareModelError

Confidence = Literal["seen", "recalled", "derived"]


class Point(BaseModel):
    """One row: where its figure comes from. Columns of a file without a class of its own stay text."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    confidence: Confidence
    source: str | None = Field(default=None, validate_default=True)
    """Address where the figure was read; one that was `seen` has one."""
    where: str = ""
    note: str = ""

    @field_validator("*", mode="before")
    @classmethod
    def _blank_is_absent(cls, value: Any, info: ValidationInfo) -> Any:
        return None if value == "" and info.field_name not in ("where", "note") else value

    @field_validator("source")
    @classmethod
    def _was_seen_somewhere(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("confidence") == "seen":
            raise ValueError("a figure that was seen needs the address where it was seen")
        if value is not None and not value.startswith("https://"):
            raise ValueError(f"source must be an address (https://...), got {value!r}")
        return value


class _Typed(Point):
    """A row whose columns are known: each must be there, and no other."""

    model_config = ConfigDict(extra="forbid")


class _Range(_Typed):
    low: float
    high: float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self

    @property
    def value(self) -> float:
        """Middle of the range; the value itself where the source gives one."""
        return (self.low + self.high) / 2


class PhonePoint(_Typed):
    """Latency, efficiency or accuracy of a network on a part of a phone."""

    network: str
    device: str
    framework: str
    weights: Literal["dense", "pruned"]
    rate: float | None = Field(ge=1)
    """Weights of the dense network over those kept; None where the source does not say."""
    bits: int | None = Field(ge=1)
    batch: int = Field(ge=1)
    quantity: Literal[
        "latency_ms", "frames_per_s_per_w", "gops_per_w", "top1_percent", "gop_per_s", "efficiency_over_ese"
    ]
    value: float = Field(gt=0)


class SurveyPoint(_Typed):
    """A published FPGA design: what it uses, and how efficient it is where that is known."""

    design: str
    task: Literal["classification", "detection"]
    network: str | None
    device: str
    weight_format: str | None
    weight_bits: int | None = Field(ge=1)
    activation_bits: int | None = Field(ge=1)
    clock_mhz: float | None = Field(gt=0)
    dsp_used: int | None = Field(ge=1)
    dsp_total: int | None = Field(ge=1)
    power_w: float = Field(gt=0)
    gops_per_w: float | None = Field(gt=0)
    frames_per_s_per_w: float | None = Field(gt=0)


class EfficiencyPoint(_Range):
    """Efficiency or accuracy of a network on an FPGA; `low` and `high` differ where a range is printed."""

    design: str
    network: str
    device: str | None
    weight_format: str | None
    weight_bits: int | None = Field(ge=1)
    quantity: Literal[
        "gops_per_w",
        "frames_per_s_per_w",
        "top1_percent",
        "accuracy_change_points",
    ]


class HeatvitPoint(_Range):
    """A figure of the HeatViT accelerator."""

    quantity: str
    network: str
    variant: str
    block: int | None = Field(ge=1)
    keep_ratio: float | None = Field(gt=0, le=1)
    unit: str


class PowerPoint(_Typed):
    """Power of a device while it runs a network."""

    device: str
    design: str
    network: str | None
    weight_bits: int | None = Field(ge=1)
    activation_bits: int | None = Field(ge=1)
    clock_mhz: float | None = Field(gt=0)
    dsp_used: int | None = Field(ge=1)
    power_w: float = Field(gt=0)
    scope: Literal["chip", "board", "rails", "unstated"]


_ROWS: dict[str, type[Point]] = {
    "phones": PhonePoint,
    "fpga_survey": SurveyPoint,
    "fpga_efficiency": EfficiencyPoint,
    "heatvit": HeatvitPoint,
    "power": PowerPoint,
}

Row = TypeVar("Row", bound=Point)
Wanted = Confidence | Collection[Confidence] | None


@overload
def points(name: Literal["phones"], confidence: Wanted = None) -> tuple[PhonePoint, ...]: ...
@overload
def points(name: Literal["fpga_survey"], confidence: Wanted = None) -> tuple[SurveyPoint, ...]: ...
@overload
def points(name: Literal["fpga_efficiency"], confidence: Wanted = None) -> tuple[EfficiencyPoint, ...]: ...
@overload
def points(name: Literal["heatvit"], confidence: Wanted = None) -> tuple[HeatvitPoint, ...]: ...
@overload
def points(name: Literal["power"], confidence: Wanted = None) -> tuple[PowerPoint, ...]: ...
@overload
def points(name: str, confidence: Wanted = None) -> tuple[Point, ...]: ...
def points(name: str, confidence: Wanted = None) -> tuple[Point, ...]:
    """The points of `reference/<name>.csv`, all of them or those of the given confidence (one or several).

    Raises HardwareModelError if there is no such file, or if it is malformed (the message names file, line
    and column).
    """
    names = point_files()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise HardwareModelError(f"no published points {name!r}; {hint}there are: {', '.join(names)}")
    label = f"reference/{name}.csv"
    text = (files("hw_models") / label).read_text(encoding="utf-8")
    rows = read_points(text, label, _ROWS.get(name, Point))
    wanted = (confidence,) if isinstance(confidence, str) else confidence
    return tuple(row for row in rows if wanted is None or row.confidence in wanted)


def table(name: str) -> list[dict[str, str]]:
    """Rows of any file of the folder as text by column, also of what simulators and machines gave."""
    label = f"reference/{name}.csv"
    (_, columns), *rows = _records((files("hw_models") / label).read_text(encoding="utf-8"), label)
    return [dict(zip(columns, cells, strict=True)) for _, cells in rows]


def point_files() -> list[str]:
    """Names of the files of published points: those in `reference/` that have a confidence column."""
    found = []
    for entry in (files("hw_models") / "reference").iterdir():
        if entry.name.endswith(".csv"):
            records = _records(entry.read_text(encoding="utf-8"), f"reference/{entry.name}")
            if records and "confidence" in records[0][1]:
                found.append(Path(entry.name).stem)
    return sorted(found)


def read_points(text: str, file: str, row_class: type[Row]) -> tuple[Row, ...]:
    """The rows of the CSV `text` of `file`. Raises HardwareModelError that lists every mistake in it."""
    records = _records(text, file)
    if not records:
        raise HardwareModelError(f"{file}: no header: the first line that is no comment names the columns")
    line, columns = records[0]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    known = set(row_class.model_fields)
    needed = known if issubclass(row_class, _Typed) else {"confidence"}
    problems = [f"{file}: line {line}: column {column}: stands twice" for column in twice]
    problems += [f"{file}: line {line}: column {column}: missing" for column in sorted(needed - set(columns))]
    if issubclass(row_class, _Typed):
        unknown = sorted(set(columns) - known)
        problems += [f"{file}: line {line}: column {column}: unknown" for column in unknown]
    if problems:
        raise HardwareModelError("\n".join(problems))

    rows = []
    for line, cells in records[1:]:
        if len(cells) != len(columns):
            problems.append(f"{file}: line {line}: {len(cells)} cells for {len(columns)} columns")
            continue
        try:
            rows.append(row_class.model_validate(dict(zip(columns, cells, strict=True))))
        except ValidationError as error:
            problems += [f"{file}: line {line}: {_message(problem)}" for problem in error.errors()]
    if problems:
        raise HardwareModelError("\n".join(problems))
    return tuple(rows)


def _records(text: str, file: str) -> list[tuple[int, list[str]]]:
    """Line number and cells of every line that is neither blank nor a comment."""
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            records.append((number, next(csv.reader([line], strict=True))))
        except csv.Error as error:
            raise HardwareModelError(f"{file}: line {number}: {error}") from error
    return records


def _message(problem: Any) -> str:
    column = ".".join(map(str, problem["loc"]))
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("float_parsing", "int_parsing"):
        text += f", got {problem['input']!r}"
    return f"column {column}: {text}" if column else text
