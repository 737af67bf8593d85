"""Workloads as objects: JSON, tables, text."""

import json

import pytest
import torch
from torch import nn

from hw_models import HardwareModelError, Sparsity, Workload, trace
from tests.hw.toys import convolution, gemm, other
from tests.hw.toys import workload as made


@pytest.fixture
def workload() -> Workload:
    attend = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return trace(nn.Sequential(nn.Conv1d(4, 8, 1), attend), torch.randn(2, 4, 8))


QUARTER = Sparsity(structure="row_balanced", density=0.25)


class LeftWeight(nn.Module):
    """Multiplies with its parameter from the left: 10 of the weight's rows, many columns of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight @ x


class AddedParameter(nn.Module):
    """Adds a parameter to a product of two activations, as a relative position bias."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(2, 4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias, x, x.transpose(1, 2))


def test_json_round_trip(workload: Workload) -> None:
    assert {type(layer.shape).__name__ for layer in workload.layers} >= {"Gemm", "Convolution", "Attention"}
    assert Workload.from_json(workload.to_json()) == workload


def test_json_round_trip_of_a_sparse_workload() -> None:
    block = Sparsity(structure="block", density=0.5, block=(8, 16))
    sparse = made(gemm(3, 4, 5, weight="a"), gemm(3, 4, 5, weight="b")).with_sparsity({"b": block})
    assert Workload.from_json(sparse.to_json()) == sparse


@pytest.mark.parametrize(
    ("path", "value"),
    [(("layers", 0, "input_elements"), -1), (("layers", 0, "kind"), "magic"), (("colour",), "red")],
)
def test_malformed_json_is_refused(workload: Workload, path: tuple[str | int, ...], value: object) -> None:
    document = json.loads(workload.to_json())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(HardwareModelError, match=r"\.".join(map(str, path))):
        Workload.from_json(json.dumps(document))


def test_table_has_a_row_per_layer_that_sums_to_the_totals(workload: Workload) -> None:
    rows = workload.table()
    assert len(rows) == len(workload.layers)
    assert sum(row["macs"] for row in rows) == workload.macs
    assert sum(row["params"] for row in rows) == workload.params
    assert sum(row["input_bytes"] + row["output_bytes"] for row in rows) == workload.activation_bytes


def test_text_shows_module_paths_and_totals(workload: Workload) -> None:
    text = str(workload)
    assert "1.linear1" in text
    assert f"{workload.params:,} parameters, fake run" in text


def test_repeated_products_share_a_line() -> None:
    text = str(trace(nn.RNN(3, 5), torch.randn(7, 2, 3)))
    assert sum("2 x 5 x 5" in line for line in text.splitlines()) == 1


@pytest.mark.parametrize("widths", [{"bits": 0}, {"bits": 8, "weight": -1}, {"bits": 2.5}, {"bits": True}])
def test_bit_widths_are_whole_and_positive(workload: Workload, widths: dict[str, int]) -> None:
    with pytest.raises(HardwareModelError, match="weight_bits must be a whole number of at least 1"):
        workload.at_bits(**widths)  # type: ignore[arg-type]


def test_bit_widths_of_weights_and_activations_apart(workload: Workload) -> None:
    mixed = workload.at_bits(weight=4, activation=16)
    assert mixed.weight_bytes == workload.weight_bytes / 8
    assert mixed.activation_bytes == workload.activation_bytes / 2


def test_one_width_serves_for_both_unless_one_is_given(workload: Workload) -> None:
    assert workload.at_bits(8) == workload.at_bits(weight=8, activation=8)
    assert workload.at_bits(8, weight=4) == workload.at_bits(weight=4, activation=8)


def test_precision_may_differ_between_layers() -> None:
    first, second = made(gemm(1, 2, 3, name="a"), gemm(1, 2, 3, name="b")).at_bits(
        4, where=lambda layer: layer.name == "b"
    ).layers  # fmt: skip
    assert (first.weight_bits, second.weight_bits) == (8, 4)


