"""Networks as ONNX files, and in ONNX Runtime."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def export_onnx(model: nn.Module, images: Tensor, path: Path) -> None:
    """Writes `model` for inputs shaped like `images` to `path`; input `images`, output `logits`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter announces its own successor
        torch.onnx.export(
            model.eval(),
            (torch.randn_like(images),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["images"],
            output_names=["logits"],
        )


def onnx_runner(path: Path, images: Tensor, *, threads: int = 1) -> Callable[[], list[Any]]:
    """A call that runs the exported network on `images` and gives its outputs as numpy arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {"images": images.numpy()})
