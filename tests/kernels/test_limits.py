"""Limits of the machine: what follows from them, by hand; never how large they are."""

import pytest

from lib.kernels.limits import SIZES_KB, Limits, measure_limits, shortest
from lib.kernels.toolchain import Toolchain

MACHINE = Limits(100.0, {kb: 1024.0 / kb for kb in SIZES_KB})


@pytest.mark.parametrize(
    ("size", "found"), [(0, 64.0), (16 * 1024, 64.0), (16 * 1024 + 1, 4.0), (2**40, 2**-7)]
)
def test_bandwidth_is_that_of_the_next_larger_size(size: float, found: float) -> None:
    assert MACHINE.bandwidth(size) == found


def test_the_larger_of_arithmetic_and_traffic_binds() -> None:
    assert MACHINE.bound_s(1000.0, {1024.0: 64.0}) == (10.0, "arithmetic")
    assert MACHINE.bound_s(10.0, {1024.0: 64.0, 200.0 * 1024: 8.0}) == (3.0, "cache bandwidth")


def test_limits_are_measured(toolchain: Toolchain) -> None:
    limits = measure_limits(toolchain)
    assert limits.flops > 0
    assert list(limits.bytes_s) == list(SIZES_KB)
    assert min(limits.bytes_s.values()) > 0


def test_every_contender_is_called_in_every_round() -> None:
    calls = {"a": 0, "b": 0}

    def call(name: str) -> None:
        calls[name] += 1

    times = shortest({"a": lambda: call("a"), "b": lambda: call("b")}, rounds=3, burst_s=0.0)
    assert calls == {"a": 6, "b": 6}  # one to warm up, one timed
    assert list(times) == ["a", "b"]
    assert min(times.values()) >= 0
