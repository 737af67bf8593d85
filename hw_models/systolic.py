"""`compute_cycles` and `total_cycles`: cycles of a matrix product on a systolic array, in closed form.

An (m, k) by (k, n) product is cut into tiles of the size of the array, and the tiles run one after the other:

| dataflow               | stays in the array | tiles               | cycles of a tile           |
|------------------------|--------------------|---------------------|----------------------------|
| ws, weight stationary  | R x C of (k, n)    | ceil(k/R) ceil(n/C) | R + (m + R + C - 2)        |
| os, output stationary  | R x C of (m, n)    | ceil(m/R) ceil(n/C) | k + R + C - 2              |
| is, input stationary   | R x C of (k, m)    | ceil(k/R) ceil(m/C) | R + (n + R + C - 2)        |

R and C are the rows and columns of the array. A tile loads its stationary operand in R cycles (ws, is) and
then streams vectors; the last one reaches the far corner R + C - 2 cycles after it has entered at the near
one. In os the sums are taken from where they are, without a shift out. No tile overlaps with the next. This
is what SCALE-Sim 3.0.0 counts (`compute/systolic_compute_*.py`), except that it numbers cycles from zero
and reports the number of the last one, which is one less.

A convolution is its implicit product: m output pixels, k = channels in * kernel height * kernel width, n
channels out. Its input traffic is that of the unfolded matrix, m * k words. That is an upper bound: windows
overlap, and a buffer that still holds a pixel need not fetch it again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from hw_models.errors import HardwareModelError

Dataflow = Literal["ws", "os", "is"]


@dataclass(frozen=True)
class SystolicArray:
    """A rows x columns array of multiply-accumulate units, with a double buffer and an interface per operand.

    `bandwidth` is in words per cycle between main memory and each of the three buffers, as in SCALE-Sim's
    USER mode: three interfaces that do not compete. Buffer sizes are those of both halves together.
    """

    rows: int
    columns: int
    dataflow: Dataflow = "ws"
    input_buffer_kb: int = 512
    weight_buffer_kb: int = 512
    output_buffer_kb: int = 256
    word_bytes: int = 1
    bandwidth: int = 16

    def __post_init__(self) -> None:
        if self.dataflow not in get_args(Dataflow):
            raise HardwareModelError(f"dataflow must be ws, os or is, got {self.dataflow!r}")
        for name in ("rows", "columns", "word_bytes", "bandwidth"):
            _check(name, getattr(self, name))
        for name in ("input_buffer_kb", "weight_buffer_kb", "output_buffer_kb"):
            _check(name, getattr(self, name))
            if 1024 * getattr(self, name) < 2 * self.word_bytes:
                raise HardwareModelError(f"{name} must hold two words of {self.word_bytes} bytes")

    def half(self, buffer_kb: int) -> int:
        """Words in one half of a double buffer of `buffer_kb` kilobytes."""
        return 512 * buffer_kb // self.word_bytes


@dataclass(frozen=True)
class Cycles:
    """Cycles of one product: `total` is `compute` plus `stalls`."""

    compute: int
    stalls: int

    @property
    def total(self) -> int:
        return self.compute + self.stalls


@dataclass(frozen=True)
class _Stream:
    """Words that pass an interface: `columns` tile columns of `words` in `cycles` each, then `last_words`.

    The last tile column takes as long as the others but may be narrower and carry fewer words.
    """

    columns: int
    cycles: int
    words: int
    last_words: int

    @property
    def total(self) -> int:
        return self.columns * self.words + self.last_words

    def cycle(self, word: int) -> int:
        """The compute cycle at which that many words have passed, spread evenly over each tile column."""
        full = self.columns * self.words
        if word <= full:
            return word * self.cycles // self.words
        return self.columns * self.cycles + (word - full) * self.cycles // self.last_words

    def passed(self, cycle: int) -> int:
        """The words that have passed by that compute cycle."""
        full = self.columns * self.cycles
        if cycle <= full:
            return cycle * self.words // self.cycles
        return self.columns * self.words + (cycle - full) * self.last_words // self.cycles


def compute_cycles(array: SystolicArray, m: int, k: int, n: int) -> int:
    """Cycles of an (m, k) by (k, n) product when memory keeps up: tiles times cycles of a tile.

    Raises HardwareModelError if m, k or n is not a positive integer.
    """
    _check("m", m)
    _check("k", k)
    _check("n", n)
    columns, column_cycles = _columns(array, m, k, n)
    return columns * column_cycles


def total_cycles(array: SystolicArray, m: int, k: int, n: int, *, wait_twice: bool = False) -> Cycles:
    """Cycles of an (m, k) by (k, n) product with the stalls that `array.bandwidth` causes.

    Each buffer has two halves of H words; B is the bandwidth. The terms:

    - Reading. The first H words of inputs and of weights are there at cycle zero, as in SCALE-Sim. More is
      fetched in the order of use, H words at a time and without a pause. Refill i ends at cycle i P, where
      P = ceil(H / B) + 1 has a cycle of latency; the array cannot use word i H before. An operand that fits
      into H is fetched once. One that does not is fetched again for each tile column that streams it: inputs
      in ws and os, weights in is. The stationary operand is used once. Weights in os stay for a tile column
      if its k C words fit into H, and are otherwise fetched for each of its ceil(m / R) tiles.
    - Writing. Each tile writes its sums: m n ceil(k / R) words in ws and is, m n in os. Partial sums are
      written like results and are added up behind the buffer; nothing is read back. As soon as H words wait,
      a drain of ceil(H / B) cycles takes them. The array stops when both halves are full: drain d has begun
      before word (d + 1) H is written. What is left at the end is drained afterwards and not counted.
    - Together. The three stop the array as a whole. Refills end at fixed times, so the latest one counts.
      Drains go on meanwhile, but those of words that are written after a wait come after it, too.

    Every limit is linear in the number of its refill or drain as long as tile columns are alike, and all but
    the last are. So the first and last of either part decide. More work is never faster (but for a cycle, as
    fractions of a cycle are cut off), more bandwidth is never slower. More memory may be: halves are filled
    as a whole, in whole cycles, so that the words of a larger one arrive later.

    `wait_twice` counts waits as SCALE-Sim 3.0.0 does, for comparison with it. `read_buffer.service_reads`
    adds the wait for a refill to its offset twice. The array is then late by one more wait, which spares it
    the next one: even refills end when they should, odd ones later by what was waited. And
    `write_buffer.service_writes` begins a drain only in a cycle in which something is written: a drain that
    falls due while the array waits begins after the wait.

    Raises HardwareModelError if m, k or n is not a positive integer.
    """
    compute = compute_cycles(array, m, k, n)
    inputs, weights, outputs = _streams(array, m, k, n)
    half = array.half(array.output_buffer_kb)
    drain = _ceil(half, array.bandwidth)
    total = _finish(outputs, compute, half, drain, 0, 0, 0)
    for stream, buffer_kb in ((inputs, array.input_buffer_kb), (weights, array.weight_buffer_kb)):
        for cycle, reached, ready in _refills(stream, array.half(buffer_kb), array.bandwidth, wait_twice):
            drained = outputs.passed(cycle)
            if wait_twice:
                begun = max(0, (reached - outputs.cycle(min(half, outputs.total))) // drain + 1)
                drained = min(drained // half, begun) * half
            total = max(total, _finish(outputs, compute, half, drain, cycle, ready, drained))
    return Cycles(compute=compute, stalls=total - compute)


def _columns(array: SystolicArray, m: int, k: int, n: int) -> tuple[int, int]:
    """The number of tile columns and the cycles of one."""
    rows, columns = array.rows, array.columns
    if array.dataflow == "os":
        return _ceil(n, columns), _ceil(m, rows) * (k + rows + columns - 2)
    across, streamed = (n, m) if array.dataflow == "ws" else (m, n)
    return _ceil(across, columns), _ceil(k, rows) * (2 * rows + columns + streamed - 2)


def _streams(array: SystolicArray, m: int, k: int, n: int) -> tuple[_Stream | None, _Stream | None, _Stream]:
    """What passes the three interfaces (inputs, weights, outputs); None for an operand that fits into H."""
    tiles, cycles = _columns(array, m, k, n)
    across = m if array.dataflow == "is" else n
    last = across - (tiles - 1) * array.columns

    def by_column(words: int) -> _Stream:
        """A stream of `words` for each column of the array that is in use."""
        return _Stream(tiles - 1, cycles, words * array.columns, words * last)

    def again(words: int) -> _Stream:
        """A stream of the same `words` for every tile column."""
        return _Stream(tiles - 1, cycles, words, words)

    input_half, weight_half = array.half(array.input_buffer_kb), array.half(array.weight_buffer_kb)
    inputs = weights = None
    if array.dataflow == "os":
        tile_rows = _ceil(m, array.rows)
        if m * k > input_half:
            inputs = again(m * k)
        if k * n > weight_half:
            weights = by_column(k if k * array.columns <= weight_half else k * tile_rows)
        return inputs, weights, by_column(m)
    sums = (m if array.dataflow == "ws" else n) * _ceil(k, array.rows)
    if m * k > input_half:
        inputs = again(m * k) if array.dataflow == "ws" else by_column(k)
    if k * n > weight_half:
        weights = by_column(k) if array.dataflow == "ws" else again(k * n)
    return inputs, weights, by_column(sums)


def _refills(
    stream: _Stream | None, half: int, bandwidth: int, wait_twice: bool
) -> Iterator[tuple[int, int, int]]:
    """The refills that may hold the array up most: compute cycle of need, time of reaching it, arrival."""
    if stream is None:
        return
    period = _ceil(half, bandwidth) + 1
    last = (stream.total - 1) // half
    full = min(last, stream.columns * stream.words // half)
    for number in {1, full, min(full + 1, last), last - 1, last} - {0}:
        needed = stream.cycle(number * half)
        between = needed // number
        late = max(0, period - between) if wait_twice else 0
        before = (number - 1) * period + between + late * ((number - 1) % 2)
        yield needed, max(needed, before), number * period + late * (number % 2)


def _finish(
    outputs: _Stream, compute: int, half: int, drain: int, cycle: int, time: int, drained: int
) -> int:
    """The time of the last write if the array goes on from `cycle` at `time` with `drained` words gone."""
    end = time + compute - cycle
    last = (outputs.total - drained - 1) // half - 1
    if last < 1:
        return end
    first = time + max(0, outputs.cycle(drained + half) - cycle)
    full = (outputs.columns * outputs.words - drained) // half - 1
    for number in {1, full, full + 1, last}:
        if 1 <= number <= last:
            blocked = outputs.cycle(drained + (number + 1) * half)
            end = max(end, first + (number - 1) * drain + compute - blocked)
    return end


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _check(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise HardwareModelError(f"{name} must be a positive integer, got {value!r}")