def test_weight_as_a_matrix() -> None:
    assert gemm(7, 20, 30).matrix == (30, 20)
    assert gemm(7, 20, 30, weight=None).matrix is None
    assert convolution(6, 9, (8, 8), groups=3).matrix == (9, 2 * 9)
    assert other("elementwise", 5).matrix is None


def test_products_name_the_weight_that_they_multiply_with() -> None:
    traced = trace(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)), torch.empty(1, 1, 4, 4))
    assert [layer.weight for layer in traced.layers if layer.shape] == ["0.weight", "2.weight"]


def test_a_parameter_that_is_only_added_is_no_weight() -> None:
    (layer,) = trace(AddedParameter(), torch.empty(2, 4, 3)).layers
    assert layer.weight is None
    assert layer.matrix is None


def test_sparse_weight_by_hand() -> None:
    """Of 16 x 8 weights a quarter is left: 32 bytes, and 32 indices of 4 bits."""
    (layer,) = made(gemm(10, 16, 8, sparsity=QUARTER)).layers
    assert (layer.dense_macs, layer.macs, layer.ops) == (1280, 320, 640)
    assert layer.index_bytes == 16
    assert layer.weight_bytes == layer.stored_bytes == 32 + 16
    assert layer.activation_bytes == 10 * (16 + 8)


def test_bias_stays_when_weights_are_removed() -> None:
    (layer,) = trace(nn.Linear(16, 8), torch.empty(1, 16), bits=8).with_sparsity(QUARTER).layers
    assert layer.weight_bytes == 8 + 32 + 16


def test_indices_do_not_shrink_with_the_bits_of_the_weights() -> None:
    (layer,) = made(gemm(10, 16, 8, sparsity=QUARTER)).at_bits(4).layers
    assert layer.weight_bytes == 16 + 16


def test_one_sparsity_serves_every_weight() -> None:
    sparse = made(gemm(10, 16, 8), gemm(10, 16, 8, weight=None), other("elementwise", 80)).with_sparsity(
        QUARTER
    )
    assert [layer.sparsity for layer in sparse.layers] == [QUARTER, None, None]
    assert (sparse.macs, sparse.dense_macs) == (320 + 1280, 2 * 1280)


def test_sparsity_by_name_leaves_other_weights_dense() -> None:
    both = made(gemm(10, 16, 8, weight="a"), gemm(10, 16, 8, weight="b")).with_sparsity({"b": QUARTER})
    assert [layer.macs for layer in both.layers] == [1280, 320]


def test_sparsity_for_an_unknown_name_suggests_the_nearest() -> None:
    network = trace(nn.Sequential(nn.Linear(2, 3)), torch.empty(1, 2))
    with pytest.raises(HardwareModelError, match=r"parameter '0\.weigth'; did you mean 0\.weight\?"):
        network.with_sparsity({"0.weigth": QUARTER})


def test_density_of_one_changes_no_count() -> None:
    dense = made(gemm(10, 16, 8), convolution(3, 4, (8, 8)))
    whole = dense.with_sparsity(Sparsity(structure="unstructured", density=1))
    for ours, theirs in zip(whole.table(), dense.table(), strict=True):
        assert {**ours, "sparsity": None} == {**theirs, "sparsity": None}


def test_a_weight_that_is_read_again_is_stored_once() -> None:
    first, second = nn.Linear(16, 8), nn.Linear(16, 8)
    second.weight = first.weight

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x) + self.second(x)

    sparse = trace(Twice(), torch.empty(1, 16), bits=8).with_sparsity(QUARTER)
    assert sparse.weight_bytes == 32 + 16 + 8 + 8
    assert all(layer.stored_bytes >= 0 for layer in sparse.layers)


def test_a_sparse_weight_on_the_left_is_the_same_matrix() -> None:
    sparse = trace(LeftWeight(), torch.empty(16, 1000), bits=8).with_sparsity(QUARTER)
    assert sparse.weight_bytes == 40 + 40 * 4 / 8


