"""DARB's equations: bits, energies, block sizes and rates by hand, and the bounds that rounding obeys."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.errors import WrongUse
from lib.rnn import darb_checks as checks


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_bits_by_hand() -> None:
    assert checks.index_bits(16) == {"bmwm": 4, "csr": 10, "relative": 4}
    assert checks.stored_bits(8) == {"bmwm": 19 / 8, "csr": 26 / 8, "relative": 20 / 8}
    assert checks.stored_bits(1)["bmwm"] == 16  # nothing is pruned, nothing is indexed


def test_energy_by_hand() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    mask = torch.tensor([[False, True], [True, False]])
    assert checks.energy(weight, mask) == pytest.approx(16 / 25)
    assert checks.energy(weight, torch.ones_like(mask)) == 1
    assert checks.energy(torch.zeros(2, 2), mask) == 1


@pytest.mark.parametrize(("distribution", "fourth"), [("gaussian", 3.0), ("laplace", 6.0)])
def test_draws_have_the_tails_of_their_name(distribution: checks.Distribution, fourth: float) -> None:
    weight = checks.draw(distribution, generator(), side=512).double()
    assert abs(float(weight.mean())) < 0.01
    assert float(weight.pow(4).mean() / weight.square().mean().square()) == pytest.approx(fourth, rel=0.1)


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(WrongUse, match="cauchy"):
        checks.draw("cauchy", generator())  # type: ignore[arg-type]


def test_block_maxima_never_keep_more_than_the_largest_weights() -> None:
    for kept in checks.energies("gaussian", generator()).values():
        assert 0 < kept["bmwm"] < kept["unstructured"] < 1


def test_rounded_sizes_by_hand() -> None:
    density = torch.tensor([1.0, 0.5, 0.3, 0.09, 0.001, 0.0])
    assert checks.rounded_sizes(density, "nearest").tolist() == [1, 2, 4, 8, 64, 64]
    assert checks.rounded_sizes(density, "down").tolist() == [1, 2, 2, 8, 64, 64]
    assert checks.rounded_sizes(density, "up").tolist() == [1, 2, 4, 16, 64, 64]
    assert checks.rounded_sizes(density, "nearest", smallest=2, largest=4).tolist() == [2, 2, 4, 4, 4, 4]


def test_an_unknown_rounding_is_refused() -> None:
    with pytest.raises(WrongUse, match="sideways"):
        checks.rounded_sizes(torch.ones(1), "sideways")  # type: ignore[arg-type]


def test_rates_by_hand() -> None:
    assert checks.rate_of([16]) == 16
    assert checks.rate_of([4, 8]) == pytest.approx(2 / (1 / 4 + 1 / 8))
    assert checks.rate_of([1] * 5) == 1


@pytest.mark.parametrize("sizes", [[], [0, 4]])
def test_rates_of_nothing_are_refused(sizes: list[int]) -> None:
    with pytest.raises(WrongUse, match="block sizes"):
        checks.rate_of(sizes)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(1 / 60, 1), min_size=1, max_size=20))
def test_rounding_stays_inside_its_bounds(densities: list[float]) -> None:
    density = torch.tensor(densities, dtype=torch.float64)
    wanted = float(1 / density.mean())
    down, near, up = (checks.rate_of(checks.rounded_sizes(density, how)) for how in ("down", "nearest", "up"))
    assert wanted / 2 - 1e-9 <= down <= wanted + 1e-9
    assert wanted / math.sqrt(2) - 1e-9 <= near <= wanted * math.sqrt(2) + 1e-9
    assert wanted - 1e-9 <= up <= 2 * wanted + 1e-9
    assert down <= near <= up


def test_no_random_rows_break_the_bounds() -> None:
    assert checks.rate_bound_violations(generator(), matrices=5) == 0


def test_broken_bounds_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "rounded_sizes", lambda density, how: torch.full((len(density),), 64))
    assert checks.rate_bound_violations(generator(), matrices=2) > 0


def test_uneven_rows_keep_more_energy_with_blocks_of_their_own() -> None:
    study = checks.uneven_study(generator())
    assert study.energy_uniform < study.energy_adaptive < study.energy_unstructured
    assert study.rates["down"] < study.rates["nearest"] < study.rates["up"]
    assert study.tuned_rate == pytest.approx(checks.REFERENCE, rel=0.005)
    assert 0 < study.bits < 4


def test_networks_have_the_weights_of_their_modules() -> None:
    weights = checks.network_weights()
    with torch.device("meta"):
        lstm = nn.LSTM(1500, 1500, 2)
        classifier = [nn.Linear(9216, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 1000)]
    matrices = [parameter.numel() for name, parameter in lstm.named_parameters() if "weight" in name]
    assert weights["ptb_lstm"] == sum(matrices)
    assert weights["alexnet_fc"] == sum(layer.weight.numel() for layer in classifier)
    assert weights["ptb_total"] == 66_022_000


def test_decoders_meet_the_same_number_of_weights() -> None:
    found = checks.decoder_study(16, generator())
    assert found["fixed"].weights == found["csr"].weights == found["relative"].weights
    assert found["fixed"].utilisation == 1
    assert checks.decoder_study(37, generator())["fixed"].utilisation < 1
