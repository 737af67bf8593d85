"""Operator fusion as mobile runtimes do it: what can ride along with a product is no operation of its own."""

from hw_models.workload import Layer, Workload


def fused(workload: Workload) -> Workload:
    """`workload` with pointwise operations and batch normalisation merged into the product before them.

    An operation is merged if it follows a product, directly or behind others that were merged, and writes as
    many elements as the product did. Its parameters are folded into the product's; a second operand, as of a
    residual addition, is still read. Layer normalisation needs all channels first and stays apart.
    """
    layers: list[Layer] = []
    open_product = False
    for layer in workload.layers:
        rides = layer.kind == "elementwise" or "batch_norm" in layer.operation
        if rides and open_product and layer.output_elements == layers[-1].output_elements:
            layers[-1] = _merged(layers[-1], layer)
        else:
            layers.append(layer)
            open_product = layer.shape is not None
    return workload.model_copy(update={"layers": tuple(layers)})


def _merged(product: Layer, rider: Layer) -> Layer:
    second_operand = max(0, rider.input_elements - product.output_elements)
    return product.model_copy(
        update={
            "input_elements": product.input_elements + second_operand,
            "params": product.params + rider.params,
        }
    )
