"""Layers made of pruned torch layers, run as compiled code: linear, convolution, GRU and LSTM.

Each takes the pruned module, whose zeros are what was pruned, and gives its outputs to float tolerance
(with int8 those of the rounded weights). Inference only: nothing is recorded for autograd.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lib.errors import WrongUse
from lib.kernels.compiler import CompiledMatrix, compile_matrix
from lib.kernels.convolution import Geometry
from lib.kernels.errors import KernelError
from lib.kernels.loading import fields
from lib.kernels.recurrent import GATES, RECURRENT
from lib.kernels.toolchain import Toolchain

Block = tuple[int, int]


def _checked(name: str, x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise KernelError(
            f"{name} must be float32 on the CPU, not {x.dtype} on {x.device}; use .float().cpu()"
        )
    return x.detach()


class CompiledLinear(nn.Module):
    """A pruned `nn.Linear`, optionally followed by a ReLU: (..., in_features) to (..., out_features)."""

    def __init__(
        self,
        linear: nn.Linear,
        *,
        block: Block | None = None,
        precision: str = "fp32",
        threads: int = 1,
        relu: bool = False,
        toolchain: Toolchain | None = None,
    ) -> None:
        super().__init__()
        self.matrix = compile_matrix(
            linear.weight, block=block, precision=precision, threads=threads, toolchain=toolchain
        )
        self.bias = None if linear.bias is None else linear.bias.detach().clone()
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = _checked("the input of a linear layer", x)
        rows, columns = self.matrix.shape
        if x.ndim < 1 or x.shape[-1] != columns:
            raise KernelError(f"the last dimension of the input must be {columns}, not of {tuple(x.shape)}")
        flat = x.reshape(-1, columns)
        right = flat[0] if len(flat) == 1 else flat.T
        product = self.matrix.multiply(right, bias=self.bias, relu=self.relu)
        return (product.T if product.ndim == 2 else product).reshape(*x.shape[:-1], rows)


class CompiledConv2d(nn.Module):
    """A pruned `nn.Conv2d` (groups=1, zero padding), optionally followed by a ReLU: (batch, channels,
    height, width).

    Its weight is the matrix (filters, channels * kh * kw), which `block` refers to."""

    def __init__(
        self,
        conv: nn.Conv2d,
        *,
        block: Block | None = None,
        precision: str = "fp32",
        threads: int = 1,
        relu: bool = False,
        toolchain: Toolchain | None = None,
    ) -> None:
        super().__init__()
        if conv.groups != 1 or conv.padding_mode != "zeros":
            raise WrongUse(f"only groups=1 with zero padding is compiled, not {conv}")
        self.matrix = compile_matrix(
            conv.weight.flatten(1), block=block, precision=precision, threads=threads, toolchain=toolchain
        )
        self.bias = None if conv.bias is None else conv.bias.detach().clone()
        self.relu = relu
        self.channels = conv.in_channels
        self.kernel, self.stride, self.dilation = (
            (int(pair[0]), int(pair[1])) for pair in (conv.kernel_size, conv.stride, conv.dilation)
        )
        self.padding = self._padding(conv)
        self._images: dict[tuple[int, int], _Image] = {}

    def _padding(self, conv: nn.Conv2d) -> tuple[int, int]:
        if not isinstance(conv.padding, str):
            return int(conv.padding[0]), int(conv.padding[1])
        spans = [dilation * (size - 1) for dilation, size in zip(self.dilation, self.kernel, strict=True)]
        if conv.padding == "valid":
            return 0, 0
        if any(span % 2 for span in spans):
            raise WrongUse(f"padding='same' pads unevenly for {conv}; give the padding as numbers")
        return spans[0] // 2, spans[1] // 2

    def forward(self, x: Tensor) -> Tensor:
        x = _checked("the input of a convolution", x)
        if x.ndim not in (3, 4) or x.shape[-3] != self.channels:
            raise KernelError(
                f"the input must be (batch, {self.channels}, height, width), not {tuple(x.shape)}"
            )
        batch = (x if x.ndim == 4 else x[None]).contiguous()
        image = self._image(batch.shape[2], batch.shape[3])
        rows, columns = image.geometry.output
        out = torch.empty(len(batch), self.matrix.shape[0], rows, columns)
        if self.matrix.is_fallback:
            self._stand_in(batch, out)
        elif image.geometry.is_product:
            for picture, result in zip(batch.flatten(2), out.flatten(2), strict=True):
                self.matrix.multiply(picture, out=result, bias=self.bias, relu=self.relu)
        else:
            self._convolve(image, batch, out)
        return out if x.ndim == 4 else out[0]

    def _convolve(self, image: "_Image", batch: Tensor, out: Tensor) -> None:
        kernel = self.matrix.convolution
        bias = None if self.bias is None else self.bias.data_ptr()
        failed = kernel.function(
            kernel.matrix,
            ctypes.addressof(image.arrays),
            batch.data_ptr(),
            out.data_ptr(),
            len(batch),
            bias,
            self.relu,
            self.matrix.threads,
        )
        if failed:
            raise MemoryError("no memory for the working space of a pruned convolution")

    def _stand_in(self, batch: Tensor, out: Tensor) -> None:
        columns = nn.functional.unfold(batch, self.kernel, self.dilation, self.padding, self.stride)
        for picture, result in zip(columns, out.flatten(2), strict=True):
            self.matrix.multiply(picture, out=result, bias=self.bias, relu=self.relu)

    def _image(self, height: int, width: int) -> "_Image":
        """Where the inputs of an image of this size lie; kept, since networks see few sizes."""
        if (height, width) not in self._images:
            geometry = Geometry(
                self.channels, height, width, self.kernel, self.stride, self.padding, self.dilation
            )
            if min(geometry.output) < 1:
                raise KernelError(f"an image of {height} x {width} is smaller than the kernel {self.kernel}")
            if geometry.copied >= 2**31:
                raise KernelError(f"an image of {self.channels} x {height} x {width} is too large: cut it")
            self._images[height, width] = _Image.of(geometry)
        return self._images[height, width]


class _ImageArrays(ctypes.Structure):
    _fields_ = fields(
        "channels height width out_rows out_columns plane_rows plane_columns down right top left", "offset"
    )


@dataclass(frozen=True, eq=False)
class _Image:
    """A geometry as the generated source reads it; `offsets` must live as long as `arrays`."""

    geometry: Geometry
    offsets: Any
    arrays: _ImageArrays

    @classmethod
    def of(cls, geometry: Geometry) -> "_Image":
        offsets = geometry.offsets()
        arrays = _ImageArrays(
            geometry.channels,
            geometry.height,
            geometry.width,
            *geometry.output,
            *geometry.plane,
            *geometry.stride,
            *geometry.padding,
            offsets.ctypes.data,
        )
        return cls(geometry, offsets, arrays)


@dataclass(frozen=True, eq=False)
class _Direction:
    """One direction of one layer: input weights (gates * H, inputs), recurrent weights (gates * H, H),
    biases."""

    inputs: CompiledMatrix
    recurrent: CompiledMatrix
    input_bias: Tensor | None
    recurrent_bias: Tensor | None
    backwards: bool


class _CompiledRecurrent(nn.Module):
    """What GRU and LSTM share: layers and directions, layouts of inputs and outputs, the walk through
    time."""

    cell: str

    def __init__(
        self,
        module: nn.GRU | nn.LSTM,
        *,
        block: Block | None = None,
        precision: str = "fp32",
        threads: int = 1,
        toolchain: Toolchain | None = None,
    ) -> None:
        super().__init__()
        if module.proj_size:
            raise WrongUse("a projected LSTM (proj_size) is not compiled")
        if module.training and module.dropout:
            raise WrongUse("dropout between layers is training: call .eval() on the module first")
        self.hidden, self.layers, self.batch_first = module.hidden_size, module.num_layers, module.batch_first
        self.inputs, self.threads = module.input_size, threads
        directions = 2 if module.bidirectional else 1
        self._parts = []
        for layer in range(module.num_layers):
            for direction in range(directions):
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                inputs, recurrent = (
                    compile_matrix(
                        getattr(module, f"weight_{kind}{suffix}"),
                        block=block,
                        precision=precision,
                        threads=threads,
                        toolchain=toolchain,
                    )
                    for kind in ("ih", "hh")
                )
                input_bias, recurrent_bias = (
                    getattr(module, f"bias_{kind}{suffix}").detach().clone() if module.bias else None
                    for kind in ("ih", "hh")
                )
                backwards = bool(direction)
                self._parts.append(_Direction(inputs, recurrent, input_bias, recurrent_bias, backwards))
        self.directions = directions

    @property
    def matrices(self) -> list[CompiledMatrix]:
        """The compiled weights: of every layer and direction those of the inputs, then the recurrent ones."""
        return [matrix for part in self._parts for matrix in (part.inputs, part.recurrent)]

    @property
    def is_fallback(self) -> bool:
        return self._parts[0].recurrent.is_fallback

    def _walk(self, x: Tensor, states: list[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
        """Outputs in the layout of `x`, and final states (layers * directions, batch, H), of zero states
        where None."""
        x = _checked("the input of a recurrent layer", x)
        if x.ndim not in (2, 3) or x.shape[-1] != self.inputs:
            raise KernelError(f"the input must be (steps, batch, {self.inputs}), not {tuple(x.shape)}")
        single = x.ndim == 2
        sequence = x[:, None] if single else x.transpose(0, 1) if self.batch_first else x
        steps, batch = sequence.shape[:2]
        if not steps or not batch:
            raise KernelError(f"the input has no steps or no sequences: {tuple(x.shape)}")
        shape = (len(self._parts), batch, self.hidden)
        filled = []
        for state in states:
            given = torch.zeros(shape) if state is None else _checked("a state", state)
            given = given[:, None] if single and state is not None else given
            if given.shape != shape:
                raise KernelError(f"a state must be {shape}, not {tuple(given.shape)}")
            filled.append(
                given.transpose(1, 2).clone(memory_format=torch.contiguous_format)
            )  # (parts, H, batch)
        current = sequence.permute(0, 2, 1)  # (steps, features, batch)
        for layer in range(self.layers):
            places = range(layer * self.directions, (layer + 1) * self.directions)
            outputs = [
                self._run(self._parts[place], current, [state[place] for state in filled]) for place in places
            ]
            current = outputs[0] if self.directions == 1 else torch.cat(outputs, dim=1)
        result = current.permute(0, 2, 1)
        result = result[:, 0] if single else result.transpose(0, 1) if self.batch_first else result
        finals = [state.transpose(1, 2)[:, 0] if single else state.transpose(1, 2) for state in filled]
        return result, finals

    def _run(self, part: _Direction, sequence: Tensor, states: list[Tensor]) -> Tensor:
        """Outputs (steps, H, batch) of one direction; `states`, (H, batch) each, become the last ones."""
        if part.backwards:
            sequence = sequence.flip(0)
        steps, features, batch = sequence.shape
        gates = GATES[self.cell] * self.hidden
        if steps * batch == 1:
            given = part.inputs.multiply(sequence.reshape(features), bias=part.input_bias)
        else:
            columns = sequence.permute(1, 0, 2).reshape(features, steps * batch)
            given = part.inputs.multiply(columns, bias=part.input_bias)
            given = given.view(gates, steps, batch).permute(1, 0, 2).contiguous()
        out = torch.empty(steps, self.hidden, batch)
        if self.is_fallback:
            self._stand_in(part, given.view(steps, gates, batch), states, out)
        else:
            work = torch.empty(gates * batch)
            kernel = part.recurrent.kernel(batch)
            bias = None if part.recurrent_bias is None else part.recurrent_bias.data_ptr()
            failed = self._sequence(
                ctypes.cast(kernel.function, ctypes.c_void_p),  # type: ignore[arg-type]
                kernel.matrix,
                bias,
                given.data_ptr(),
                *(state.data_ptr() for state in states),
                work.data_ptr(),
                out.data_ptr(),
                steps,
                self.hidden * batch,
                batch,
                self.threads,
            )
            if failed:
                raise MemoryError("no memory for the working space of a pruned recurrent layer")
        return out.flip(0) if part.backwards else out

    @cached_property
    def _sequence(self) -> Callable[..., int]:
        toolchain = self._parts[0].recurrent.toolchain
        assert toolchain is not None
        function = getattr(toolchain.load(RECURRENT), f"{self.cell}_sequence")
        pointers = 7 if self.cell == "gru" else 8
        function.argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * 3 + [ctypes.c_int]
        return function

    def _stand_in(self, part: _Direction, given: Tensor, states: list[Tensor], out: Tensor) -> None:
        for step, gates in enumerate(given):
            work = part.recurrent.multiply(states[0])
            if part.recurrent_bias is not None:
                work += part.recurrent_bias[:, None]
            self._gates(gates, work, states)
            out[step] = states[0]

    def _gates(self, given: Tensor, work: Tensor, states: list[Tensor]) -> None:
        """Updates the states (H, batch) in place from both shares of the gates (gates * H, batch)."""
        raise NotImplementedError


class CompiledGRU(_CompiledRecurrent):
    """A pruned `nn.GRU`; called like it."""

    cell = "gru"

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        result, (last,) = self._walk(x, [hidden])
        return result, last

    def _gates(self, given: Tensor, work: Tensor, states: list[Tensor]) -> None:
        (hidden,) = states
        (r, z, n), (wr, wz, wn) = given.chunk(3), work.chunk(3)
        fresh = torch.tanh(n + torch.sigmoid(r + wr) * wn)
        hidden.copy_(fresh + torch.sigmoid(z + wz) * (hidden - fresh))


class CompiledLSTM(_CompiledRecurrent):
    """A pruned `nn.LSTM` (without projection); called like it."""

    cell = "lstm"

    def forward(
        self, x: Tensor, states: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        result, (hidden, cell) = self._walk(x, [None, None] if states is None else list(states))
        return result, (hidden, cell)

    def _gates(self, given: Tensor, work: Tensor, states: list[Tensor]) -> None:
        hidden, cell = states
        i, f, g, o = (given + work).chunk(4)
        cell.mul_(torch.sigmoid(f)).add_(torch.sigmoid(i) * torch.tanh(g))
        hidden.copy_(torch.sigmoid(o) * torch.tanh(cell))
