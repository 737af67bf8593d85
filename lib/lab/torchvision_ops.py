"""Makes `import torchvision`, and so `import timm`, work on a CPU-only torch.

The torchvision wheels that pip finds for Linux are linked against CUDA. On a torch without CUDA their
compiled part does not load; torchvision passes over that in silence, then stops at import because two
operators that it wants to describe were never declared ("operator torchvision::nms does not exist").
Declaring the two is enough: transforms, models and everything timm needs are plain Python. The compiled
operators themselves (box suppression, region pooling, image decoding) stay unavailable and say so when
called; nothing in this repository uses them.
"""

import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")


def prepare_torchvision() -> None:
    """Imports torchvision, declaring its two missing operators if that is what stops it.

    Call before the first `import timm`. A normal installation is left untouched; calling again costs nothing.
    Raises whatever else `import torchvision` raises.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _forget_half_imported()
        _declare_operators()
        import torchvision  # noqa: F401


@cache
def _declare_operators() -> "torch.library.Library":
    """The declarations; they live as long as this object, so the cache holds on to it."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        library.define(name + _SCHEMA)
    return library


def _forget_half_imported() -> None:
    """Removes what the failed import left behind, so that the next one starts from the beginning."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
