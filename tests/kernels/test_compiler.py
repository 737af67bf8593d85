"""Compiled products against dense ones: every structure, odd shapes, both precisions, wrong use."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lib.errors import WrongUse
from lib.kernels.bands import pack_bands
from lib.kernels.codegen import BandKernel
from lib.kernels.compiler import CompiledMatrix, FallbackWarning, compile_matrix
from lib.kernels.errors import KernelError
from lib.kernels.loading import load_strips
from lib.kernels.strip_codegen import StripKernel
from lib.kernels.strips import pack_strips
from lib.kernels.toolchain import NoCompiler, Toolchain, find_toolchain

Floats = NDArray[np.float32]
STRUCTURES = ("blocks", "strips", "rows", "columns", "whole blocks", "single", "none", "all")


def pruned(structure: str, rows: int, columns: int, block: tuple[int, int], keep: float, seed: int) -> Floats:
    """A random matrix with zeros of the given structure."""
    rng = np.random.default_rng(seed)
    high, wide = min(block[0], rows), min(block[1], columns)
    down, across = -(-rows // high), -(-columns // wide)

    def spread(flags: NDArray[np.bool_], *, axis: int) -> NDArray[np.bool_]:
        return flags.repeat(high if axis == 0 else wide, axis=axis)[:rows, :columns]

    mask = {
        "blocks": lambda: (
            spread(rng.random((down, columns)) < keep**0.5, axis=0)
            & spread(rng.random((rows, across)) < keep**0.5, axis=1)
        ),
        "strips": lambda: spread(rng.random((down, columns)) < keep, axis=0),
        "rows": lambda: np.broadcast_to(rng.random((rows, 1)) < keep, (rows, columns)),
        "columns": lambda: np.broadcast_to(rng.random((1, columns)) < keep, (rows, columns)),
        "whole blocks": lambda: spread(spread(rng.random((down, across)) < keep, axis=0), axis=1),
        "single": lambda: rng.random((rows, columns)) < keep,
        "none": lambda: np.ones((rows, columns), bool),
        "all": lambda: np.zeros((rows, columns), bool),
    }[structure]()
    return (rng.standard_normal((rows, columns)) * mask).astype(np.float32)


def assert_product(matrix: CompiledMatrix, x: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    """The product equals that of the matrix's own weight in double precision, within what rounding can do."""
    weight = torch.from_numpy(matrix.weight).double()
    expected = weight @ x.double()
    reach = weight.abs().sum(1).max() * (x.abs().max() if x.numel() else 0)
    bound = 1e-6 * (1 + float(reach))
    if matrix.precision == "int8":  # inputs may have been rounded to 15 bits
        bound += 0.51 * float(reach) / 32767
    if bias is not None:
        expected = (expected + (bias if x.ndim == 1 else bias[:, None])).relu()
    result = matrix.multiply(x, bias=bias, relu=bias is not None)
    assert result.shape == expected.shape
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=bound)


