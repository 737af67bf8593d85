"""What this machine can do at most: multiply-adds in registers, bytes from its caches. Measured, on one
thread.

A kernel's speed means little without them: `Limits.bound_s` says how quickly a product could be done at best.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from lib.kernels.toolchain import Toolchain
from lib.lab.measure import burst

PROBES = """
#include <stdint.h>
#define LANES (@BYTES@ / 4)
typedef float V __attribute__((vector_size(@BYTES@), aligned(@BYTES@), may_alias));

/* 12 independent chains of multiply-adds. */
float multiply_add(int64_t turns, const float *seed) {
    V a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11;
    const V x = *(const V *)seed, y = *(const V *)(seed + LANES);
    a0 = y; a1 = y + 1; a2 = y + 2; a3 = y + 3; a4 = y + 4; a5 = y + 5;
    a6 = y + 6; a7 = y + 7; a8 = y + 8; a9 = y + 9; a10 = y + 10; a11 = y + 11;
    for (int64_t i = 0; i < turns; i++) {
        a0 = a0 * x + y; a1 = a1 * x + y; a2 = a2 * x + y; a3 = a3 * x + y;
        a4 = a4 * x + y; a5 = a5 * x + y; a6 = a6 * x + y; a7 = a7 * x + y;
        a8 = a8 * x + y; a9 = a9 * x + y; a10 = a10 * x + y; a11 = a11 * x + y;
    }
    const V sum = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;
    return sum[0];
}

/* Adds up n floats, a multiple of 8 vectors, `turns` times. */
float stream(int64_t turns, const float *from, int64_t n) {
    V a0 = {0}, a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
    for (; turns > 0; turns--) {
        for (const V *p = (const V *)from, *end = (const V *)(from + n); p < end; p += 8) {
            a0 += p[0]; a1 += p[1]; a2 += p[2]; a3 += p[3]; a4 += p[4]; a5 += p[5]; a6 += p[6]; a7 += p[7];
        }
        __asm__ volatile("" ::: "memory");
    }
    const V sum = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7;
    return sum[0];
}
"""
SIZES_KB = (16, 256, 512, 1024, 4096, 16384, 131072)


@dataclass(frozen=True)
class Limits:
    """Multiply-adds a second (a multiply and an addition each count), and bytes a second by size of what
    is read."""

    flops: float
    bytes_s: Mapping[int, float]

    def bandwidth(self, size_bytes: float) -> float:
        """Bytes a second when data of this size are read again and again: of the next larger size
        measured."""
        return next(
            (self.bytes_s[kb] for kb in SIZES_KB if 1024 * kb >= size_bytes), self.bytes_s[SIZES_KB[-1]]
        )

    def bound_s(self, flops: float, traffic: Mapping[float, float]) -> tuple[float, str]:
        """Seconds that a computation takes at least, and what binds it.

        `traffic` maps the size of something read to the bytes read of it."""
        compute = flops / self.flops
        memory = sum(read / self.bandwidth(size) for size, read in traffic.items())
        return (compute, "arithmetic") if compute >= memory else (memory, "cache bandwidth")


def measure_limits(toolchain: Toolchain) -> Limits:
    """The limits of one thread of this machine; two seconds."""
    library = toolchain.load(PROBES.replace("@BYTES@", str(toolchain.vector_bytes)))
    library.multiply_add.argtypes = [ctypes.c_int64, ctypes.c_void_p]
    library.stream.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]
    library.multiply_add.restype = library.stream.restype = ctypes.c_float
    room = (ctypes.c_float * (256 * SIZES_KB[-1] + 64))()
    start = ctypes.addressof(room) + -ctypes.addressof(room) % 64
    turns, lanes = 20_000, toolchain.vector_bytes // 4
    probes: dict[str, Callable[[], object]] = {"": lambda: library.multiply_add(turns, start)}
    passes = {kb: max(1, 4096 // kb) for kb in SIZES_KB}
    for kb in SIZES_KB:
        probes[str(kb)] = partial(library.stream, passes[kb], start, 256 * kb)
    times = shortest(probes, rounds=5, burst_s=0.03)
    speeds = {kb: 1024 * kb * passes[kb] / times[str(kb)] for kb in SIZES_KB}
    return Limits(2 * 12 * lanes * turns / times[""], speeds)


def shortest(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int = 15, burst_s: float = 0.012
) -> dict[str, float]:
    """Seconds of the quickest call of each contender, in short alternating bursts on an undisturbed
    processor.

    What other processes take of a processor is noise that only adds: the minimum of many bursts, run at
    real-time priority where that is allowed, is what repeats."""
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for name, call in contenders.items():
            with undisturbed():
                call()
                best[name] = min(best[name], *burst(call, burst_s))
    return best


@contextmanager
def undisturbed() -> Iterator[None]:
    """Real-time priority for this thread, where the system has it and allows it."""
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
