"""What a network asks of a machine: its operations in order of execution, each with its work and its data.

Counts are kept in elements; bytes follow from the bit widths, so one trace serves several number formats.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from hw_models.device import problem_text
from hw_models.errors import HardwareModelError, check_count
from hw_models.shapes import Shape
from hw_models.sparsity import Sparsity
from hw_models.text import text_table

Kind = Literal[
    "gemm",
    "batched_gemm",
    "convolution",
    "attention",
    "elementwise",
    "normalisation",
    "softmax",
    "reduction",
    "pooling",
    "resampling",
    "memory",
    "uncounted",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Layer(BaseModel):
    """One executed operation. Views, which move no data, are no layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Path of the module that ran the operation, `(root)` for the traced module itself."""
    operation: str
    """Name of the tensor operation, such as `aten.addmm`."""
    kind: Kind
    shape: Shape | None = None
    """Dimensions of the arithmetic; present exactly for operations with multiply-accumulates."""
    params: NonNegativeInt = 0
    """Parameters read here for the first time, so that a workload's sum counts each parameter once."""
    input_elements: NonNegativeInt
    output_elements: NonNegativeInt
    weight_elements: NonNegativeInt
    """Elements of weights that this operation reads, also when an earlier one read them. Weights are
    parameters, buffers, and what was computed of them alone, such as a normalised or quantised weight."""
    weight_outputs: NonNegativeInt = 0
    """Elements written, instead of `output_elements`, by an operation that reads weights alone."""
    weight: str | None = None
    """Name of the parameter or buffer that a product multiplies with, or that its operand was computed from
    (the largest one), if it multiplies with a weight."""
    matrix: tuple[NonNegativeInt, NonNegativeInt] | None = None
    """What is read of it as a matrix: outputs, and inputs to each."""
    weight_params: NonNegativeInt = 0
    """Its elements among `params`: none where an earlier operation read them."""
    sparsity: Sparsity | None = None
    """Which of that parameter's elements are left; None for all of them."""
    sources: tuple[NonNegativeInt, ...] | None = None
    """Places in `Workload.layers` of the operations whose results this one reads; None, as in a layer made
    by hand, for the one before."""
    weight_bits: PositiveInt
    activation_bits: PositiveInt

    @property
    def dense_macs(self) -> int:
        """Multiply-accumulates if no weight is left out; zero for what is no product."""
        return self.shape.macs if self.shape else 0

    @property
    def density(self) -> float:
        """Share of the multiply-accumulates that the weights leave to do."""
        return self.sparsity.density if self.sparsity and self.matrix else 1.0

    @property
    def macs(self) -> int:
        """Multiply-accumulates with the weights that are left."""
        return round(self.dense_macs * self.density)

    @property
    def ops(self) -> int:
        """Arithmetic operations, two per multiply-accumulate.

        Where there are none: nothing for memory, else one per element read or written, whichever are more
        (a lower bound, since an exponential counts as one too)."""
        if self.shape:
            return 2 * self.macs
        return 0 if self.kind == "memory" else max(self.input_elements, self.written_elements)

    @property
    def written_elements(self) -> int:
        return self.output_elements + self.weight_outputs

    @property
    def input_bytes(self) -> float:
        return self.input_elements * self.activation_bits / 8

    @property
    def output_bytes(self) -> float:
        return self.output_elements * self.activation_bits / 8

    @property
    def activation_bytes(self) -> float:
        return self.input_bytes + self.output_bytes

    @property
    def index_bytes(self) -> float:
        """Bytes that tell where the weights that are left belong."""
        return self._index_bits(prod(self.matrix)) / 8 if self.matrix else 0.0

    @property
    def weight_bytes(self) -> float:
        """Bytes of weights read here, and written if it is weights that are computed; indices of sparse ones
        included."""
        return self._bytes_left(
            self.weight_elements + self.weight_outputs, prod(self.matrix) if self.matrix else 0
        )

    @property
    def stored_bytes(self) -> float:
        """Bytes of the parameters read here for the first time, indices included."""
        return self._bytes_left(self.params, self.weight_params)

    def _bytes_left(self, elements: int, weights: int) -> float:
        """Bytes of `elements` numbers, `weights` of which are elements of the weight."""
        kept = elements - weights * (1 - self.density)
        return (kept * self.weight_bits + self._index_bits(weights)) / 8

    def _index_bits(self, weights: int) -> float:
        if not self.sparsity or not self.matrix or not weights:
            return 0.0
        columns = self.matrix[1]
        return self.sparsity.index_bits(weights // columns, columns)

    def row(self) -> dict[str, Any]:
        """The layer as one flat row of a table."""
        return {
            "name": self.name,
            "operation": self.operation,
            "kind": self.kind,
            "shape": str(self.shape) if self.shape else "",
            "macs": self.macs,
            "dense_macs": self.dense_macs,
            "sparsity": str(self.sparsity) if self.sparsity else "",
            "ops": self.ops,
            "params": self.params,
            "input_bytes": self.input_bytes,
            "output_bytes": self.output_bytes,
            "weight_bytes": self.weight_bytes,
            "weight_bits": self.weight_bits,
            "activation_bits": self.activation_bits,
        }


class Uncounted(BaseModel):
    """An operation whose multiply-accumulates are unknown: where it ran, and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    operation: str
    calls: PositiveInt

    def __str__(self) -> str:
        return f"{self.operation} in {self.name}" + (f" ({self.calls} calls)" if self.calls > 1 else "")


class Workload(BaseModel):
    """A traced network. Totals are for the whole example input, whatever its batch size was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    layers: tuple[Layer, ...]
    params: NonNegativeInt
    """Parameters of the module, shared ones once, also those that the traced run never read."""
    unread_params: tuple[str, ...] = ()
    """Names of parameters that the traced run never read."""
    uncounted: tuple[Uncounted, ...] = ()
    """Operations that `macs` leaves out because their arithmetic is unknown."""
    execution: Literal["fake", "real"]
    """`fake`: shapes only were propagated; `real`: the module was computed, see `fallback`."""
    fallback: str | None = None
    """Why shapes alone were not enough, where the module was computed."""

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def dense_macs(self) -> int:
        """Multiply-accumulates if no weight were left out."""
        return sum(layer.dense_macs for layer in self.layers)

    @property
    def ops(self) -> int:
        return sum(layer.ops for layer in self.layers)

    @property
    def activation_bytes(self) -> float:
        """Activations read and written, summed over the operations: each reads and writes memory."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def weight_bytes(self) -> float:
        """Storage of the parameters that the run reads, each once (layers tell how often they are read)."""
        return sum(layer.stored_bytes for layer in self.layers)

    def at_bits(
        self,
        bits: int | None = None,
        *,
        weight: int | None = None,
        activation: int | None = None,
        where: Callable[[Layer], bool] = lambda layer: True,
    ) -> Self:
        """The same work with other bit widths: `bits` for both, or `weight` and `activation` apart.

        `where` chooses the layers; a mixed-precision network takes one call per precision."""
        widths = {
            "weight_bits": bits if weight is None else weight,
            "activation_bits": bits if activation is None else activation,
        }
        changed = {field: width for field, width in widths.items() if width is not None}
        for field, width in changed.items():
            check_count(field, width)
        return self.model_copy(
            update={
                "layers": tuple(
                    layer.model_copy(update=changed) if where(layer) else layer for layer in self.layers
                )
            }
        )

    def with_sparsity(self, sparsity: Sparsity | Mapping[str, Sparsity]) -> Self:
        """The same work with weights left out: of every layer that has some, or by parameter name.

        `measured_sparsity(module)` gives the mapping of a pruned module. Products with a weight that the run
        computes from a parameter are sparse like it, but the parameter is stored in full. Raises
        HardwareModelError for a name that no product of the workload multiplies with, and if none multiplies
        with a weight."""
        names = {layer.weight for layer in self.layers if layer.matrix}
        if isinstance(sparsity, Sparsity):
            sparsity = {name: sparsity for name in names if name}
            if not sparsity:
                raise HardwareModelError(f"no product of {self.network} multiplies with a weight")
        if not isinstance(sparsity, Mapping):
            raise HardwareModelError(f"need a Sparsity, or one per parameter name, got {sparsity!r}")
        for name, each in sparsity.items():
            if not isinstance(each, Sparsity):
                raise HardwareModelError(f"{name}: need a Sparsity, got {each!r}")
        for unknown in sparsity.keys() - names:
            close = difflib.get_close_matches(unknown, sorted(filter(None, names)), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise HardwareModelError(f"no product multiplies with a parameter {unknown!r}{hint}")
        return self.model_copy(
            update={
                "layers": tuple(
                    layer.model_copy(update={"sparsity": sparsity[layer.weight]})
                    if layer.weight and layer.matrix and layer.weight in sparsity
                    else layer
                    for layer in self.layers
                )
            }
        )

    def table(self) -> list[dict[str, Any]]:
        """One dictionary per layer, in order of execution."""
        return [layer.row() for layer in self.layers]

    def to_json(self) -> str:
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The workload that `to_json` wrote.

        Raises HardwareModelError if the text is not such a workload."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise HardwareModelError(
                "\n".join(problem_text("workload", problem) for problem in error.errors())
            ) from error

    def __str__(self) -> str:
        """The operations that multiply by module and dimensions, the others by kind, and the totals."""
        rows: list[tuple[str, ...]] = [
            ("module", "kind", "dimensions", "calls", "MMAC", "params", "act KB", "weight KB")
        ]
        groups: dict[tuple[str, str, str], list[Layer]] = {}
        for layer in self.layers:
            if layer.shape:
                groups.setdefault((layer.name, layer.kind, str(layer.shape)), []).append(layer)
        rows += [_printed(*key, group) for key, group in groups.items()]
        for kind in KINDS:
            group = [layer for layer in self.layers if layer.kind == kind and not layer.shape]
            if group:
                rows.append(_printed("(all)", kind, "", group))
        lines = [text_table(rows, left=3)]
        lines.append(
            f"{self.network}: {self.macs / 1e9:.4g} GMAC, {self.params:,} parameters, {self.execution} run"
        )
        if self.fallback:
            lines.append(f"computed because shapes alone failed: {self.fallback}")
        if self.unread_params:
            lines.append("parameters never read: " + ", ".join(self.unread_params))
        if self.uncounted:
            lines.append("NOT COUNTED: " + ", ".join(map(str, self.uncounted)))
        return "\n".join(lines)


def _printed(name: str, kind: str, shape: str, group: Sequence[Layer]) -> tuple[str, ...]:
    return (
        name,
        kind,
        shape,
        f"{len(group):,}",
        f"{sum(layer.macs for layer in group) / 1e6:,.3f}",
        f"{sum(layer.params for layer in group):,}",
        f"{sum(layer.activation_bytes for layer in group) / 1e3:,.1f}",
        f"{sum(layer.weight_bytes for layer in group) / 1e3:,.1f}",
    )