@settings(max_examples=40, deadline=None)
@given(
    structure=st.sampled_from(STRUCTURES),
    rows=st.integers(1, 150),
    columns=st.integers(1, 150),
    block=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    keep=st.floats(0.02, 0.9),
    right=st.sampled_from([0, 1, 2, 7, 16, 33, 64, 65, 130]),
    precision=st.sampled_from(["fp32", "int8"]),
    threads=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_a_compiled_product_equals_the_dense_one(
    structure: str,
    rows: int,
    columns: int,
    block: tuple[int, int],
    keep: float,
    right: int,
    precision: str,
    threads: int,
    seed: int,
) -> None:
    _need_compiler()
    weight = pruned(structure, rows, columns, block, keep, seed)
    matrix = compile_matrix(weight, block=block, precision=precision, threads=threads)
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(columns, right, generator=rng) if right else torch.randn(columns, generator=rng)
    assert_product(matrix, x)
    assert_product(matrix, x, bias=torch.randn(rows, generator=rng))


def _need_compiler() -> None:
    try:
        find_toolchain()
    except NoCompiler as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("flags", [("-mavx2", "-mfma"), ("-msse2",)])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_narrower_processors_get_the_same_product(flags: tuple[str, ...], precision: str) -> None:
    try:
        narrow = find_toolchain(flags)
    except NoCompiler as error:
        pytest.skip(f"the compiler does not know {flags}: {error}")
    assert narrow.vector_bytes < 64
    weight = pruned("blocks", 37, 91, (4, 16), 0.3, 1)
    matrix = compile_matrix(weight, precision=precision, toolchain=narrow)
    for columns in (1, 5, 40):
        assert_product(matrix, torch.randn(91, columns, generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("layout", ["plain", "paired", "single"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_every_layout_for_one_column_is_right(
    toolchain: Toolchain, layout: str, precision: str, vector_bytes: int
) -> None:
    values = np.rint(20 * pruned("blocks", 41, 70, (4, 16), 0.3, 3)).clip(-127, 127).astype(np.float32)
    pack = pack_strips(values, StripKernel(vector_bytes, precision, layout))
    x, out = torch.arange(70, dtype=torch.float32) / 8, torch.empty(41)
    kernel = load_strips(pack, toolchain)
    assert kernel.function(kernel.matrix, x.data_ptr(), 1, out.data_ptr(), 1, 1, None, 0, 1) == 0
    torch.testing.assert_close(out, torch.from_numpy(values) @ x)


def test_a_product_worked_out_by_hand(toolchain: Toolchain) -> None:
    matrix = compile_matrix(np.array([[0, 2, 0], [0, 0, 0], [1, 0, -3]], np.float32), toolchain=toolchain)
    assert matrix.multiply(torch.tensor([1.0, 2.0, 3.0])).tolist() == [4.0, 0.0, -8.0]
    assert matrix.nonzeros == 3


def test_an_unpruned_matrix_is_the_dense_product(toolchain: Toolchain) -> None:
    weight = pruned("none", 33, 50, (4, 4), 1, 5)
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    result = compile_matrix(weight, toolchain=toolchain).multiply(x)
    torch.testing.assert_close(result, torch.from_numpy(weight) @ x, rtol=1e-4, atol=1e-4)


def test_long_rows_are_cut_and_summed(toolchain: Toolchain) -> None:
    weight = pruned("single", 9, 5000, (1, 1), 0.1, 6)
    matrix = compile_matrix(weight, toolchain=toolchain)
    assert matrix.bands.pack.tiles > 1  # type: ignore[union-attr]
    for columns in (40, 64, 100):
        x = torch.randn(5000, columns, generator=torch.Generator().manual_seed(1))
        assert_product(matrix, x, bias=torch.randn(9, generator=torch.Generator().manual_seed(2)))


def test_rows_of_a_band_share_loads(toolchain: Toolchain) -> None:
    weight = np.zeros((8, 32), np.float32)
    weight[::2, :8] = weight[1::2, 20:24] = 1  # even and odd rows keep different columns
    pack = pack_bands(weight, BandKernel(4, 4, toolchain.vector_bytes))
    assert sorted(pack.rows[:4] % 2) in ([0, 0, 0, 0], [1, 1, 1, 1])
    assert pack.loads_per_weight == 1 / 4


def test_int8_is_within_half_a_step_of_the_weight(toolchain: Toolchain) -> None:
    weight = pruned("blocks", 20, 40, (4, 8), 0.5, 7)
    matrix = compile_matrix(weight, precision="int8", toolchain=toolchain)
    step = np.abs(weight).max(axis=1, keepdims=True) / 127
    assert (np.abs(matrix.weight - weight) <= 0.501 * step).all()
    assert (matrix.weight[weight == 0] == 0).all()


def test_results_do_not_depend_on_threads_or_the_block_given(toolchain: Toolchain) -> None:
    weight = pruned("blocks", 70, 90, (16, 16), 0.2, 8)
    x = torch.randn(90, 65, generator=torch.Generator().manual_seed(0))
    one, two = (compile_matrix(weight, threads=n, block=b) for n, b in ((1, None), (2, (16, 16))))
    assert torch.equal(one.multiply(x), two.multiply(x))


def test_inputs_need_not_be_contiguous(toolchain: Toolchain) -> None:
    matrix = compile_matrix(pruned("single", 12, 30, (1, 1), 0.3, 9), toolchain=toolchain)
    wide = torch.randn(40, 60, generator=torch.Generator().manual_seed(0))
    assert_product(matrix, wide[:30, ::2])
    assert_product(matrix, wide.T[:30])
    assert_product(matrix, wide[:30, 3])


def test_out_is_written_and_may_not_be_the_input(toolchain: Toolchain) -> None:
    matrix = compile_matrix(np.eye(16, dtype=np.float32), toolchain=toolchain)
    x, out = torch.randn(16, 16, generator=torch.Generator().manual_seed(0)), torch.empty(16, 16)
    assert matrix.multiply(x, out) is out
    torch.testing.assert_close(out, x)
    with pytest.raises(KernelError, match="share memory"):
        matrix.multiply(x, x)
    with pytest.raises(KernelError, match="contiguous"):
        matrix.multiply(x, torch.empty(16, 32)[:, ::2])
    with pytest.raises(KernelError, match="out has shape"):
        matrix.multiply(x, torch.empty(16, 15))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(7), "shape"),
        (torch.zeros(8, 2, 2), "shape"),
        (torch.tensor(1.0), "shape"),
        (torch.zeros(8, dtype=torch.float64), "float32"),
        (torch.zeros(8, dtype=torch.int8), "float32"),
        (torch.zeros(8, device="meta"), "on the CPU"),
        (torch.zeros(8, 1).to_sparse(), "dense float32"),
        (np.zeros(8, np.float32), "torch tensor"),
    ],
)
def test_wrong_inputs_are_refused(toolchain: Toolchain, x: torch.Tensor, message: str) -> None:
    matrix = compile_matrix(np.ones((3, 8), np.float32), toolchain=toolchain)
    with pytest.raises(KernelError, match=message):
        matrix.multiply(x)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("columns", [1, 20])
def test_not_a_number_reaches_rows_that_keep_its_column(
    toolchain: Toolchain, precision: str, columns: int
) -> None:
    weight = np.zeros((4, 40), np.float32)
    weight[1, 5] = weight[2, 30] = 1
    x = torch.ones(40, columns)
    x[5] = torch.nan
    result = compile_matrix(weight, precision=precision, toolchain=toolchain).multiply(x)
    assert result[1].isnan().all()
    assert (result[0] == 0).all()


def test_tiny_inputs_do_not_overflow_their_scale(toolchain: Toolchain) -> None:
    matrix = compile_matrix(np.ones((4, 40), np.float32), precision="int8", toolchain=toolchain)
    assert matrix.multiply(torch.full((40,), 1e-42)).isfinite().all()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.full((2, 2), np.nan, np.float32), "NaN"),
        (np.full((2, 2), np.inf, np.float32), "NaN"),
        (np.ones((2, 2)), "float32"),
        (torch.ones(2, 2, dtype=torch.bfloat16), "float32"),
        (np.ones(4, np.float32), "filled matrix"),
        (np.ones((0, 4), np.float32), "filled matrix"),
        (torch.eye(3).to_sparse(), "dense"),
    ],
)
def test_wrong_weights_are_refused(weight: Floats, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        compile_matrix(weight)


def test_wrong_options_are_refused() -> None:
    weight = np.ones((4, 4), np.float32)
    with pytest.raises(WrongUse, match="precision"):
        compile_matrix(weight, precision="fp16")
    with pytest.raises(WrongUse, match="threads"):
        compile_matrix(weight, threads=0)
    with pytest.raises(WrongUse, match="block"):
        compile_matrix(weight, block=(0, 4))


def test_later_changes_of_the_weight_change_nothing(toolchain: Toolchain) -> None:
    weight = np.eye(5, dtype=np.float32)
    matrix = compile_matrix(weight, toolchain=toolchain)
    weight[:] = 7
    assert matrix.multiply(torch.ones(5)).tolist() == [1.0] * 5


def test_damaged_packs_are_refused(toolchain: Toolchain) -> None:
    weight = pruned("blocks", 20, 40, (4, 8), 0.4, 1)
    bands = pack_bands(weight, BandKernel(4, 4, toolchain.vector_bytes))
    strips = pack_strips(weight, StripKernel(toolchain.vector_bytes, layout="paired"))
    damages: list[tuple[object, dict[str, object]]] = [
        (bands, {"columns": bands.columns + 40}),
        (bands, {"columns": bands.columns[:-1]}),
        (bands, {"weights": bands.weights[:-1]}),
        (bands, {"rows": bands.rows + 20}),
        (bands, {"counts": bands.counts + 1}),
        (bands, {"scales": bands.scales[:-1]}),
        (strips, {"chunks": strips.chunks + 3}),
        (strips, {"places": strips.places + 32}),
        (strips, {"weights": strips.weights[:-1]}),
        (strips, {"rows": strips.rows + 20}),
        (strips, {"counts": strips.counts + 1}),
    ]
    for pack, damage in damages:
        with pytest.raises(KernelError, match="damaged"):
            dataclasses.replace(pack, **damage)  # type: ignore[type-var]


def test_without_a_compiler_scipy_multiplies_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    weight = pruned("blocks", 30, 50, (4, 8), 0.3, 2)
    for precision in ("fp32", "int8"):
        with pytest.warns(FallbackWarning, match="install gcc"):
            matrix = compile_matrix(weight, precision=precision)
        assert matrix.is_fallback
        assert "fallback" in matrix.describe()
        assert matrix.index_bytes > 0
        rng = torch.Generator().manual_seed(0)
        for x in (torch.randn(50, generator=rng), torch.randn(50, 9, generator=rng)):
            assert_product(matrix, x)
            assert_product(matrix, x, bias=torch.randn(30, generator=rng))


def test_describe_tells_how_it_multiplies(toolchain: Toolchain) -> None:
    matrix = compile_matrix(pruned("blocks", 64, 64, (4, 16), 0.3, 0), toolchain=toolchain)
    assert not matrix.is_fallback
    assert "64 x 64" in matrix.describe()
    assert "bands of" in matrix.describe()
    assert matrix.index_bytes > 0
