"""The article's arithmetic, against values worked out by hand from its printed points."""

import pytest

from hw_models.reference_points import points
from lib.engine.cards import load_card
from lib.hardware import consistency
from lib.project import REPOSITORY

MACS = {"vgg16": 15_470_264_320, "resnet18": 1_814_073_344, "mobilenet_v2": 300_774_272}


def test_latency_and_efficiency_imply_less_power_than_stated() -> None:
    powers = {
        (row.network, row.framework): row for row in consistency.implied_powers() if row.weights == "dense"
    }
    assert len(powers) == 9
    # 1000 / 139 / 5.1, 1000 / 22.5 / 32.5, 1000 / 13.3 / 55.1
    assert powers["vgg16", "mnn"].power_w == pytest.approx(1.4106, abs=1e-4)
    assert powers["resnet18", "mnn"].power_w == pytest.approx(1.3675, abs=1e-4)
    assert powers["mobilenet_v2", "mnn"].power_w == pytest.approx(1.3646, abs=1e-4)
    # 1000 / 24.3 / 32.4 is the least of all nine, 1000 / 307 / 2.3 the most
    assert min(row.power_w for row in powers.values()) == pytest.approx(1.2701, abs=1e-4)
    assert max(row.power_w for row in powers.values()) == pytest.approx(1.4162, abs=1e-4)
    assert consistency.stated_power_w() == 1.5


def test_a_power_from_a_plotted_latency_is_marked_approximate() -> None:
    (pruned,) = (row for row in consistency.implied_powers() if row.weights == "pruned")
    assert (pruned.network, pruned.framework, pruned.approximate) == ("vgg16", "own", True)
    assert pruned.power_w == pytest.approx(1000 / 19 / 39.3)
    assert not any(row.approximate for row in consistency.implied_powers() if row.weights == "dense")


def test_a_latency_and_an_efficiency_of_two_articles_imply_no_power() -> None:
    assert any((row.device, row.quantity) == ("adreno_640", "latency_ms") for row in points("phones", "seen"))
    assert consistency.implied_powers("adreno_640") == ()


@pytest.mark.parametrize(
    ("network", "lowest", "highest"),
    [
        ("vgg16", 31.45, 31.57),  # 160.4 / 5.1 ... 72.6 / 2.3
        ("resnet18", 3.637, 3.643),  # 118.2 / 32.5, 53.1 / 14.6 ... 70.3 / 19.3
        ("mobilenet_v2", 0.659, 0.661),  # 23.8 / 36.1 ... 36.4 / 55.1
    ],
)
def test_the_phone_points_use_one_operation_count_per_network(
    network: str, lowest: float, highest: float
) -> None:
    counts = [
        row.gop for row in consistency.operation_counts() if (row.network, row.platform) == (network, "phone")
    ]
    assert len(counts) == 3
    assert min(counts) == pytest.approx(lowest, rel=1e-3)
    assert max(counts) == pytest.approx(highest, rel=1e-3)


def test_the_fpga_points_of_mobilenet_disagree_on_its_operations() -> None:
    counts = {
        row.design: row.gop
        for row in consistency.operation_counts()
        if (row.network, row.platform) == ("mobilenet_v2", "fpga")
    }
    assert counts == pytest.approx({"arria": 11.3 / 17.1, "mixed": 22.1 / 37.2})
    assert 2e-9 * MACS["mobilenet_v2"] == pytest.approx(counts["mixed"], rel=0.02)
    assert 2e-9 * MACS["mobilenet_v2"] != pytest.approx(counts["arria"], rel=0.05)


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("c1_vgg16_low", 1.522),  # 72.6 / 47.7
        ("c1_vgg16_high", 3.363),  # 160.4 / 47.7
        ("c1_mobilenet_v2_low", 1.894),  # 21.4 / 11.3
        ("c1_mobilenet_v2_high", 3.221),  # 36.4 / 11.3
        ("c3_vgg16_points", 2.209),  # 160.4 / 72.6
        ("c3_mobilenet_v2_points", 1.701),  # 36.4 / 21.4
        ("c4_points", 4.007),  # 118.2 / 29.5
        ("c5_points", 1.149),  # 135.8 / 118.2
        ("c6_points", 1.653),  # 104.28 / 63.09
        ("c8_vgg16_points", 7.706),  # 39.3 / 5.1
        ("c8_resnet18_points", 2.354),  # 76.5 / 32.5
        ("c8_mobilenet_v2_points", 3.258),  # 179.5 / 55.1
    ],
)
def test_stated_ratios_come_from_their_points(claim: str, value: float) -> None:
    (ratio,) = (row for row in consistency.ratios() if row.claim == claim)
    assert ratio.value == pytest.approx(value, abs=5e-4)


