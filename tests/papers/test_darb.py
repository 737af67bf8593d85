"""The card of DARB: figures that follow from its equations are judged by them, the rest stays open."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from lib.engine.cards import Card, load_card
from lib.engine.claims import Claim, ValueClaim
from lib.engine.verdicts import Observations, State, judge
from lib.project import REPOSITORY
from lib.rnn import darb_checks as checks


@pytest.fixture(scope="module")
def card() -> Card:
    return load_card(REPOSITORY.card("darb"))


def claim_of(card: Card, name: str) -> Claim:
    return next(claim for claim in card.claims if claim.id == name)


def state(card: Card, name: str, value: float) -> State:
    claim = claim_of(card, name)
    assert isinstance(claim, ValueClaim)
    assert claim.paper is not None
    units = {claim.metric: claim.paper.unit}
    return judge(claim, Observations("smoke", "run", {claim.metric: {0: value}}, units), card.slug).state


@pytest.mark.parametrize("k", checks.BLOCKS)
def test_bits_are_reproduced(card: Card, k: int) -> None:
    assert state(card, f"position_bits_{k}", checks.index_bits(k)["bmwm"]) is State.REPRODUCED
    for scheme, bits in checks.stored_bits(k).items():
        assert state(card, f"stored_bits_{scheme}_{k}", bits) is State.REPRODUCED


def test_weights_are_reproduced(card: Card) -> None:
    for name, count in checks.network_weights().items():
        assert state(card, f"weights_{name}", count) is State.REPRODUCED


@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
def test_energies_are_reproduced_on_another_draw(card: Card, distribution: checks.Distribution) -> None:
    found = checks.energies(distribution, torch.Generator().manual_seed(123))
    for k, kept in found.items():
        for name, value in kept.items():
            assert state(card, f"energy_{distribution}_{name}_{k}", value) is State.REPRODUCED


def test_what_the_abstract_prints_stays_open(card: Card) -> None:
    for name in ("c1", "c2", "c3", "c4", "c7", "c8_train", "c8_validate", "c8_test", "c9", "c10"):
        assert not claim_of(card, name).can_settle
    assert "cycle counts" in (claim_of(card, "c3").unsettled or "")


def test_all_profiles_that_settle_an_ordering_train_its_arms(card: Card) -> None:
    for name in ("small", "paper"):
        parameters = card.profiles[name].parameters
        assert {"darb", "unstructured", "bmwm", "columns", "random", "blocks"} == set(
            parameters["structures"]  # type: ignore[arg-type]
        )
        assert parameters["rates"] == [4.0, 40.0]


def largest_square(k: int) -> float:
    """Mean square of the largest of k normal magnitudes, over k: the energy that block maxima keep."""
    u = np.linspace(0, 12, 100_001)
    return float(np.trapezoid(2 * u * (1 - (1 - 2 * norm.sf(u)) ** k), u)) / k


def energy_beyond(threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the energy of a normal variable in magnitudes beyond `threshold`."""
    return 2 * (threshold * norm.pdf(threshold) + norm.sf(threshold))


def test_figures_of_uneven_rows_are_the_integrals_they_say(card: Card) -> None:
    z = np.linspace(-7, 7, 20_001)
    share, scale = norm.pdf(z) / norm.pdf(z).sum(), np.exp(checks.SPREAD * z)
    power = share * scale**2 / (share * scale**2).sum()

    def threshold(rate: float) -> float:
        return float(brentq(lambda t: (share * 2 * norm.sf(t / scale)).sum() - 1 / rate, 0.1, 9))

    exponent = -np.log2(2 * norm.sf(threshold(checks.REFERENCE) / scale))
    sizes = {
        how: 2.0 ** np.clip(rounding(exponent), 0, np.log2(checks.LARGEST))
        for how, rounding in (("nearest", np.round), ("down", np.floor), ("up", np.ceil))
    }
    rates = {how: 1 / (share / k).sum() for how, k in sizes.items()}
    near = sizes["nearest"]
    kept = sum(float(power[near == k].sum()) * largest_square(int(k)) for k in np.unique(near))
    expected = {f"uneven_rate_{how}": (rate, 0.05) for how, rate in rates.items()} | {
        "uneven_energy_adaptive": (kept, 0.0005),
        "uneven_energy_uniform": (largest_square(16), 0.0005),
        "uneven_energy_unstructured": (
            float((power * energy_beyond(threshold(rates["nearest"]) / scale)).sum()),
            0.0005,
        ),
        "uneven_bits": (float((share / near * np.log2(near)).sum() * rates["nearest"]), 0.005),
    }
    for name, (value, digit) in expected.items():
        claim = claim_of(card, name)
        assert isinstance(claim, ValueClaim)
        assert claim.paper is not None
        assert claim.paper.value == pytest.approx(value, abs=digit)


def test_energies_of_independent_weights_are_the_closed_forms(card: Card) -> None:
    for k in checks.BLOCKS:
        harmonic = sum(1 / i for i in range(1, k + 1))
        squares = sum(1 / i**2 for i in range(1, k + 1))
        expected = {
            "gaussian_bmwm": largest_square(k),
            "gaussian_unstructured": float(energy_beyond(norm.isf(1 / (2 * k)))),
            "laplace_bmwm": (harmonic**2 + squares) / (2 * k),
            "laplace_unstructured": (np.log(k) ** 2 + 2 * np.log(k) + 2) / (2 * k),
        }
        for name, value in expected.items():
            assert state(card, f"energy_{name}_{k}", float(value)) is State.REPRODUCED


def test_figures_of_uneven_rows_are_reproduced_on_another_draw(card: Card) -> None:
    study = checks.uneven_study(torch.Generator().manual_seed(123))
    found = {f"rate_{how}": rate for how, rate in study.rates.items()} | {
        "energy_adaptive": study.energy_adaptive,
        "energy_unstructured": study.energy_unstructured,
        "energy_uniform": study.energy_uniform,
        "bits": study.bits,
    }
    for name, value in found.items():
        assert state(card, f"uneven_{name}", value) is State.REPRODUCED, name
