"""Devices as data: one YAML file each, every number with unit, source and confidence."""

import difflib
from collections.abc import Hashable
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from hw_models.errors import DeviceError
from hw_models.quantity import Dimension, Quantity

_DIMENSIONS: dict[str, Dimension] = {
    "peak": "operations per second",
    "bandwidth": "bytes per second",
    "utilisation": "fraction",
    "launch": "time",
}


class Device(BaseModel):
    """A device file. Fields may be missing from it; asking for a missing number is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    title: str
    kind: Literal["cpu", "gpu", "fpga"]
    peak: dict[int, Quantity] = Field(default_factory=dict)
    """Operations per second by bit width of the operands."""
    bandwidth: Quantity | None = None
    """Bytes per second between the device and its main memory."""
    utilisation: Quantity | None = None
    """Share of the peak that a large, regular operation reaches."""
    launch: Quantity | None = None
    """Time to start one operation."""
    facts: dict[str, Quantity] = Field(default_factory=dict)
    """Further published numbers that a reader or another model may want."""

    _file: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _units_fit(self) -> Self:
        for field, dimension in _DIMENSIONS.items():
            given = getattr(self, field)
            entries = given.items() if isinstance(given, dict) else [(None, given)]
            for key, quantity in entries:
                if quantity is not None and quantity.dimension != dimension:
                    place = field if key is None else f"{field}.{key}"
                    raise ValueError(
                        f"{place}: {quantity.unit} measures {quantity.dimension}, need {dimension}"
                    )
        return self

    def need(self, field: Literal["bandwidth", "utilisation", "launch"]) -> Quantity:
        """The quantity in `field`.

        Raises DeviceError, naming device, field and file, if the file does not give it."""
        quantity: Quantity | None = getattr(self, field)
        if quantity is None:
            raise DeviceError(
                f"{self.name}: {field} is not given in {self._file}; add it with unit and source"
            )
        return quantity

    def need_peak(self, bits: int) -> Quantity:
        """Peak for operands of `bits` bits.

        Raises DeviceError if the file gives none for that width."""
        if bits not in self.peak:
            given = ", ".join(map(str, sorted(self.peak))) or "none"
            raise DeviceError(
                f"{self.name}: peak.{bits} is not given in {self._file} (widths given: {given}); "
                "choose one of these bit widths or add the number with unit and source"
            )
        return self.peak[bits]


def device_names() -> list[str]:
    """Names of the devices that come with the package."""
    directory = files("hw_models") / "devices"
    return sorted(Path(entry.name).stem for entry in directory.iterdir() if entry.name.endswith(".yaml"))


def load_device(name: str | Path) -> Device:
    """The device of that name, or of a YAML file of yours where `name` is a Path or ends in .yaml.

    Raises DeviceError if there is none, or if its file is malformed (the message names file and field)."""
    if isinstance(name, Path) or name.endswith((".yaml", ".yml")):
        path, label = Path(name), str(name)
        if not path.is_file():
            raise DeviceError(f"no device file {label}")
        return read_device(path.read_text(encoding="utf-8"), label, path.stem)
    names = device_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise DeviceError(f"unknown device {name!r}; {hint}known: {', '.join(names)}")
    label = f"devices/{name}.yaml"
    return read_device((files("hw_models") / label).read_text(encoding="utf-8"), label, name)


def read_device(text: str, file: str, name: str) -> Device:
    """The device described by the YAML `text` of `file`, which must call itself `name`."""
    try:
        device = Device.model_validate(yaml.load(text, Loader=_UniqueKeys))
    except yaml.YAMLError as error:
        raise DeviceError(f"{file}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise DeviceError("\n".join(_message(file, problem) for problem in error.errors())) from error
    if device.name != name:
        raise DeviceError(f"{file}: name is {device.name!r}, the file's is {name!r}; they must agree")
    device._file = file
    return device


def _message(file: str, problem: Any) -> str:
    field = ".".join(map(str, problem["loc"]))
    text = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], str) and problem["type"].startswith(("float", "int")):
        text += f"; {problem['input']!r} is text (YAML needs 1.0e-3, not 1e-3)"
    return f"{file}: {field}: {text}" if field else f"{file}: {text}"


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, except that a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
