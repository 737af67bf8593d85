"""Small modules whose counts are worked out by hand."""

import warnings
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hw_models import HardwareModelError, TraceError, UncountedWarning, Workload, trace
from hw_models.products import products_of
from hw_models.shapes import Convolution, Gemm


class Call(nn.Module):
    """A module around a function, without parameters of its own."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs)  # type: ignore[operator]


class With(nn.Module):
    """A function of the module's parameters `p` and `q` and of the inputs, and a buffer."""

    def __init__(self, function: object, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        for name, shape in zip("pq", shapes, strict=False):
            self.register_parameter(name, nn.Parameter(torch.ones(shape)))
        self.register_buffer("buffer", torch.zeros(4, 6))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(self, *inputs)  # type: ignore[operator]


class Looking(nn.Module):
    """Looks at a value, so that shapes alone are not enough."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x if x.sum().item() == 0 else x * 0)


def products(workload: Workload) -> list[str]:
    return [layer.kind for layer in workload.layers if layer.macs]


def test_linear() -> None:
    workload = trace(nn.Linear(5, 7), torch.randn(3, 5))
    (layer,) = workload.layers
    assert layer.shape == Gemm(m=3, k=5, n=7)
    assert (layer.name, layer.kind, layer.macs, layer.params) == ("(root)", "gemm", 105, 42)
    assert (layer.input_bytes, layer.output_bytes, layer.weight_bytes) == (60, 84, 168)
    assert (workload.macs, workload.params, workload.weight_bytes, workload.activation_bytes) == (
        105,
        42,
        168,
        144,
    )


def test_bits_scale_bytes_and_nothing_else() -> None:
    wide, narrow = (trace(nn.Linear(5, 7), torch.randn(3, 5), bits=bits) for bits in (32, 8))
    assert narrow.weight_bytes == wide.weight_bytes / 4
    assert narrow.activation_bytes == wide.activation_bytes / 4
    assert narrow.macs == wide.macs
    mixed = wide.at_bits(weight=8, activation=4)
    assert (mixed.weight_bytes, mixed.activation_bytes) == (wide.weight_bytes / 4, wide.activation_bytes / 8)


@pytest.mark.parametrize(
    ("module", "example", "macs", "out"),
    [
        (nn.Conv2d(3, 8, 3), (2, 3, 9, 7), 2 * 7 * 5 * 9 * 3 * 8, (7, 5)),
        (nn.Conv2d(6, 6, 3, groups=6, padding=1), (1, 6, 5, 5), 25 * 9 * 6, (5, 5)),
        (nn.Conv2d(6, 9, (1, 3), stride=(2, 1), groups=3), (1, 6, 5, 7), 3 * 5 * 3 * 6 * 3, (3, 5)),
        (nn.Conv2d(2, 4, 3, dilation=2), (1, 2, 11, 8), 7 * 4 * 9 * 2 * 4, (7, 4)),
        (nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1), (1, 2, 5, 5), 25 * 16 * 2 * 3, (10, 10)),
        (nn.Conv1d(4, 6, 5, stride=3), (3, 4, 20), 3 * 6 * 5 * 4 * 6, (6,)),
        (
            nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2),
            (1, 4, 5, 5),
            25 * 9 * 4 * 3,
            (12, 12),
        ),
    ],
)
def test_convolution(module: nn.Module, example: tuple[int, ...], macs: int, out: tuple[int, ...]) -> None:
    (layer,) = trace(module, torch.randn(example)).layers
    assert isinstance(layer.shape, Convolution)
    assert layer.macs == macs
    assert layer.shape.size_out == out == tuple(module(torch.randn(example)).shape[2:])


@pytest.mark.parametrize(
    ("function", "shapes", "macs", "kind"),
    [
        (torch.bmm, [(2, 3, 4), (2, 4, 5)], 120, "batched_gemm"),
        (torch.matmul, [(2, 6, 3, 4), (2, 6, 4, 5)], 720, "batched_gemm"),
        (torch.matmul, [(3, 4), (4,)], 12, "gemm"),
        (torch.dot, [(9,), (9,)], 9, "gemm"),
        (lambda a, b: torch.einsum("bij,bkj->bik", a, b), [(2, 3, 4), (2, 5, 4)], 120, "batched_gemm"),
        (torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 120, "batched_gemm"),
        (torch.addmv, [(3,), (3, 4), (4,)], 12, "gemm"),
    ],
)
def test_products_of_tensors(function: object, shapes: list[tuple[int, ...]], macs: int, kind: str) -> None:
    workload = trace(Call(function), *(torch.randn(shape) for shape in shapes))
    assert workload.macs == macs
    assert products(workload) == [kind]
    assert not workload.uncounted


def unfused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v


@pytest.mark.parametrize("tokens", [1, 16, 33])
@pytest.mark.parametrize("causal", [False, True])
def test_fused_attention_counts_as_much_as_its_two_products(tokens: int, causal: bool) -> None:
    qkv = [torch.randn(2, 3, tokens, 8) for _ in range(3)]
    fused = trace(Call(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal)), *qkv)
    assert fused.macs == trace(Call(unfused), *qkv).macs == 2 * 2 * 3 * tokens * tokens * 8


def test_fused_attention_is_seen_as_one_operation() -> None:
    workload = trace(Call(F.scaled_dot_product_attention), *(torch.randn(2, 3, 16, 8) for _ in range(3)))
    assert products(workload) == ["attention"]


def test_cross_attention_has_as_many_keys_as_values() -> None:
    workload = trace(
        Call(F.scaled_dot_product_attention),
        torch.randn(1, 2, 5, 8),
        torch.randn(1, 2, 11, 8),
        torch.randn(1, 2, 11, 8),
    )
    assert workload.macs == 2 * 2 * 5 * 11 * 8


def test_every_query_head_works_in_full_when_heads_share_keys() -> None:
    keys = torch.randn(1, 2, 16, 8)
    grouped = Call(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
    assert trace(grouped, torch.randn(1, 6, 16, 8), keys, keys).macs == 2 * 6 * 16 * 16 * 8


def test_multihead_attention_is_not_hidden_by_the_fast_path() -> None:
    example = torch.randn(2, 5, 16)
    workload = trace(nn.MultiheadAttention(16, 2, batch_first=True), example, example, example)
    assert workload.macs == 2 * (4 * 5 * 16 * 16 + 2 * 5 * 5 * 16)
    assert not workload.uncounted


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layer_multiplies_at_every_step(kind: Callable[[int, int], nn.Module], gates: int) -> None:
    steps, batch, inputs, hidden = 5, 3, 8, 16
    workload = trace(kind(inputs, hidden), torch.randn(steps, batch, inputs))
    assert workload.macs == steps * batch * gates * hidden * (inputs + hidden)
    assert (
        workload.params
        == sum(layer.params for layer in workload.layers)
        == gates * hidden * (inputs + hidden + 2)
    )
    recurrent = [
        layer for layer in workload.layers if layer.shape == Gemm(m=batch, k=hidden, n=gates * hidden)
    ]
    assert len(recurrent) == steps


def test_projected_lstm() -> None:
    workload = trace(nn.LSTM(8, 16, proj_size=4), torch.randn(5, 3, 8))
    assert workload.macs == 5 * 3 * (4 * 16 * (8 + 4) + 16 * 4)


def test_two_layers_two_directions() -> None:
    workload = trace(nn.LSTM(8, 16, 2, bidirectional=True), torch.randn(5, 3, 8))
    assert workload.macs == 5 * 3 * 2 * 4 * 16 * ((8 + 16) + (32 + 16))


def test_batch_scales_work_and_activations_but_not_weights() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    one, seven = (trace(module, torch.randn(n, 3, 8, 8)) for n in (1, 7))
    assert seven.macs == 7 * one.macs
    assert seven.activation_bytes == 7 * one.activation_bytes
    assert seven.weight_bytes == one.weight_bytes


def test_layers_carry_the_path_of_their_module() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    names = [(layer.name, layer.kind) for layer in trace(module, torch.randn(1, 4)).layers]
    assert names == [("0", "gemm"), ("1.0", "elementwise"), ("1.1", "gemm")]


def test_elementwise_work_has_operations_and_bytes_but_no_macs() -> None:
    (layer,) = trace(nn.GELU(), torch.randn(3, 4)).layers
    assert (layer.kind, layer.macs, layer.ops, layer.input_bytes, layer.output_bytes) == (
        "elementwise",
        0,
        12,
        48,
        48,
    )


def test_views_cost_nothing_and_copies_cost_bytes() -> None:
    assert trace(Call(lambda x: x.reshape(2, 6).t()), torch.randn(3, 4)).layers == ()
    (copied,) = trace(Call(lambda x: x.t().contiguous()), torch.randn(3, 4)).layers
    assert (copied.kind, copied.ops, copied.activation_bytes) == ("memory", 0, 96)


def test_views_made_in_place_cost_nothing() -> None:
    assert trace(Call(lambda x: x.unsqueeze_(0).squeeze_(0)), torch.randn(3, 4)).layers == ()


def test_overwritten_tensor_is_not_read() -> None:
    (layer,) = trace(Call(lambda x, y: x.copy_(y)), torch.randn(3, 4), torch.randn(3, 4)).layers
    assert (layer.input_elements, layer.output_elements) == (12, 12)


def test_tensor_that_a_module_holds_outside_its_buffers_is_an_input() -> None:
    held = torch.randn(4, 5)
    workload = trace(Call(lambda x: x @ held), torch.randn(3, 4))
    assert (workload.execution, workload.macs) == ("fake", 60)
    assert workload.layers[0].input_elements == 32


def test_expanded_tensor_is_read_once() -> None:
    (layer,) = trace(Call(lambda x: x.expand(5, 4) + 1), torch.randn(1, 4)).layers
    assert (layer.input_elements, layer.output_elements) == (4, 20)


def test_embedding_reads_only_the_rows_it_returns() -> None:
    (layer,) = trace(nn.Embedding(1000, 8), torch.tensor([3, 4])).layers
    assert (layer.weight_elements, layer.params) == (16, 8000)


def test_shared_parameter_is_stored_once_and_read_twice() -> None:
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    module[1].weight = module[0].weight
    workload = trace(module, torch.randn(1, 4))
    assert workload.params == 16
    assert [layer.params for layer in workload.layers] == [16, 0]
    assert [layer.weight_elements for layer in workload.layers] == [16, 16]


def test_unread_parameters_are_named() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    workload = trace(Half(), torch.randn(1, 2))
    assert workload.unread_params == ("spare.bias", "spare.weight")
    assert workload.params == 12
    assert workload.weight_bytes == 24


@pytest.mark.parametrize("size", [1, 7, 13])
def test_odd_sizes(size: int) -> None:
    workload = trace(
        nn.Sequential(nn.Conv2d(1, 3, 1), nn.AdaptiveAvgPool2d(1)), torch.randn(1, 1, size, size)
    )
    assert workload.macs == 3 * size * size


def test_empty_batch_is_no_work() -> None:
    assert trace(nn.Linear(4, 3), torch.randn(0, 4)).macs == 0


def test_values_decide_the_course_of_a_module() -> None:
    chosen = Call(lambda x, weight: x[x[:, 0] > 0] @ weight)
    workload = trace(chosen, torch.tensor([[1.0, 1.0], [-1.0, 1.0], [2.0, 1.0]]), torch.randn(2, 5))
    assert workload.execution == "real"
    assert workload.fallback
    assert workload.macs == 2 * 2 * 5


def test_shapes_suffice_for_a_plain_module() -> None:
    workload = trace(nn.Linear(5, 7), torch.randn(3, 5))
    assert (workload.execution, workload.fallback) == ("fake", None)


def test_parameters_without_data_can_be_traced() -> None:
    assert trace(nn.Linear(5, 7, device="meta"), torch.randn(3, 5)).macs == 105


def test_inference_mode_hides_nothing() -> None:
    with torch.inference_mode():
        module, example = nn.Sequential(nn.Linear(5, 7), Call(lambda x: x @ x.t())), torch.randn(3, 5)
        assert trace(module, example).macs == 105 + 3 * 7 * 3
    inner = Call(torch.inference_mode()(lambda x, y: torch.matmul(x, y)))
    assert trace(inner, torch.randn(2, 3, 4), torch.randn(2, 4, 5)).macs == 120


def test_inputs_in_containers() -> None:
    pair = Call(lambda pair: pair["a"] @ pair["b"][0])
    assert trace(pair, {"a": torch.randn(2, 3), "b": [torch.randn(3, 4)]}).macs == 24


def test_wrong_input_says_what_failed() -> None:
    with pytest.raises(TraceError, match=r"Linear cannot run on the example inputs: RuntimeError: .*shapes"):
        trace(nn.Linear(5, 7), torch.randn(3, 4))


def test_lazy_module_is_refused() -> None:
    with pytest.raises(TraceError, match="run it once"):
        trace(nn.LazyLinear(3), torch.randn(1, 2))


def test_only_modules_are_traced() -> None:
    with pytest.raises(TraceError, match="not function"):
        trace(lambda x: x, torch.randn(1))  # type: ignore[arg-type]


def test_unknown_arithmetic_is_named() -> None:
    library = torch.library.Library("hw_models_test", "DEF")
    library.define("secret(Tensor x) -> Tensor")
    library.impl("secret", lambda x: x @ x, "CompositeExplicitAutograd")
    module = nn.Sequential(nn.Linear(3, 3), Call(torch.ops.hw_models_test.secret))
    with pytest.warns(UncountedWarning, match=r"hw_models_test\.secret in 1"):
        workload = trace(module, torch.randn(3, 3))
    assert [str(item) for item in workload.uncounted] == ["hw_models_test.secret in 1"]
    assert workload.macs == 27
    assert "NOT COUNTED: hw_models_test.secret" in str(workload)
    assert workload.layers[-1].activation_bytes == 72


def test_unlisted_operation_of_torch_is_named() -> None:
    with pytest.warns(UncountedWarning, match="_trilinear"):
        trace(nn.Bilinear(3, 4, 5), torch.randn(2, 3), torch.randn(2, 4))


def test_product_with_a_sparse_operand_is_named() -> None:
    with pytest.warns(UncountedWarning, match=r"aten\.\w*mm"):
        workload = trace(Call(torch.mm), torch.eye(4).to_sparse_csr(), torch.randn(4, 3))
    assert workload.macs == 0


def test_common_networks_have_nothing_uncounted() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(), nn.MaxPool2d(2), nn.GroupNorm(2, 4),
        nn.PReLU(), nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
        nn.LayerNorm(36), nn.Dropout(0.5), nn.Linear(36, 4), nn.GLU(), nn.Softmax(-1),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", UncountedWarning)
        trace(module, torch.randn(2, 3, 12, 12))


# --- a weight as the first operand


@pytest.mark.parametrize(
    ("function", "weight", "inputs", "shape"),
    [
        (lambda m, x: m.p @ x, (10, 16), (16, 50), Gemm(m=50, k=16, n=10)),
        (lambda m, x: torch.addmm(m.q, m.p, x), (10, 16), (16, 50), Gemm(m=50, k=16, n=10)),
        (lambda m, x: torch.bmm(m.p, x), (3, 10, 16), (3, 16, 50), Gemm(batch=3, m=50, k=16, n=10)),
        (lambda m, x: m.p @ x, (10, 16), (16,), Gemm(m=1, k=16, n=10)),
        (lambda m, x: x @ m.p, (16,), (50, 16), Gemm(m=50, k=16, n=1)),
        (lambda m, x: F.linear(m.p, x), (10, 16), (50, 16), Gemm(m=50, k=16, n=10)),
    ],
)
def test_a_weight_is_the_second_operand_of_its_product(
    function: object, weight: tuple[int, ...], inputs: tuple[int, ...], shape: Gemm
) -> None:
    workload = trace(With(function, weight, (10, 50)), torch.empty(inputs))
    (layer,) = (layer for layer in workload.layers if layer.shape)
    assert layer.shape == shape
    assert layer.weight == "p"


def test_images_are_rows_also_where_the_weight_comes_first() -> None:
    (layer,) = trace(With(lambda m, x: m.p @ x, (10, 16)), torch.empty(16, 50)).layers
    (product,) = products_of(layer, images=4)
    assert (product.m, product.k, product.n) == (200, 16, 10)


def test_the_larger_of_two_stored_operands_is_the_weight() -> None:
    product = With(lambda m, x: m.p @ m.q + x, (10, 16), (16, 3))
    layer = trace(product, torch.empty(10, 3)).layers[0]
    assert (layer.shape, layer.weight, layer.matrix) == (Gemm(m=3, k=16, n=10), "p", (10, 16))


# --- weights that the run computes


def standardised(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    p: torch.Tensor = module.p  # type: ignore[assignment]
    return x @ ((p - p.mean(0)) / p.std(0))


def filled(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return x @ torch.empty_like(module.p).copy_(module.p)  # type: ignore[arg-type]


def quantised(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    p: torch.Tensor = module.p  # type: ignore[assignment]
    zeros = torch.zeros(p.shape[0], dtype=torch.int32)
    scale = p.abs().amax(1) / 127
    return x @ torch.fake_quantize_per_channel_affine(p, scale, zeros, 0, -128, 127)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x @ (m.p * 2),
        lambda m, x: x @ (m.p * torch.tensor(2.0)),
        lambda m, x: x @ (m.p + m.buffer),
        lambda m, x: x @ m.p.clone().mul_(2),
        standardised,
        filled,
        quantised,
    ],
)
def test_a_weight_computed_from_a_parameter_is_a_weight(function: object, real: bool) -> None:
    module: nn.Module = With(function, (4, 6))
    workload = trace(Looking(module) if real else module, torch.zeros(3, 4))
    assert workload.execution == ("real" if real else "fake")
    product = workload.layers[-1]
    assert product.weight == ("inner.p" if real else "p")
    assert (product.matrix, product.input_elements, product.weight_elements) == ((6, 4), 12, 24)


def test_weight_normalisation_of_torch_is_named_by_its_direction() -> None:
    module = nn.utils.parametrizations.weight_norm(nn.Linear(4, 6))
    product = trace(module, torch.empty(3, 4)).layers[-1]
    assert product.weight == "parametrizations.weight.original1"


def test_computing_a_weight_moves_weights_alone() -> None:
    computed, _product = trace(With(lambda m, x: x @ (m.p * 2), (4, 6)), torch.empty(3, 4), bits=8).layers
    assert (computed.activation_bytes, computed.weight_bytes, computed.ops) == (0, 48, 24)


def test_parameters_are_stored_once_where_they_are_first_read() -> None:
    workload = trace(With(lambda m, x: x @ (m.p * 2), (4, 6)), torch.empty(3, 4), bits=8)
    assert [layer.params for layer in workload.layers] == [24, 0]
    assert workload.weight_bytes == 24
    assert not workload.unread_params


def test_bits_of_weights_are_those_of_computed_ones_too() -> None:
    wide = trace(With(lambda m, x: x @ (m.p * 2), (4, 6)), torch.empty(3, 4))
    narrow = wide.at_bits(weight=8)
    for before, after in zip(wide.layers, narrow.layers, strict=True):
        assert after.weight_bytes == before.weight_bytes / 4
        assert after.activation_bytes == before.activation_bytes


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x @ (m.p * x.sum()),
        lambda m, x: x @ (m.p + torch.zeros(4, 6)),  # as large: each image may have its own
        lambda m, x: x @ m.buffer.copy_(m.p * x.sum()),
        lambda m, x: x @ (torch.zeros(4, 4) @ m.p),
    ],
)
def test_what_an_input_went_into_is_no_weight(function: object) -> None:
    product = trace(With(function, (4, 6)), torch.empty(3, 4)).layers[-1]
    assert (product.weight, product.input_elements) == (None, 12 + 24)


def test_learned_queries_of_fused_attention_are_read_for_every_image() -> None:
    attend = With(lambda m, x: F.scaled_dot_product_attention(m.p, x, x), (1, 2, 16, 8))
    (layer,) = trace(attend, torch.empty(1, 2, 16, 8)).layers
    assert (layer.weight, layer.input_elements, layer.params) == (None, 2 * 256, 256)


# --- where operands come from


@pytest.mark.parametrize("real", [False, True])
def test_sources_are_the_operations_whose_results_are_read(real: bool) -> None:
    def course(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        p: torch.Tensor = module.p  # type: ignore[assignment]
        a = x @ p
        b = x.relu()
        c = a.t().view(6, 3).mul_(2)  # through views, and in place
        return a + c.t() + b @ p

    module: nn.Module = With(course, (4, 6))
    layers = trace(Looking(module) if real else module, torch.zeros(3, 4)).layers
    first = 1 if real else 0
    found = [[source - first for source in layer.sources or ()] for layer in layers[first:]]
    assert found == [[], [], [0], [2], [1], [3, 4]]


def test_an_operation_on_nothing_is_nobodys_source() -> None:
    (joined,) = trace(Call(lambda x: torch.cat([x[:0] + 1, x])), torch.zeros(3, 4)).layers
    assert joined.sources == ()


def test_results_that_are_gone_are_not_confused_with_what_takes_their_place() -> None:
    """Addresses that are free again are soon given to other tensors, here to ones that nothing computed."""

    def course(x: torch.Tensor) -> torch.Tensor:
        gone = [x.relu() for _ in range(100)]
        gone.clear()
        return sum((torch.empty(64) for _ in range(100)), x)

    layers = trace(Looking(Call(course)), torch.zeros(64)).layers
    sums = [layer.sources for layer in layers if layer.operation == "aten.add"]
    assert [len(sources or ()) for sources in sums] == [0] + 99 * [1]


def test_real_execution_keeps_no_result_alive() -> None:
    alive: list[int] = []

    def course(x: torch.Tensor) -> torch.Tensor:
        references = []
        for _ in range(5):
            x = x + 1
            references.append(weakref.ref(x.untyped_storage()))
        alive.append(sum(reference() is not None for reference in references))
        return x

    trace(Looking(Call(course)), torch.zeros(64))
    assert alive[-1] == 1


# --- what cannot be traced


@pytest.mark.parametrize("bits", [0, -8, 2.5, True])
def test_bits_are_whole_and_positive(bits: int) -> None:
    with pytest.raises(HardwareModelError, match=f"^bits must be a whole number of at least 1, got {bits}$"):
        trace(nn.Linear(5, 7), torch.randn(3, 5), bits=bits)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_module_is_refused() -> None:
    scripted = torch.jit.trace(nn.Linear(5, 7), torch.randn(3, 5))
    with pytest.raises(TraceError, match=r"^1 is a ScriptModule"):
        trace(nn.Sequential(nn.ReLU(), scripted), torch.randn(3, 5))
