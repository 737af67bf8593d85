"""An engine as it would be built: tiling, arithmetic, resources."""

from dataclasses import dataclass, fields

from hw_models.engine import Tiling
from hw_models.resources import Arithmetic, Resources


@dataclass(frozen=True)
class Design:
    """An engine: its tiling, its arithmetic, what it occupies, and the latency it was chosen for."""

    tiling: Tiling
    bits: int
    packing: bool
    arithmetic: Arithmetic
    resources: Resources
    latency_s: float

    def __str__(self) -> str:
        used = ", ".join(
            f"{getattr(self.resources, field.name):,.0f} {field.name.replace('_', ' ')}"
            for field in fields(self.resources)
        )
        return f"{self.tiling}; {self.bits}-bit {self.arithmetic.replace('_', ' ')}; {used}"
