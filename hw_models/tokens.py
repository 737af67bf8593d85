"""A traced transformer with other token counts, block by block and image by image.

One trace of the dense network serves every pruning schedule: operations of a block are resized from the
traced number of tokens to the wanted one. What lies outside the named blocks stays as it is.
"""

from collections.abc import Mapping, Sequence

from hw_models.errors import HardwareModelError, check_count
from hw_models.shapes import Attention, Convolution, Gemm, Shape
from hw_models.workload import Layer, Workload


def with_tokens(workload: Workload, full: int, counts: Mapping[str, int]) -> Workload:
    """`workload`, traced at `full` tokens an image, with `counts` tokens in the modules named.

    `counts` maps a module path, such as `blocks.3`, to the tokens that it and all inside it work on. Products
    over tokens shrink in that dimension, attention in queries and keys, softmax over unfused scores in both.

    Raises HardwareModelError for a module without operations, a count that is no whole number of at least 1,
    and a product in a named module that has no dimension of `full` tokens, or does not tell which ones they
    are: a product of two activations with all dimensions alike.
    """
    check_count("full", full)
    for module, count in counts.items():
        check_count(f"{module}: tokens", count)
        if not any(_inside(layer, module) for layer in workload.layers):
            raise HardwareModelError(f"no operation of {workload.network} ran in a module {module!r}")
    # Scores, tokens by tokens, exist apart only where attention is not fused.
    scores = {
        layer.output_elements
        for layer in workload.layers
        if _is_weightless(layer) and _is_square(layer, full)
    }
    layers = []
    for layer in workload.layers:
        module = max((name for name in counts if _inside(layer, name)), key=len, default="")
        layers.append(_resized(layer, full, counts[module], scores) if module else layer)
    return workload.model_copy(update={"layers": tuple(layers)})


def per_image(workload: Workload, full: int, counts_of_images: Sequence[Mapping[str, int]]) -> list[Workload]:
    """One workload per image of a batch whose images keep different numbers of tokens."""
    return [with_tokens(workload, full, counts) for counts in counts_of_images]


def _inside(layer: Layer, module: str) -> bool:
    return layer.name == module or layer.name.startswith(module + ".")


def _is_weightless(layer: Layer) -> bool:
    """Whether a batched product multiplies two computed operands, as unfused attention does."""
    return layer.kind == "batched_gemm" and layer.matrix is None


def _is_square(layer: Layer, full: int) -> bool:
    return isinstance(layer.shape, Gemm) and layer.shape.m == layer.shape.n == full


def _resized(layer: Layer, full: int, count: int, scores: set[int]) -> Layer:
    shape = _resized_shape(layer, full, count)
    if isinstance(shape, Gemm) and _is_weightless(layer):
        inputs = shape.batch * (shape.m * shape.k + shape.k * shape.n)
        outputs = shape.batch * shape.m * shape.n
    else:
        on_scores = layer.shape is None and layer.output_elements in scores
        scale = (count / full) ** (2 if on_scores else 1)
        inputs, outputs = round(layer.input_elements * scale), round(layer.output_elements * scale)
    return layer.model_copy(update={"shape": shape, "input_elements": inputs, "output_elements": outputs})


def _resized_shape(layer: Layer, full: int, count: int) -> Shape | None:
    changed: dict[str, int] = {}
    match layer.shape:
        case None:
            return None
        case Attention() as s:
            looked_at = f"queries ({s.queries}) and keys ({s.keys})"
            if s.queries == s.keys == full:
                changed = {"queries": count, "keys": count}
        case Gemm() as s if _is_weightless(layer):
            looked_at = f"m ({s.m}), k ({s.k}) and n ({s.n})"
            changed = {axis: count for axis in ("m", "k", "n") if getattr(s, axis) == full}
            if len(changed) == 3 and count != full:
                raise HardwareModelError(
                    f"{layer.name}: {layer.operation} {s} is {full} long in every axis, which does not tell "
                    "tokens from channels; trace with another number of tokens, or with fused attention"
                )
        case Gemm() as s:
            # Several images lie one after the other; torch's own attention has them along the batch.
            looked_at = f"m ({s.m}) and batch ({s.batch}), for multiples"
            axis = next((axis for axis in ("m", "batch") if getattr(s, axis) % full == 0), None)
            changed = {axis: getattr(s, axis) // full * count} if axis else {}
        case Convolution():
            looked_at = "none, in a convolution"
    if not changed:
        raise HardwareModelError(
            f"{layer.name}: {layer.operation} {layer.shape} has no axis of {full} tokens; "
            f"looked at {looked_at}"
        )
    return layer.shape.model_copy(update=changed)