def test_a_sparse_weight_that_a_batch_shares_is_the_same_matrix() -> None:
    """Torch's attention multiplies two sequences with one weight, repeated without being copied."""
    module = nn.MultiheadAttention(16, 2, batch_first=True, bias=False)
    x = torch.empty(2, 7, 16)
    sparse = trace(module, x, x, x, bits=8).with_sparsity(QUARTER)
    weights = [layer for layer in sparse.layers if layer.matrix]
    assert sum(layer.weight_bytes for layer in weights) == (3 + 1) * 16 * 16 * (0.25 + 0.25 * 4 / 8)


def test_a_sparse_weight_that_is_read_in_slices_is_stored_once() -> None:
    """Attention to another sequence takes queries, keys and values from thirds of one parameter."""
    module = nn.MultiheadAttention(16, 2, batch_first=True, bias=False)
    x, y = torch.empty(1, 7, 16), torch.empty(1, 5, 16)
    sparse = trace(module, x, y, y, bits=8).with_sparsity(QUARTER)
    assert sparse.weight_bytes == (3 + 1) * 16 * 16 * (0.25 + 0.25 * 4 / 8)


def test_sparse_storage_of_a_recurrent_network_counts_each_weight_once() -> None:
    network = trace(nn.LSTM(16, 8, bias=False), torch.empty(5, 1, 16), bits=8).with_sparsity(QUARTER)
    inner, recurrent = 4 * 8 * 16 / 4, 4 * 8 * 8 / 4
    assert network.weight_bytes == inner * (1 + 4 / 8) + recurrent * (1 + 3 / 8)


def test_every_mistake_in_json_has_a_line_with_its_field(workload: Workload) -> None:
    document = json.loads(workload.to_json())
    document["layers"][0]["kind"] = "magic"
    document["layers"][1]["weight_bits"] = 0
    with pytest.raises(HardwareModelError) as caught:
        Workload.from_json(json.dumps(document))
    first, second = str(caught.value).splitlines()
    assert first.startswith("workload: layers.0.kind: Input should be 'gemm'")
    assert second == "workload: layers.1.weight_bits: Input should be greater than 0"


def test_text_that_is_no_json_is_refused_in_a_line() -> None:
    with pytest.raises(HardwareModelError, match=r"^workload: Invalid JSON: .*$"):
        Workload.from_json("{")


def test_impossible_sparsity_in_json_is_named_with_its_layer() -> None:
    document = json.loads(made(gemm(10, 16, 8, sparsity=QUARTER)).to_json())
    document["layers"][0]["sparsity"]["density"] = 0
    with pytest.raises(HardwareModelError, match=r"^workload: layers\.0\.sparsity\.density: .* than 0$"):
        Workload.from_json(json.dumps(document))


def test_one_sparsity_for_no_weight_is_refused() -> None:
    with pytest.raises(HardwareModelError, match="no product of toy multiplies with a weight"):
        made(gemm(10, 16, 8, weight=None)).with_sparsity(QUARTER)


def test_a_share_is_no_sparsity() -> None:
    with pytest.raises(HardwareModelError, match=r"^weight: need a Sparsity, got 0\.5$"):
        made(gemm(10, 16, 8)).with_sparsity({"weight": 0.5})  # type: ignore[dict-item]


def test_a_number_is_no_sparsity() -> None:
    with pytest.raises(HardwareModelError, match=r"need a Sparsity, or one .* got 0\.5"):
        made(gemm(10, 16, 8)).with_sparsity(0.5)  # type: ignore[arg-type]


def test_computed_weights_take_the_sparsity_of_their_parameter() -> None:
    module = nn.utils.parametrizations.weight_norm(nn.Linear(16, 8))
    sparse = trace(module, torch.empty(3, 16)).with_sparsity({"parametrizations.weight.original1": QUARTER})
    assert sparse.macs == 3 * 16 * 8 / 4
