"""Other runtimes on the same network, for comparison: ONNX Runtime, MNN (dense and sparse), ncnn, LiteRT,
TVM.

All are optional. Each takes an exported network and gives a call that runs it on one thread and returns its
output.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.errors import ReproError
from lib.lab.export import export_onnx, onnx_runner

Call = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Exported:
    """A network, the ONNX file `path` that holds it (input x, output y), and the input `x` that it is run
    on."""

    module: nn.Module
    path: Path
    x: Tensor


@dataclass(frozen=True)
class Peer:
    """A runtime: the packages that it takes to convert and run a network, the maker of its call, and the
    extra of pyproject.toml that brings the packages."""

    packages: tuple[str, ...]
    load: Callable[[Exported], Call]
    extra: str = "peers"

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that are not installed."""
        return tuple(package for package in self.packages if find_spec(package) is None)


def export(module: nn.Module, x: Tensor, path: Path) -> Exported:
    """Write `module`, run on `x`, as ONNX."""
    export_onnx(module, x, path, names=("x", "y"))
    return Exported(module, path, x)


def onnx_runtime(network: Exported) -> Call:
    """ONNX Runtime on the processor."""
    run = onnx_runner(network.path, network.x)
    return lambda: run()[0]


def mnn(network: Exported, *, sparse: bool = False) -> Call:
    """MNN; with `sparse` converted with --detectSparseSpeedUp, its kernels for pruned weights."""
    engine = import_module("MNN")
    x, made = network.x, network.path.with_suffix(".sparse.mnn" if sparse else ".mnn")
    arguments = [
        "-f",
        "ONNX",
        "--modelFile",
        str(network.path),
        "--MNNModel",
        str(made),
        "--bizCode",
        "bench",
    ]
    arguments += ["--detectSparseSpeedUp"] if sparse else []
    # The packaged command would try to install a client that reports its use: call the converter alone.
    _convert([sys.executable, "-c", "import sys, _tools; _tools.mnnconvert(sys.argv)", *arguments], made)
    manager = engine.nn.create_runtime_manager(({"backend": 0, "numThread": 1, "precision": "high"},))
    module = engine.nn.load_module_from_file(str(made), ["x"], ["y"], runtime_manager=manager)
    given = engine.expr.convert(
        engine.expr.const(x.numpy(), list(x.shape), engine.expr.NCHW, engine.expr.dtype.float),
        engine.expr.NC4HW4,
    )

    def call() -> NDArray[np.float32]:
        return np.array(engine.expr.convert(module.forward(given), engine.expr.NCHW).read(), np.float32)

    return call


def ncnn(network: Exported) -> Call:
    """ncnn, through pnnx, in float32."""
    engine = import_module("ncnn")
    shape = "[" + ",".join(map(str, network.x.shape)) + "]"
    parameters = network.path.with_suffix(".ncnn.param")
    converter = str(import_module("pnnx").EXEC_PATH)
    _convert([converter, str(network.path), f"inputshape={shape}", "fp16=0"], parameters)
    net = engine.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(str(parameters))
    net.load_model(str(network.path.with_suffix(".ncnn.bin")))
    given = engine.Mat(network.x[0].numpy()).clone()

    def call() -> NDArray[np.float32]:
        extractor = net.create_extractor()
        extractor.input("in0", given)
        return np.array(extractor.extract("out0")[1])[None]

    return call


def litert(network: Exported) -> Call:
    """LiteRT (XNNPACK), converted by litert-torch."""
    made = network.path.with_suffix(".tflite")
    import_module("litert_torch").convert(network.module, (network.x,)).export(str(made))
    interpreter = import_module("ai_edge_litert.interpreter").Interpreter(str(made), num_threads=1)
    interpreter.allocate_tensors()
    source, result = (
        f()[0]["index"] for f in (interpreter.get_input_details, interpreter.get_output_details)
    )
    given = network.x.numpy()

    def call() -> NDArray[np.float32]:
        interpreter.set_tensor(source, given)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return call


def tvm(network: Exported) -> Call:
    """TVM without tuning: its default schedules for this processor."""
    compiler, relax = import_module("tvm"), import_module("tvm.relax")
    graph = import_module("onnx").load(network.path)
    module = import_module("tvm.relax.frontend.onnx").from_onnx(graph, keep_params_in_input=False)
    target = {"kind": "llvm", "mcpu": import_module("tvm.target.codegen").llvm_get_system_cpu()}
    built = compiler.compile(relax.get_pipeline("zero")(module), target=compiler.target.Target(target))
    machine: Any = relax.VirtualMachine(built, compiler.cpu())
    given = compiler.runtime.tensor(network.x.numpy())

    def call() -> NDArray[np.float32]:
        result = machine["main"](given)
        return (result[0] if not hasattr(result, "numpy") else result).numpy()

    return call


def _convert(command: list[str], made: Path) -> None:
    """Run a converter beside the file that it is to make. Raises ReproError with its last words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=made.parent)
    if not made.is_file():
        name = "MNN's converter" if command[1] == "-c" else Path(command[0]).name
        raise ReproError(f"{name} made no {made.name}: {(done.stdout + done.stderr)[-500:]}")


PEERS: dict[str, Peer] = {
    "ONNX Runtime": Peer(("onnx", "onnxruntime"), onnx_runtime),
    "MNN": Peer(("onnx", "MNN"), mnn),
    "ncnn": Peer(("onnx", "ncnn", "pnnx"), ncnn),
    "LiteRT": Peer(("onnx", "ai_edge_litert", "litert_torch"), litert, "litert"),
    "TVM": Peer(("onnx", "tvm"), tvm, "tvm"),
    "MNN sparse": Peer(("onnx", "MNN"), lambda network: mnn(network, sparse=True)),
}
SPARSE = ("MNN sparse",)
"""Peers that take notice of zeros."""
