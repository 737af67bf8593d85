"""The work of one operation as a device does it: arithmetic, and bytes at each level of memory."""

from dataclasses import dataclass

from hw_models.span import Span
from hw_models.workload import Kind, Layer


@dataclass(frozen=True)
class LayerWork:
    """Arithmetic and traffic of one operation for a whole batch."""

    name: str
    kind: Kind
    macs: int
    """Multiply-accumulates done."""
    other_ops: int
    """Operations that are no multiply-accumulates."""
    bits: int
    """The wider of weights and activations."""
    bytes: float
    """From and to main memory."""
    on_chip_bytes: Span
    """From and to caches or block RAM."""


def layer_work(layer: Layer, batch: int, moved: float, on_chip: Span, macs: int | None = None) -> LayerWork:
    """Work of `batch` times the traced operation that moves `moved` bytes of main memory.

    `macs` are the multiply-accumulates done, where they are not those that the weights leave to do."""
    return LayerWork(
        name=layer.name,
        kind=layer.kind,
        macs=layer.macs * batch if macs is None else macs,
        other_ops=0 if layer.shape else layer.ops * batch,
        bits=max(layer.weight_bits, layer.activation_bits),
        bytes=moved,
        on_chip_bytes=on_chip,
    )
