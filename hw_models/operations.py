"""What is known of each tensor operation: its kind, and for products the shape of its arithmetic.

An operation that is neither listed here nor declared pointwise or a reduction by torch has kind `uncounted`:
a new or custom operation is named in the workload and never passes for free.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from hw_models.shapes import Attention, Convolution, Gemm, Shape
from hw_models.workload import Kind

_LISTED: dict[Kind, str] = {
    "normalisation": """native_layer_norm native_group_norm native_batch_norm batch_norm cudnn_batch_norm
        _native_batch_norm_legit _native_batch_norm_legit_no_training _batch_norm_no_update
        _batch_norm_with_update _fused_rms_norm _weight_norm_interface""",
    "softmax": "_softmax _log_softmax _safe_softmax",
    "reduction": """mean sum amax amin max min prod any all argmax argmin aminmax var var_mean std
        std_mean norm linalg_vector_norm cumsum cumprod cummax cummin logsumexp logcumsumexp topk sort
        msort kthvalue median mode count_nonzero nonzero bincount histc unique_consecutive
        _unique2 searchsorted bucketize equal isin""",
    "elementwise": """hardswish hardsigmoid hardtanh prelu _prelu_kernel rrelu leaky_relu glu
        masked_fill dropout native_dropout bernoulli normal uniform random exponential randn rand randint
        randperm randn_like rand_like randint_like multinomial celu elu selu silu mish
        softplus threshold tril triu relu lerp clamp heaviside frac round trunc
        _thnn_fused_lstm_cell _thnn_fused_gru_cell fake_quantize_per_tensor_affine_cachemask
        fake_quantize_per_channel_affine_cachemask
        _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _foreach_add _foreach_mul""",
    "pooling": """max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices avg_pool1d
        avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d
        adaptive_avg_pool2d adaptive_max_pool2d adaptive_max_pool3d mkldnn_max_pool2d""",
    "resampling": """upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
        _upsample_nearest_exact2d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
        upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d
        grid_sampler_3d affine_grid_generator""",
    "memory": """clone copy _to_copy contiguous cat stack roll flip index index_select index_put
        _unsafe_index _index_put_impl index_add index_copy index_fill gather scatter
        scatter_add scatter_reduce slice_scatter select_scatter diagonal_scatter
        masked_select masked_scatter take embedding repeat repeat_interleave tile
        constant_pad_nd pad reflection_pad1d reflection_pad2d reflection_pad3d
        replication_pad1d replication_pad2d replication_pad3d fill zero zeros ones full
        zeros_like ones_like full_like new_zeros new_ones new_full arange linspace eye
        scalar_tensor tril_indices triu_indices im2col unfold_copy col2im pixel_shuffle
        pixel_unshuffle channel_shuffle native_channel_shuffle rot90 _pack_padded_sequence
        split_with_sizes_copy""",
}
_KIND_OF = {name: kind for kind, names in _LISTED.items() for name in names.split()}

_FREE = """
    empty empty_like empty_strided new_empty new_empty_strided empty_permuted detach lift
    lift_fresh alias _unsafe_view unsafe_split unsafe_split_with_sizes unsafe_chunk resize
    set _assert_async _assert_tensor_metadata _assert_scalar sym_size sym_stride sym_numel
    is_same_size _local_scalar_dense _fused_sdp_choice
"""
FREE = frozenset(_FREE.split())
"""Operations that neither compute nor move elements, beside views, which their storage gives away."""


def is_free(operation: Any) -> bool:
    """Whether an operation neither computes nor moves elements, as far as its name tells."""
    return base_name(operation) in FREE or torch.Tag.inplace_view in operation.tags


LIFTING = frozenset({"lift", "lift_fresh"})
"""Free operations that take over a tensor which was just made of Python numbers."""

SELECTING = frozenset(
    {"index", "_unsafe_index", "index_select", "gather", "embedding", "take", "masked_select"}
)
"""Operations that read only the elements they return."""

ADDING_FIRST = frozenset({"addmm", "baddbmm", "addmv", "addbmm", "addr", "_addmm_activation"})
"""Products whose first argument is added to the result of the other two."""

OVERWRITING = frozenset({"copy", "fill", "zero"})
"""In-place operations whose first argument is written without being read."""


REVERSED = frozenset({"mv", "addmv"})
"""Products whose shape has their second factor first: one row, the vector, times the transposed matrix."""


def factors_of(name: str, args: Sequence[Any]) -> list[Any]:
    """The arguments that an operation of `SHAPES` multiplies, in the order of its shape's operands."""
    if name in ATTENTIONS:
        return list(args[:3])
    factors = list(args[1:3] if name in ADDING_FIRST else args[:2])
    return factors[::-1] if name in REVERSED else factors