def test_the_card_compares_the_same_points() -> None:
    card = load_card(REPOSITORY.card("mobile_vs_fpga"))
    stated = {claim.id: claim.metrics for claim in card.claims if claim.kind == "ratio"}
    assert stated == {ratio.claim: ratio.metrics for ratio in consistency.ratios()}


def test_efficiencies_have_one_name_each() -> None:
    found = consistency.efficiencies("gops_per_w")
    assert found["vgg16_mnn"] == 160.4
    assert found["vgg16_fpga_survey_32bit"] == 15.7
    assert "vgg16_own_pruned" in consistency.efficiencies("frames_per_s_per_w")
    assert consistency.efficiencies("frames_per_s_per_w", "adreno_640")["vgg16_own_pruned"] == 33


def test_fpga_frame_rates_of_vgg16_follow_from_its_operations() -> None:
    # 9.4 / 31.5 and 47.7 / 31.5
    assert consistency.fpga_frame_range("vgg16", 31.5) == pytest.approx((0.2984, 1.5143), abs=1e-4)


def test_normalised_rates_span_the_published_range() -> None:
    rates = {row.design: row for row in consistency.normalised_rates() if row.task == "classification"}
    # 11.4 x 8 / (2 x 1452 x 0.15) and 29.5 x 2.5 / (2 x 220 x 0.1)
    assert rates["classify_08"].share == pytest.approx(0.2094, abs=1e-4)
    assert rates["classify_16"].share == pytest.approx(1.6761, abs=1e-4)
    assert min(row.share for row in rates.values()) == rates["classify_08"].share
    assert max(row.share for row in rates.values()) == rates["classify_16"].share


def test_one_design_reaches_less_of_the_larger_chip() -> None:
    rates = {row.design: row for row in consistency.normalised_rates()}
    # 27.7 x 1.75 / (2 x 198 x 0.125) and 38.9 x 4 / (2 x 855 x 0.125)
    assert rates["classify_10"].gops == pytest.approx(48.475)
    assert rates["classify_10"].share == pytest.approx(0.9793, abs=1e-4)
    assert rates["classify_11"].gops == pytest.approx(155.6)
    assert rates["classify_11"].share == pytest.approx(0.7280, abs=1e-4)


def test_one_operation_per_slice_doubles_every_share() -> None:
    one, two = consistency.normalised_rates(1), consistency.normalised_rates(2)
    assert [row.share for row in one] == pytest.approx([2 * row.share for row in two])


def test_shares_of_the_peak_of_dense_networks() -> None:
    shares = {row.network: row for row in consistency.roofline_shares(MACS) if row.framework == "own"}
    # 2 x 15.470 GMAC / 103 ms, 2 x 1.814 GMAC / 19.8 ms, 2 x 0.3008 GMAC / 8.7 ms
    assert shares["vgg16"].gops == pytest.approx(300.4, abs=0.1)
    assert shares["resnet18"].gops == pytest.approx(183.2, abs=0.1)
    assert shares["mobilenet_v2"].gops == pytest.approx(69.1, abs=0.1)
    assert shares["vgg16"].share == pytest.approx(0.122, abs=1e-3)
    assert shares["vgg16"].highest_share == pytest.approx(0.250, abs=1e-3)


def test_networks_without_a_count_are_left_out_of_the_shares() -> None:
    assert {row.network for row in consistency.roofline_shares({"resnet18": 1})} == {"resnet18"}


def test_gains_of_pruning_in_one_compiler() -> None:
    gains = {row.network: row.gain for row in consistency.pruned_gains(1.5)}
    # 39.3 / (1000 / 103 / 1.5), 76.5 / (1000 / 19.8 / 1.5), 179.5 / (1000 / 8.7 / 1.5)
    assert gains == pytest.approx({"vgg16": 6.072, "resnet18": 2.272, "mobilenet_v2": 2.342}, abs=1e-3)


def test_less_power_makes_the_gain_smaller() -> None:
    stated, implied = consistency.pruned_gains(1.5), consistency.pruned_gains(1.36)
    assert all(low.gain < high.gain for low, high in zip(implied, stated, strict=True))


def test_recalled_points_enter_nothing() -> None:
    recalled = {row.network for row in points("phones", "recalled") if row.device == "adreno_640"}
    assert recalled
    assert consistency.roofline_shares(dict.fromkeys(recalled, 1), "adreno_640") == ()
