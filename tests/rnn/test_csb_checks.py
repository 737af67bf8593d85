"""The arithmetic of CSB-RNN, against values worked out by hand from its printed figures."""

import pytest

from hw_models.csb_validation import networks
from hw_models.reference_points import points
from lib.rnn import csb_checks as checks


def test_the_table_has_a_row_of_its_own_design_for_each_model() -> None:
    rows = checks.table3()
    assert len(rows) == 8
    assert {row.model for row in rows if row.design == "csb_rnn"} == {"MT1", "SR1", "SR2"}
    assert {(row.pes, row.clock_mhz, row.power_w) for row in rows if row.design == "csb_rnn"} == {
        (512, 200, 8.9)
    }


def test_frames_a_joule_by_hand() -> None:
    found = checks.efficiencies()
    assert found["sr1_csb_rnn"] == pytest.approx(1000 / (6.58 * 8.9))
    assert found["sr1_ese"] == pytest.approx(0.294924, abs=1e-6)
    for row in checks.table3():
        assert found[f"{row.model.lower()}_{row.design}"] == pytest.approx(
            row.printed_kframes_per_s_per_w, rel=0.018
        )


def test_gains_are_over_the_least_efficient_design_of_a_model() -> None:
    gains = checks.efficiency_gains()
    assert gains["sr1_ese"] == gains["mt1_bbs"] == gains["sr2_e_rnn"] == 1
    assert gains["sr1_csb_rnn"] == pytest.approx(82.70 * 41 / (6.58 * 8.9))
    assert gains["sr1_csb_rnn"] == pytest.approx(57.90, abs=0.005)  # printed: 58.89, from 17.08 / 0.29


def test_latency_gains_and_reductions_by_hand() -> None:
    gains, reductions = checks.latency_gains(), checks.latency_reductions()
    assert gains["sr1_e_rnn"] == pytest.approx(7.40 / 6.58)
    assert min(reductions.values()) == pytest.approx(100 * (1 - 6.58 / 7.40))
    assert max(gains.values()) == gains["sr1_ese"] == pytest.approx(12.568, abs=1e-3)


def test_pe_shares_by_hand() -> None:
    shares = checks.pe_shares()
    assert shares["sr1_c_lstm"] == pytest.approx(100 * 512 / 2680)
    assert max(shares.values()) == shares["sr1_ese"] == pytest.approx(100 * 512 / 1504)


def test_multiplications_alone_by_hand() -> None:
    times = checks.compute_times_us()
    assert times["MT1"] == pytest.approx((393_216 + 524_288) / 12.5 / 512 / 200)
    assert times["SR2"] == pytest.approx(4.6665)
    assert checks.implied_utilisations()["SR1"] == pytest.approx(100 * 5.984615 / 6.58, rel=1e-6)


def test_dense_equivalents_by_hand() -> None:
    assert checks.dense_equivalents_tops()["SR2"] == pytest.approx(2 * 9_556_992 / 5.18e-6 / 1e12)


def test_rate_gains_by_hand() -> None:
    gains = checks.rate_gains()
    assert len(gains) == 8
    assert min(gains.values()) == gains["sr1_bank_balanced"] == pytest.approx(1.3)
    assert max(gains.values()) == gains["mt2_row_column"] == 4


def test_table2_names_better_results_at_higher_rates() -> None:
    # for every model CSB has the highest rate; only MT1's, SR2's and SR4's results are better throughout
    rows = [point.model_dump() for point in points("csb_pruning")]
    assert len(rows) == 13
    for model in ("MT1", "MT2", "SR1", "SR2", "SR4"):
        of_model = [row for row in rows if row["model"] == model]
        best = max(of_model, key=lambda row: float(row["rate"]))
        assert best["scheme"] == "csb"
        sign = 1 if best["quantity"] == "accuracy_percent" else -1
        assert all(sign * float(best["result"]) >= sign * float(row["result"]) for row in of_model)


def test_best_rates_span_those_of_the_abstract() -> None:
    best = checks.best_rates()
    assert len(best) == 10
    assert (min(best.values()), max(best.values())) == (3.5, 25)


def test_index_overheads_have_forty_bars_by_one_name() -> None:
    formula, printed = checks.index_overheads(), checks.printed_index_overheads()
    assert len(formula) == 40
    assert formula.keys() == printed.keys()
    assert formula["mt1_32"] == pytest.approx(100 * 2 * 12**0.5 / 32)
    assert sum(abs(formula[name] - printed[name]) <= 0.1 for name in formula) == 22


def test_edges_explain_the_models_with_one_short_layer() -> None:
    whole, edges = checks.index_overheads(), checks.index_overheads_with_edges()
    # SR4: 768 x 39 and 768 x 256; 39 columns take 3 blocks of 16
    short, long = 39 * (1 / 16 + 3 / 39), 256 * (1 / 16 + 1 / 16)
    assert edges["sr4_16"] == pytest.approx(100 * 5 * (short + long) / 295)
    assert edges["mt1_32"] == pytest.approx(whole["mt1_32"])  # all sides are whole blocks
    assert all(edges[name] >= whole[name] - 1e-9 for name in whole)
    unexplained = set(whole) - checks.explained_overheads()
    assert unexplained == {
        "mt2_64", *(f"{model}_{block}" for model in ("sr3", "spp") for block in (16, 32, 64, 128))
    }  # fmt: skip


def test_csr_overheads_by_hand() -> None:
    found = {each.model: each for each in checks.csr_overheads()}
    kept = round(226_560 / 25.7)
    assert found["SR4"].one_matrix == pytest.approx(100 * (kept + 768 + 1) / kept)
    assert found["SR4"].several == pytest.approx(100 * (kept + 2 * 768 + 1) / kept)
    assert {model for model, each in found.items() if not each.explained} == {"SR1", "SR3"}


def test_bits_of_an_overhead_by_hand() -> None:
    assert checks.bit_overhead(21.7) == pytest.approx(6.78125)
    assert checks.bit_overhead(0) == 0


def test_sharing_overheads_by_hand() -> None:
    both = [12.49 / 11.47, 16.07 / 14.03, 23.75 / 19.66, 13.15 / 11.95, 17.35 / 14.95, 26.35 / 21.55]
    assert checks.sharing_overheads()["both"] == pytest.approx(100 * (sum(both) / 6 - 1))
    assert checks.sharing_overheads()["vertical"] == pytest.approx(11.57, abs=0.01)


def test_ese_takes_a_batch_of_steps() -> None:
    step = checks.ese_step()
    assert step.layer_weights == networks()["SR1"][0].weights == 4 * 1024 * (153 + 512) + 1024 * 512
    assert step.steps == pytest.approx(2.52e12 * 82.7e-6 / 6_496_256)
    assert step.energy_uj == pytest.approx(105.69, abs=0.01)
    assert step.energy_gain == pytest.approx(step.energy_uj / (6.58 * 8.9))
    assert step.latency_gain == pytest.approx(82.7 / step.steps / 6.58)


def test_realtime_is_half_a_millisecond_a_frame() -> None:
    assert checks.realtime_bound_us() == 500


def test_every_range_has_the_ends_that_the_notebook_records() -> None:
    ranges = checks.ranges()
    assert set(ranges) == {
        "best_rate", "rate_gain", "csr_overhead", "latency", "latency_gain", "latency_reduction", "pe_share"
    }  # fmt: skip
    assert max(ranges["latency"][0]) == 6.58
    assert ranges["latency"][1] == "us"
