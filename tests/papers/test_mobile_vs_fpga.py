"""The card of "Mobile or FPGA?": what its claims may rest on, and arithmetic that it states."""

import re

import pytest

from hw_models import load_device
from hw_models.heatvit import LISTED_MHZ, RECALLED_MHZ, pruned
from lib.engine.cards import load_card
from lib.engine.claims import ValueClaim
from lib.hardware import mobile_vs_fpga as study
from lib.hardware.networks import networks
from lib.project import REPOSITORY

CARD = load_card(REPOSITORY.card("mobile_vs_fpga"))
CLAIMS = {claim.id: claim for claim in CARD.claims}


def test_no_model_settles_what_the_article_measured() -> None:
    for claim in CARD.claims:
        if claim.evidence == "modelled":
            assert claim.derived, claim.id
        if claim.evidence == "measured":
            assert claim.unsettled, claim.id


def test_the_choices_of_the_card_are_those_that_are_modelled() -> None:
    assert CARD.parameters["networks"].choices == list(study.NETWORKS)
    assert CARD.parameters["fpgas"].choices == list(study.BOARDS)
    assert CARD.parameters["formats"].choices == list(study.FORMATS)


def test_blocks_are_claimed_at_the_published_speedups() -> None:
    for name, speedup in study.published_blocks("speedup").items():
        claim = CLAIMS[f"c10_model_{name}"]
        assert isinstance(claim, ValueClaim)
        assert claim.paper is not None
        assert claim.paper.value == speedup


def test_heatvit_is_claimed_at_the_published_figures_and_recalled_ones_stay_open() -> None:
    for name, (figure, confidence) in study.heatvit_published().items():
        wanted = f"modelled_heatvit_{name}"
        for claim in CARD.claims:
            if claim.metrics == (wanted,):
                assert isinstance(claim, ValueClaim)
                assert claim.paper is not None
                assert claim.paper.value == pytest.approx(figure, abs=0.005)
                assert claim.source.confidence == confidence
    assert CLAIMS["heatvit_latency_deit_small"].can_settle
    assert not CLAIMS["heatvit_recalled_deit_tiny"].can_settle


def test_the_share_of_the_peak_in_the_finding_is_worked_out() -> None:
    (finding,) = (found for found in CARD.findings if "HeatViT" in found.title)
    macs = pruned(networks("deit_small")["deit_small"]).macs
    assert f"{macs / 1e9:.3f} GMAC" in finding.arithmetic
    for mhz in (LISTED_MHZ, RECALLED_MHZ):
        share = study.packed_peak_share(macs, 9.15, load_device("zcu102"), mhz)
        assert re.search(rf"\b{100 * share:.1f} %", finding.arithmetic)
