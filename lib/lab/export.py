"""Networks as ONNX files, and in ONNX Runtime."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def export_onnx(
    model: nn.Module, images: Tensor, path: Path, *, names: tuple[str, str] = ("images", "logits")
) -> None:
    """Writes `model` for inputs shaped like `images` to `path`; `names` are those of input and output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its own successor, and that counts become constants
        torch.onnx.export(
            model.eval(),
            (torch.randn_like(images),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=[names[0]],
            output_names=[names[1]],
        )


def onnx_session(model: Path | bytes, *, threads: int = 1) -> Any:
    """ONNX Runtime ready to run `model`, a file or its content, on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnx_runner(path: Path, images: Tensor, *, threads: int = 1) -> Callable[[], list[Any]]:
    """A call that runs the exported network on `images` and gives its outputs as numpy arrays."""
    session = onnx_session(path, threads=threads)
    return partial(session.run, None, {session.get_inputs()[0].name: images.numpy()})
