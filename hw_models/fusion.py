"""Operator fusion as mobile runtimes do it: what can ride along with a product is no operation of its own."""

from dataclasses import dataclass

from hw_models.errors import HardwareModelError
from hw_models.workload import Layer, Workload

FOLDED = "batch_norm_legit_no_training"
"""Batch normalisation in evaluation, whose parameters become part of the weights before it."""


@dataclass(frozen=True)
class _Group:
    """A product with what rides along, or another operation alone: one operation of the result."""

    places: tuple[int, ...]
    """Of its operations in the workload."""
    sources: frozenset[int]
    """Groups whose results it reads."""
    layer: Layer

    def joined_by(self, place: int, sources: set[int], rider: Layer, own: list[Layer]) -> "_Group":
        """With a `rider` that reads the results of `own`, which are in the group, and of other groups."""
        operands = rider.input_elements - sum(layer.output_elements for layer in own)
        weights = rider.weight_elements - sum(layer.weight_outputs for layer in own)
        changed = {
            "input_elements": self.layer.input_elements + max(0, operands),
            "weight_elements": self.layer.weight_elements
            + (0 if FOLDED in rider.operation else max(0, weights)),
            "params": self.layer.params + rider.params,
        }
        return _Group((*self.places, place), self.sources | sources, self.layer.model_copy(update=changed))


def fused(workload: Workload) -> Workload:
    """`workload` with pointwise operations and batch normalisation merged into the product that they follow.

    An operation is merged if it reads the result of a product, or of something already merged into it, all
    its other operands exist before that product, and it writes as many elements. Operands from elsewhere, as
    of a residual addition, are still read, and a result in between that a later operation needs is still
    written. Batch normalisation in evaluation is folded, parameters and all. Where it takes its statistics
    from the data, it needs all of them first and stays apart, as layer normalisation does.

    Raises HardwareModelError if a layer reads the result of a later one, as where layers were taken out.
    """
    layers = workload.layers
    sources = [_sources(layer, place) for place, layer in enumerate(layers)]
    groups: list[_Group] = []
    group_of: list[int] = []
    for place, layer in enumerate(layers):
        read = {group_of[source] for source in sources[place]}
        last = max(read, default=-1)
        if read and _rides(layer, layers[groups[last].places[0]]):
            own = [layers[source] for source in sources[place] if group_of[source] == last]
            groups[last] = groups[last].joined_by(place, read - {last}, layer, own)
            group_of.append(last)
        else:
            group_of.append(len(groups))
            groups.append(_Group((place,), frozenset(read), layer))
    elsewhere = {
        source for place, read in enumerate(sources) for source in read if group_of[source] != group_of[place]
    }
    result = []
    for index, group in enumerate(groups):
        between = [layers[place] for place in group.places[:-1] if place in elsewhere]
        by_hand = all(layers[place].sources is None for place in group.places)
        before = frozenset({index - 1} if index else ())
        changed = {
            "output_elements": group.layer.output_elements + sum(each.output_elements for each in between),
            "weight_outputs": group.layer.weight_outputs + sum(each.weight_outputs for each in between),
            "sources": None if by_hand and group.sources == before else tuple(sorted(group.sources)),
        }
        result.append(group.layer.model_copy(update=changed))
    return workload.model_copy(update={"layers": tuple(result)})


def _sources(layer: Layer, place: int) -> tuple[int, ...]:
    if layer.sources is None:
        return (place - 1,) if place else ()
    if any(source >= place for source in layer.sources):
        raise HardwareModelError(
            f"{layer.name}: {layer.operation} is layer {place} and reads results of {layer.sources}, which "
            "do not come before it; where layers were moved or taken out, give them new `sources`, or None"
        )
    return layer.sources


def _rides(layer: Layer, product: Layer) -> bool:
    """Whether `layer`, which reads what `product` computes, can be merged into it."""
    pointwise = layer.kind == "elementwise" or FOLDED in layer.operation
    return pointwise and product.shape is not None and layer.written_elements == product.written_elements
