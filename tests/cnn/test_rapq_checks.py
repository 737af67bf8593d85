"""Checks that follow from the definitions."""

import pytest
import torch

from lib.cnn import rapq_checks as checks

GENERATOR = torch.Generator().manual_seed(3)
WEIGHTS = checks.channels(GENERATOR)


@pytest.mark.parametrize(
    ("name", "params", "macs", "layers"),
    [
        ("resnet18", 11_689_512, 1_814_073_344, 21),
        ("mobilenet_v2", 3_504_872, 300_774_272, 53),
        ("regnetx_600m", 6_196_040, 600_890_112, 54),
    ],
)
def test_counts(name: str, params: int, macs: int, layers: int) -> None:
    assert checks.counts(name) == checks.Counts(params, macs, layers)


def test_the_starts_reproduce_what_they_replace() -> None:
    assert max(checks.start_gaps(WEIGHTS).values()) < 1e-5


def test_hardened_exponents_stay_beside_their_start() -> None:
    assert checks.exponent_departures(WEIGHTS) == 0


def test_levels_of_a_channel() -> None:
    assert checks.levels(WEIGHTS) == {"ours": 4, "released": 5}


def test_one_exponent_more_doubles_step_and_range() -> None:
    assert checks.doubling() == (2.0, 2.0)


def test_nearest_is_not_always_better() -> None:
    assert 0 < checks.nearest_misses(WEIGHTS, 2) < 50


def test_more_bits_want_smaller_steps() -> None:
    for by_bits in checks.source_errors(torch.Generator().manual_seed(0)).values():
        best = [min(errors, key=errors.__getitem__) for errors in by_bits.values()]
        assert best == sorted(best, reverse=True)
        assert min(by_bits[4].values()) < min(by_bits[2].values()) / 4


def test_ranges_of_the_exponent_rule() -> None:
    assert checks.exponent_range(0.1) == (1.1, 1.1)
    assert checks.exponent_range(0.9) == (1.5, 1.9)


@pytest.mark.parametrize(("name", "units"), [("resnet18", 9), ("mobilenet_v2", 19)])
def test_units_with_an_exponent(name: str, units: int) -> None:
    assert checks.exponent_count(name) == units
