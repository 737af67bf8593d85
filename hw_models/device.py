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
from hw_models.sparsity import Structure

Number = Literal[
    "bandwidth",
    "utilisation",
    "launch",
    "vector",
    "half_outputs",
    "half_depth",
    "clock",
    "host_element",
    "host_call",
    "usable",
    "power",
    "static_power",
    "dsp_energy",
    "lanes",
    "energy_scale",
]
_DIMENSIONS: dict[str, Dimension] = {
    "peak": "operations per second",
    "bandwidth": "bytes per second",
    "utilisation": "fraction",
    "launch": "time",
    "vector": "count",
    "half_outputs": "count",
    "half_depth": "count",
    "sparse_utilisation": "fraction",
    "fabric": "count",
    "clock": "frequency",
    "host_element": "time",
    "host_call": "time",
    "usable": "fraction",
    "power": "power",
    "static_power": "power",
    "dsp_energy": "energy",
    "lanes": "count",
    "energy_scale": "fraction",
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Cache(_Part):
    """A memory nearer than the main one: what fits moves at its bandwidth."""

    capacity: Quantity
    bandwidth: Quantity

    @model_validator(mode="after")
    def _units_fit(self) -> Self:
        _check("capacity", self.capacity, "bytes")
        _check("bandwidth", self.bandwidth, "bytes per second")
        return self


class Device(_Part):
    """A device file. Fields may be missing from it; asking for a missing number is an error."""

    name: str
    title: str
    kind: Literal["cpu", "gpu", "fpga"]
    bandwidth: Quantity | None = None
    """Bytes per second between the device and its main memory."""
    launch: Quantity | None = None
    """Time to start one operation."""

    # --- processors
    peak: dict[int, Quantity] = Field(default_factory=dict)
    """Operations per second by bit width of the operands."""
    utilisation: Quantity | None = None
    """Share of the peak that a large, regular operation reaches."""
    vector: Quantity | None = None
    """Elements to which the output channels of a product are rounded up."""
    half_outputs: Quantity | None = None
    """Independent outputs at which half of the utilisation is reached: fewer leave lanes idle."""
    half_depth: Quantity | None = None
    """Length of a sum of products at which half of the utilisation is reached: shorter ones store more."""
    sparse_utilisation: dict[Structure, Quantity] = Field(default_factory=dict)
    """Share of a dense product's speed that each remaining multiply-accumulate reaches, by structure."""
    caches: list[Cache] = Field(default_factory=list)
    """Nearest first."""

    # --- FPGA
    fabric: dict[Literal["dsp", "block_rams", "luts", "flip_flops"], Quantity] = Field(default_factory=dict)
    """Resources on the chip."""
    usable: Quantity | None = None
    """Share of the resources that a design can use and still be routed at its clock."""
    clock: Quantity | None = None
    """Of the design in the fabric."""
    host_element: Quantity | None = None
    """Time that the processor beside the fabric takes for one element of a normalisation."""
    host_call: Quantity | None = None
    """Time to hand data to that processor and back."""

    # --- energy
    technology: str | None = None
    """Name of a file in technologies/: energies per operation and per byte."""
    memory: str | None = None
    """Kind of main memory, as that file names it."""
    energy_scale: Quantity | None = None
    """Energy of an operation here over that in that technology."""
    lanes: Quantity | None = None
    """Multiply-accumulates that one instruction does; none on an FPGA, which fetches no instructions."""
    power: Quantity | None = None
    """Power under load, as measured by somebody."""
    static_power: Quantity | None = None
    """Power while nothing is computed."""
    dsp_energy: Quantity | None = None
    """Energy of one DSP slice and the fabric around it in a busy cycle."""
    facts: dict[str, Quantity] = Field(default_factory=dict)
    """Further published numbers that a reader or another model may want."""

    _file: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _units_fit(self) -> Self:
        for field, dimension in _DIMENSIONS.items():
            given = getattr(self, field)
            entries = given.items() if isinstance(given, dict) else [(None, given)]
            for key, quantity in entries:
                if quantity is not None:
                    _check(field if key is None else f"{field}.{key}", quantity, dimension)
        if any(bits < 1 for bits in self.peak):
            raise ValueError(f"peak: bit widths must be positive, got {', '.join(map(str, self.peak))}")
        speeds = [cache.bandwidth.si for cache in self.caches]
        speeds += [self.bandwidth.si] if self.bandwidth else []
        if speeds != sorted(speeds, reverse=True):
            raise ValueError("caches: give the nearest first; none may be slower than what lies behind it")
        sizes = [cache.capacity.si for cache in self.caches]
        if sizes != sorted(sizes):
            raise ValueError("caches: give the nearest first; none may hold less than what lies before it")
        return self

    def to_yaml(self) -> str:
        """The text of a device file that `load_device` reads back as this device."""
        fields = self.model_dump(exclude_none=True, exclude_defaults=True)
        return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=110)

    def need(self, field: Number) -> Quantity:
        """The quantity in `field`.

        Raises DeviceError, naming device, field and file, if the file does not give it."""
        quantity: Quantity | None = getattr(self, field)
        if quantity is None:
            raise DeviceError(
                f"{self.name}: {field} is not given in {self._file}; add it with unit and source"
            )
        return quantity

    def need_name(self, field: Literal["technology", "memory"]) -> str:
        """The name in `field`.

        Raises DeviceError if the file does not give it."""
        name: str | None = getattr(self, field)
        if name is None:
            raise DeviceError(f"{self.name}: {field} is not given in {self._file}; add it")
        return name

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

    def need_fabric(self, resource: str) -> Quantity:
        """How many of a resource the chip has.

        Raises DeviceError if the file does not say."""
        for name, quantity in self.fabric.items():
            if name == resource:
                return quantity
        raise DeviceError(
            f"{self.name}: fabric.{resource} is not given in {self._file}; add it with unit and source"
        )

    def need_sparse_utilisation(self, structure: Structure) -> Quantity:
        """Share of a dense product's speed under a sparse `structure`.

        Raises DeviceError if the file does not say."""
        if structure not in self.sparse_utilisation:
            raise DeviceError(
                f"{self.name}: sparse_utilisation.{structure} is not given in {self._file}; "
                "add it with unit and source"
            )
        return self.sparse_utilisation[structure]


