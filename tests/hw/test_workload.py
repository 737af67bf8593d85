"""Workloads as objects: JSON, tables, text."""

import json

import pytest
import torch
from torch import nn

from hw_models import HardwareModelError, Workload, trace


@pytest.fixture
def workload() -> Workload:
    attend = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return trace(nn.Sequential(nn.Conv1d(4, 8, 1), attend), torch.randn(2, 4, 8))


def test_json_round_trip(workload: Workload) -> None:
    assert {type(layer.shape).__name__ for layer in workload.layers} >= {"Gemm", "Convolution", "Attention"}
    assert Workload.from_json(workload.to_json()) == workload


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


@pytest.mark.parametrize("widths", [{"bits": 0}, {"bits": 8, "weight": -1}])
def test_bit_widths_are_positive(workload: Workload, widths: dict[str, int]) -> None:
    with pytest.raises(HardwareModelError, match="positive"):
        workload.at_bits(**widths)
