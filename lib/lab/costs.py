"""The three costs that every efficiency claim shows: operations, modelled latency, measured latency."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from hw_models import compare, load_device, trace
from lib.lab.measure import latencies


def relative_costs(
    dense: nn.Module,
    pruned: nn.Module,
    example: Tensor,
    *,
    devices: Sequence[str] = ("adreno_640", "zcu102"),
    batches: Sequence[int] = (1, 32),
    bits: int = 16,
) -> dict[str, float]:
    """`pruned` over `dense` on `example (1, ...)`, by kind of cost; 1 is no gain.

    Operations are counted; latency is modelled at `bits` bits on each of `devices` by hw_models (on an FPGA
    with the engine that suits the dense network), and measured on this machine in float32 at each of
    `batches`, both networks in alternating bursts.
    """
    work = [trace(model, example) for model in (dense, pruned)]
    costs = {"operations": work[1].macs / work[0].macs}
    for name in devices:
        before, after = compare(work, load_device(name), bits=bits)
        costs[f"modelled {name}"] = after.latency_ms / before.latency_ms
    for batch in batches:
        images = example.expand(batch, *example.shape[1:]).contiguous()
        times = latencies({"pruned": partial(pruned, images), "dense": partial(dense, images)}, burst_s=0.1)
        costs[f"measured batch {batch}"] = times["pruned"].minimum_s / times["dense"].minimum_s
    return costs