def _check(place: str, quantity: Quantity, dimension: Dimension) -> None:
    if quantity.dimension != dimension:
        raise ValueError(f"{place}: {quantity.unit} measures {quantity.dimension}, need {dimension}")


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
        try:
            return read_device(path.read_text(encoding="utf-8"), label, path.stem)
        except UnicodeDecodeError as error:
            raise DeviceError(f"{label}: not a text file in UTF-8: {error.reason}") from error
    names = device_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise DeviceError(f"unknown device {name!r}; {hint}known: {', '.join(names)}")
    label = f"devices/{name}.yaml"
    return read_device((files("hw_models") / label).read_text(encoding="utf-8"), label, name)


def read_device(text: str, file: str, name: str) -> Device:
    """The device described by the YAML `text` of `file`, which must call itself `name`."""
    if not text.strip():
        raise DeviceError(f"{file}: is empty")
    try:
        device = Device.model_validate(yaml.load(text, Loader=UniqueKeys))
    except yaml.YAMLError as error:
        raise DeviceError(f"{file}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise DeviceError(f"{file}: nested too deeply for a device file") from error
    except ValidationError as error:
        raise DeviceError("\n".join(problem_text(file, problem) for problem in error.errors())) from error
    if device.name != name:
        raise DeviceError(f"{file}: name is {device.name!r}, the file's is {name!r}; they must agree")
    device._file = file
    return device


def problem_text(file: str, problem: Any) -> str:
    """One mistake that pydantic found in `file`, with its field."""
    field = ".".join(map(str, problem["loc"]))
    text = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], str) and problem["type"].startswith(("float", "int")):
        text += f"; {problem['input']!r} is text (YAML needs 1.0e-3, not 1e-3)"
    return f"{file}: {field}: {text}" if field else f"{file}: {text}"


class UniqueKeys(yaml.SafeLoader):
    """The safe loader, except that a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is no text or number", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
