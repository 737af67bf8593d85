"""Energies of one technology: per operation by bit width, per byte by memory, per instruction."""

from importlib.resources import files
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hw_models.device import UniqueKeys, problem_text
from hw_models.errors import DeviceError
from hw_models.quantity import Quantity
from hw_models.span import Span

ACCUMULATOR = "int32"
NARROWEST_FLOAT = 16
PICO = 1e12


class Technology(BaseModel):
    """A technology file. Formats are named `int8`, `int16`, `int32`, `fp16`, `fp32`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    title: str
    add: dict[str, Quantity]
    multiply: dict[str, Quantity]
    sram_read_64_bit: dict[int, Quantity]
    """Reading 64 bits of a memory of so many KiB."""
    dram: dict[str, Quantity]
    """Moving a byte from or to main memory, by kind of memory."""
    instruction: Quantity
    """Fetching, decoding and scheduling one instruction."""
    facts: dict[str, Quantity] = Field(default_factory=dict)
    """Further published numbers that a reader may want."""

    @model_validator(mode="after")
    def _units_fit(self) -> Self:
        energies = {f"add.{key}": value for key, value in self.add.items()}
        energies |= {f"multiply.{key}": value for key, value in self.multiply.items()}
        energies |= {f"sram_read_64_bit.{key}": value for key, value in self.sram_read_64_bit.items()}
        energies |= {"instruction": self.instruction}
        per_byte = {f"dram.{key}": value for key, value in self.dram.items()}
        for expected, given in (("energy", energies), ("energy per byte", per_byte)):
            for place, quantity in given.items():
                if quantity.dimension != expected:
                    raise ValueError(
                        f"{place}: {quantity.unit} measures {quantity.dimension}, need {expected}"
                    )
        return self

    def multiply_add(self, bits: int, *, floating: bool) -> Span:
        """Picojoules of a multiply-accumulate; integers accumulate in 32 bits.

        Numbers of a width that the file does not give are charged as those of the next wider one.
        Raises DeviceError if there is none."""
        kind = self._format("multiply", bits, floating)
        return self._pick("multiply", kind) + self._pick(
            "add", kind if kind.startswith("fp") else ACCUMULATOR
        )

    def addition(self, bits: int, *, floating: bool) -> Span:
        """Picojoules of an addition, which stands for any operation that is no multiply-accumulate."""
        return self._pick("add", self._format("add", bits, floating))

    @property
    def sram_byte(self) -> Span:
        """Picojoules of a byte from on-chip memory: of the middle size, ranging over all sizes given."""
        middle, least, most = (
            self.sram_read_64_bit[sorted(self.sram_read_64_bit)[i]].span
            for i in (len(self.sram_read_64_bit) // 2, 0, -1)
        )
        return Span(middle.value, least.low, most.high) * (PICO / 8)

    def dram_byte(self, memory: str) -> Span:
        """Picojoules of moving a byte from or to `memory`."""
        return self._pick("dram", memory)

    def _format(self, field: str, bits: int, floating: bool) -> str:
        """The narrowest format given that holds numbers of `bits` bits; floating ones have 16 at least."""
        kind = "fp" if floating and bits >= NARROWEST_FLOAT else "int"
        given = sorted(int(name.removeprefix(kind)) for name in getattr(self, field) if name.startswith(kind))
        return f"{kind}{next((width for width in given if width >= bits), bits)}"

    def _pick(self, field: str, key: str) -> Span:
        table: dict[str, Quantity] = getattr(self, field)
        if key not in table:
            raise DeviceError(
                f"technology {self.name}: {field}.{key} is not given (there are: {', '.join(table)}); "
                "choose one of these or add the number with unit and source"
            )
        return table[key].span * PICO


def load_technology(name: str) -> Technology:
    """The technology of that name.

    Raises DeviceError if there is none, or if its file is malformed."""
    folder = files("hw_models") / "technologies"
    names = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())
    if name not in names:
        raise DeviceError(f"unknown technology {name!r}; known: {', '.join(names)}")
    label = f"technologies/{name}.yaml"
    try:
        return Technology.model_validate(
            yaml.load((folder / f"{name}.yaml").read_text(encoding="utf-8"), Loader=UniqueKeys)
        )
    except yaml.YAMLError as error:
        raise DeviceError(f"{label}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise DeviceError("\n".join(problem_text(label, p) for p in error.errors())) from error
