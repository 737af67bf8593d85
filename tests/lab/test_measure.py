"""Latencies in alternating bursts; no time is asserted."""

import time

import pytest
import torch

from lib.lab.measure import latencies


def test_contenders_take_turns_after_one_uncounted_call_each() -> None:
    calls: list[str] = []
    measured = latencies(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, burst_s=0
    )
    assert calls == ["a", "b"] * 4
    assert {name: latency.calls for name, latency in measured.items()} == {"a": 3, "b": 3}


def test_summary_of_known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    # each burst is one call; perf_counter is read for the burst, before and after the call
    durations = iter([1.0, 2.0, 3.0, 4.0, 10.0])
    clock = {"now": 0.0}
    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])
    warm = iter([True])

    def call() -> None:
        if not next(warm, False):
            clock["now"] += next(durations)

    latency = latencies({"x": call}, rounds=5, burst_s=0.5)["x"]
    assert (latency.minimum_s, latency.median_s, latency.spread_s, latency.calls) == (1.0, 3.0, 2.0, 5)


def test_burst_goes_on_until_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])

    def call() -> None:
        clock["now"] += 0.25

    assert latencies({"x": call}, rounds=2, burst_s=1.0)["x"].calls == 8


def test_no_gradients_are_recorded() -> None:
    seen: list[bool] = []
    latencies({"x": lambda: seen.append(torch.is_grad_enabled())}, rounds=1, burst_s=0)
    assert seen == [False, False]
