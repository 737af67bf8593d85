"""RTMobile's arithmetic against values worked out by hand, and what its pattern leaves the compiler."""

import pytest
import torch

from lib.engine.cards import load_card
from lib.engine.claims import ValueClaim
from lib.project import REPOSITORY
from lib.rnn import rtmobile_checks as checks
from lib.rnn.rtmobile import BlockStructured


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_weights_by_hand() -> None:
    by_hand = 3 * 1024 * (39 + 1024) + 3 * 1024 * 2048
    counts = checks.network_counts()
    assert counts["gru_weights"] == counts["gru_macs_per_step"] == by_hand == 9_556_992


def test_the_printed_operations_are_thirty_steps() -> None:
    assert checks.network_counts()["gop_in_steps"] == pytest.approx(0.58e9 / (2 * 9_556_992))
    assert round(checks.network_counts()["gop_in_steps"], 1) == 30.3


def test_recalled_table_has_ten_rows_on_both_parts() -> None:
    for part in ("gpu", "cpu"):
        assert [row.rate for row in checks.results(part)] == [1, 10, 19, 29, 43, 80, 103, 153, 245, 301]


def test_row_arithmetic_by_hand() -> None:
    row = checks.Row(rate=2, gop=1.0, latency_us=1000.0, gop_per_s=800.0, gain_over_ese=2.0)
    # 1 GOP in 1 ms are 1000 GOP/s
    assert row.speed_mismatch == pytest.approx(0.25)
    assert row.power_w == pytest.approx(82.7 * 41 / 2 / 1000)


def test_implied_powers_are_those_of_the_derivation() -> None:
    for part, low, high in (("gpu", 1.073, 1.078), ("cpu", 1.887, 1.902)):
        powers = [row.power_w for row in checks.results(part)]
        assert min(powers) == pytest.approx(low, abs=1e-3)
        assert max(powers) == pytest.approx(high, abs=1e-3)


def test_a_wrong_time_would_show_in_the_table_arithmetic() -> None:
    row = checks.results("gpu")[0]
    slower = checks.Row(row.rate, row.gop, 2 * row.latency_us, row.gop_per_s, row.gain_over_ese)
    assert slower.speed_mismatch == pytest.approx(0.5, abs=1e-3)


def test_recalled_figures_of_the_card_are_those_of_the_reference_file() -> None:
    claims = {claim.id: claim for claim in load_card(REPOSITORY.card("rtmobile")).claims}
    for part in ("gpu", "cpu"):
        for row in checks.results(part):
            claim = claims[f"{part}_{row.rate}"]
            assert isinstance(claim, ValueClaim)
            assert claim.paper is not None
            assert claim.paper.value == pytest.approx(row.latency_us)
            assert not claim.can_settle


def test_reading_weights_by_hand() -> None:
    memory = checks.memory_arithmetic()
    assert memory["dense_stream_us"] == pytest.approx(9_556_992 * 2 / 34.13e9 * 1e6)
    assert memory["unrolled_stream_ms"] == pytest.approx(30 * 2 * 3 * 1024 * 1024 * 2 / 34.13e9 * 1e3)
    assert memory["dense_time_over_stream"] == pytest.approx(3.59012 / memory["unrolled_stream_ms"])
    assert memory["gemv_ops_per_byte"] == pytest.approx(1)


def test_ese_by_hand() -> None:
    assert checks.ese_layer_weights() == 4 * 1024 * (153 + 512) + 1024 * 512 == 3_248_128
    found = checks.ese_arithmetic(gain=40)
    assert found["ese_energy_uj"] == pytest.approx(3390.7)
    assert found["ese_evaluations"] == pytest.approx(2.52e12 * 82.7e-6 / (2 * 3_248_128))
    assert found["ese_step_uj"] == pytest.approx(3390.7 / found["ese_evaluations"])
    assert found["gain_per_step"] == pytest.approx(40 / found["ese_evaluations"])
    # 0.58 GOP are 30.3 steps of 19.1 MOP
    assert found["gain_if_batched"] == pytest.approx(found["gain_per_step"] * 0.58e9 / (2 * 9_556_992))


def test_more_streams_leave_each_fewer_multipliers() -> None:
    alone, shared = (checks.ese_step_us(streams, generator()) for streams in (1, 32))
    # even work would take nonzeros / multipliers cycles of 5 ns
    nonzeros = 3_248_128 * 282 / 2520
    assert alone > nonzeros / 1504 / 200
    assert shared > nonzeros / 47 / 200
    assert shared > 5 * alone


def test_compile_time_facts_of_the_pruned_network() -> None:
    weights = {
        "a": torch.randn(96, 40, generator=generator()),
        "b": torch.randn(96, 32, generator=generator(1)),
    }
    found = checks.compile_time_facts(weights, BlockStructured(4, 4, 1.25), 5, lanes=8, unroll=4)
    assert found["pruned_rate"] == pytest.approx(5, rel=0.05)
    assert found["pattern_violations"] == found["bspc_mismatches"] == 0
    assert found["loads_apart"] == 1
    assert 1 / 4 <= found["loads_shared"] < 0.35
    assert found["imbalance_reordered"] < found["imbalance_as_stored"]
    assert found["bspc_bits_per_weight"] < found["csr_bits_per_weight"]


def test_rate_one_leaves_the_compiler_a_dense_matrix() -> None:
    found = checks.compile_time_facts({"a": torch.ones(16, 8)}, BlockStructured(2, 2), 1, lanes=4, unroll=4)
    assert found["pruned_rate"] == 1
    assert found["imbalance_as_stored"] == found["imbalance_reordered"] == 1
    assert found["loads_shared"] == 0.25


def test_column_entries_shrink_by_the_height_of_a_strip() -> None:
    assert checks.column_entries_saved(16, 16, 10, generator()) == 64
    assert checks.column_entries_saved(64, 16, 10, generator()) == 16


def test_pattern_violations_by_hand() -> None:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, 0] = mask[1, 0] = True
    mask[2, 2] = mask[3, 3] = True
    # in the lower right block both rows are kept, each at a column of its own
    assert checks.pattern_violations(mask, 2, 2) == 2
    assert checks.pattern_violations(mask, 4, 4) == 0
    assert checks.pattern_violations(torch.zeros(3, 5, dtype=torch.bool), 2, 3) == 0


def test_a_removed_row_is_no_violation() -> None:
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[4] = False
    assert checks.pattern_violations(mask, 2, 2) == 0