def base_name(operation: Any) -> str:
    """Name of an operation without overload and in-place mark; with its library unless that is aten."""
    packet = str(operation.overloadpacket)
    library, _, name = packet.partition(".")
    name = name if name.startswith("__") else name.rstrip("_")
    return name if library == "aten" else f"{library}.{name}"


def kind_of(operation: Any) -> Kind:
    """Kind of an operation that has no entry in `SHAPES`."""
    name = base_name(operation)
    if name in _KIND_OF:
        return _KIND_OF[name]
    if torch.Tag.pointwise in operation.tags:
        return "elementwise"
    if torch.Tag.reduction in operation.tags:
        return "reduction"
    return "uncounted"


def _mm(a: torch.Tensor, b: torch.Tensor, *_: Any, **__: Any) -> Gemm:
    return Gemm(m=a.shape[0], k=a.shape[1], n=b.shape[1])


def _addmm(_bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *_: Any, **__: Any) -> Gemm:
    return _mm(a, b)


def _mv(matrix: torch.Tensor, vector: torch.Tensor, *_: Any, **__: Any) -> Gemm:
    return Gemm(m=1, k=vector.shape[0], n=matrix.shape[0])


def _addmv(_bias: torch.Tensor, matrix: torch.Tensor, vector: torch.Tensor, *_: Any, **__: Any) -> Gemm:
    return _mv(matrix, vector)


def _dot(a: torch.Tensor, _b: torch.Tensor) -> Gemm:
    return Gemm(m=1, k=a.shape[0], n=1)


def _addr(_bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *_: Any, **__: Any) -> Gemm:
    return Gemm(m=a.shape[0], k=1, n=b.shape[0])


def _bmm(a: torch.Tensor, b: torch.Tensor, *_: Any, **__: Any) -> Gemm:
    return Gemm(batch=a.shape[0], m=a.shape[1], k=a.shape[2], n=b.shape[2])


def _baddbmm(_bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *_: Any, **__: Any) -> Gemm:
    return _bmm(a, b)


def _linear(x: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> Gemm:
    n, k = weight.shape
    return Gemm(m=x.numel() // k if k else 0, k=k, n=n)


def _convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    _bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *_: Any,
) -> Convolution:
    size_in, kernel = tuple(x.shape[2:]), tuple(weight.shape[2:])

    def spread(values: Sequence[int]) -> tuple[int, ...]:
        return tuple(values) * len(kernel) if len(values) == 1 else tuple(values)

    stride, padding, dilation = spread(stride), spread(padding), spread(dilation)
    extra = spread(output_padding)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    axes = list(zip(size_in, stride, padding, reach, extra, strict=True))
    if transposed:
        size_out = tuple((n - 1) * s - 2 * p + r + e + 1 for n, s, p, r, e in axes)
    else:
        size_out = tuple((n + 2 * p - r - 1) // s + 1 for n, s, p, r, _e in axes)
    return Convolution(
        batch=x.shape[0],
        channels_in=x.shape[1],
        channels_out=weight.shape[1] * groups if transposed else weight.shape[0],
        groups=groups,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        size_in=size_in,
        size_out=size_out,
        transposed=transposed,
    )


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any, **__: Any) -> Attention:
    return Attention(
        batch=q.shape[0],
        heads=q.shape[
            1
        ],  # with grouped queries the keys have fewer heads; each query head still works in full
        queries=q.shape[2],
        keys=k.shape[2],
        width=q.shape[3],
        value_width=v.shape[3],
    )


SHAPES: dict[str, tuple[Kind, Callable[..., Shape]]] = {
    "mm": ("gemm", _mm),
    "_int_mm": ("gemm", _mm),
    "addmm": ("gemm", _addmm),
    "_addmm_activation": ("gemm", _addmm),
    "mv": ("gemm", _mv),
    "addmv": ("gemm", _addmv),
    "dot": ("gemm", _dot),
    "vdot": ("gemm", _dot),
    "addr": ("gemm", _addr),
    "linear": ("gemm", _linear),
    "bmm": ("batched_gemm", _bmm),
    "baddbmm": ("batched_gemm", _baddbmm),
    "addbmm": ("batched_gemm", _baddbmm),
    "convolution": ("convolution", _convolution),
    "_convolution": ("convolution", _convolution),
    "convolution_overrideable": ("convolution", _convolution),
    "_scaled_dot_product_flash_attention": ("attention", _attention),
    "_scaled_dot_product_flash_attention_for_cpu": ("attention", _attention),
    "_scaled_dot_product_efficient_attention": ("attention", _attention),
    "_scaled_dot_product_cudnn_attention": ("attention", _attention),
    "_scaled_dot_product_fused_attention_overrideable": ("attention", _attention),
}
"""Operations with multiply-accumulates: kind, and the shape that their arguments give."""

ATTENTIONS = frozenset(name for name, (kind, _) in SHAPES.items() if kind == "attention")
"""Those with three factors: queries, keys and values."""
