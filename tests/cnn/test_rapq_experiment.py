"""The table: methods, resumption, and settings that are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib.cnn import rapq_experiment as experiment
from lib.cnn.rapq import Recipe
from lib.errors import ReproError, WrongUse

RECIPE = Recipe(2, 1, batch_size=4)
SETTINGS = {"calibration": 8, "test_images": 20, "train_images": 64, "epochs": 1, "image_size": 0, "seed": 0}


@pytest.fixture(scope="module")
def bench() -> experiment.Bench:
    return experiment.prepare("resnet_small", "fashion_mnist", "", torch.device("cpu"), **SETTINGS)


def test_the_bench_is_as_asked_for(bench: experiment.Bench) -> None:
    assert bench.calibration.shape == (8, 1, 28, 28)
    assert len(bench.test) == 20
    assert experiment.identity_gap(bench) < 1e-4


@pytest.mark.parametrize("method", list(experiment.METHODS))
def test_every_method_makes_a_row(bench: experiment.Bench, method: str) -> None:
    row = experiment.fill_row(bench, method, "w2a4", RECIPE, 0)
    assert 0 <= row.accuracy <= 100
    assert row.excess_levels <= 0
    shares = experiment.power_of_two_shares(experiment.quantize(bench, method, "w2a4", RECIPE, 0))
    exact = method not in ("rounded", "float")
    assert (shares.weights == shares.activations == 100) is exact


def test_a_killed_table_goes_on_where_it_was(bench: experiment.Bench, tmp_path: Path) -> None:
    kept = tmp_path / "rows.json"
    rows = experiment.table(bench, ["rounded", "nearest"], ["w4a4"], RECIPE, 0, kept)
    first = next(rows)
    del rows  # killed after the first row
    stored = json.loads(kept.read_text())
    assert list(stored) == ["rounded w4a4"]
    stored["rounded w4a4"]["accuracy"] = 12.5
    kept.write_text(json.dumps(stored))
    again = list(experiment.table(bench, ["rounded", "nearest"], ["w4a4"], RECIPE, 0, kept))
    assert again[0] == replace(first, accuracy=12.5)  # read, not computed
    assert [row.method for row in again] == ["rounded", "nearest"]
    assert not kept.exists()


def test_extra_methods_fill_the_last_width_alone(bench: experiment.Bench) -> None:
    rows = experiment.table(bench, ["rounded"], ["w8a8", "w4a4"], RECIPE, 0, None, extra=["nearest"])
    found = [(row.method, row.widths) for row in rows]
    assert found == [("rounded", "w8a8"), ("rounded", "w4a4"), ("nearest", "w4a4")]


def test_damaged_rows_are_refused(bench: experiment.Bench, tmp_path: Path) -> None:
    kept = tmp_path / "rows.json"
    kept.write_text('{"rounded w4a4": {"accuracy"')
    with pytest.raises(ReproError, match="damaged"):
        list(experiment.table(bench, ["rounded"], ["w4a4"], RECIPE, 0, kept))


def test_losses_that_are_known_are_not_measured_again(bench: experiment.Bench) -> None:
    rows = [
        experiment.Row(name, "w2a4", score, 1.0, 8, 0) for name, score in (("float", 70.0), ("nearest", 61.5))
    ]
    known = experiment.losses_in(rows, bench)
    assert known == {"resnet_small": 8.5}
    assert experiment.losses_in(rows[:1], bench) == {}
    both = {**known, "mobilenet_small": 20.0}
    assert experiment.nearest_losses(RECIPE, SETTINGS, both) == {"mobilenet": 20.0, "resnet": 8.5}


def test_rows_are_kept_apart_by_what_made_them(bench: experiment.Bench) -> None:
    here = experiment.kept_rows(bench, RECIPE, 0)
    assert here == experiment.kept_rows(bench, RECIPE, 0)
    assert here != experiment.kept_rows(bench, RECIPE, 1)
    assert here != experiment.kept_rows(bench, replace(RECIPE, iterations=3), 0)
    assert here != experiment.kept_rows(replace(bench, calibration=bench.calibration + 1), RECIPE, 0)


def test_a_table_to_read(bench: experiment.Bench) -> None:
    row = experiment.Row("rapq", "w2a4", bench.accuracy - 10, 1.25, 8, 0)
    table = experiment.as_table([row], bench)
    assert table.rows[1] == ("W2A4", "rapq", f"{bench.accuracy - 10:.2f}", "10.00", "8", "1.2")


def test_the_network_that_suits_the_data() -> None:
    assert experiment.backbone_for("auto", "imagenet") == "efficientnet_lite0"
    assert experiment.backbone_for("auto", "cifar10") == "mobilenet_small"
    assert experiment.backbone_for("resnet18", "imagenet") == "resnet18"


@pytest.mark.parametrize(
    ("backbone", "dataset", "change", "message"),
    [
        ("mobilenet_small", "imagenet", {}, "does not go with"),
        ("resnet18", "fashion_mnist", {}, "does not go with"),
        ("resnet_small", "fashion_mnist", {"calibration": 0}, "at least 1"),
        ("resnet_small", "fashion_mnist", {"calibration": 64}, "only 64"),
        ("efficientnet_lite0", "imagenet", {}, "data_root"),
    ],
)
def test_settings_that_do_not_go_together(
    backbone: str, dataset: str, change: dict[str, int], message: str
) -> None:
    with pytest.raises(WrongUse, match=message):
        experiment.prepare(backbone, dataset, "", torch.device("cpu"), **{**SETTINGS, **change})


def test_unknown_methods_are_refused(bench: experiment.Bench) -> None:
    with pytest.raises(WrongUse, match="unknown method"):
        experiment.quantize(bench, "brecq", "w2a4", RECIPE, 0)
