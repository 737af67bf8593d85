"""Cycles and cells of the engine as formulas from its structure, held against simulation and synthesis."""

from hw_models.errors import HardwareModelError

Tile = tuple[int, int, int]
"""Input channels multiplied at once, output channels at once, banks (heads) at once."""

ACCUMULATOR_BITS = 32

CONTROL_FFS = 4 * 16 + 3 * 24 + 4
"""Four counters, three addresses; running, page, done, and whether the last sum is needed again."""

TAG_FFS = 16 + 5
"""What travels with a sum, for each stage: its row, its page, three marks, and that it is valid."""

CONTROL_LUTS = 110
"""Counters, comparisons, addresses: fitted, the mean of the 15 rows of rtl_resources.csv with DSPs."""

MULTIPLIER_LUTS = {2: 4, 3: 8, 4: 28}
"""Operand bits -> LUTs of a multiplier too narrow for synthesis to give it a DSP; fitted to two rows each."""


class BadTile(HardwareModelError):
    """A tile setting or operand width that the engine cannot be built with."""


def check_tile(tile: Tile, bits: int) -> None:
    """Fails unless the engine can be built so: at least one of each, and operands of 2 to 16 bits."""
    if len(tile) != 3 or min(tile) < 1:
        raise BadTile(f"a tile is (inputs, outputs, heads), each at least 1, got {tile}")
    # A product must fit in an accumulator, and a multiplier in one DSP (18 x 27 bits).
    if not 2 <= bits <= ACCUMULATOR_BITS // 2:
        raise BadTile(f"operand bits must be 2 to {ACCUMULATOR_BITS // 2}, got {bits}")


def depth(tile_inputs: int) -> int:
    """Cycles from the last operand read to `done`.

    One each for the operand register, the multiplier, the ceil(log2 TI) adder stages and the accumulator.
    """
    return 3 + (tile_inputs - 1).bit_length()


def engine_cycles(batch: int, m: int, k: int, n: int, tile: Tile) -> int:
    """Clock cycles of `batch` products (m, k) x (k, n).

    The cycle in which `start` is sampled is not counted; that in which `done` rises, with all sums in the
    accumulator memory, is. A batch of one is an ordinary matrix product: its columns are split over the
    banks. Otherwise each bank takes a product of its own, and banks are idle where the batch is not a
    multiple of their number.
    """
    inputs, outputs, heads = tile
    products, columns = (1, heads * outputs) if batch == 1 else (heads, outputs)
    return _tiles(batch, products) * _tiles(n, columns) * _tiles(k, inputs) * m + depth(inputs)


def datapath(tile: Tile, bits: int) -> tuple[int, int, int]:
    """DSPs, LUTs and flip-flops of the engine with its controller and without its memories.

    DSPs: one for each of the TH*TO*TI multipliers, from 5 bits up; narrower ones are LUTs.

    Flip-flops: activations (TH*TI*W), weights (TH*TO*TI*W), products (2W each), adder tree nodes (2W+s bits
    in stage s, at most 32), the last sum of each dot product (32), and the controller.

    LUTs: one for each bit of an adder in the tree, without the sign bit by which its sum grows; 64 for each
    dot product (32 add to the accumulator, 32 choose between the memory, the sum just written and zero); and
    the controller.

    Over the 21 rows of rtl_resources.csv the DSPs are exact, the LUTs at most 5 off (0.6 %) and the
    flip-flops 0 to 3 too many (0.4 %): low counter bits that stay zero are not subtracted. Fitted are
    CONTROL_LUTS and, under 5 bits, MULTIPLIER_LUTS; a row left out of the fit is at most 5 LUTs off too.
    """
    check_tile(tile, bits)
    inputs, outputs, heads = tile
    dots = heads * outputs
    multipliers = dots * inputs
    adders, nodes = _tree(inputs, bits)
    stages = depth(inputs) - 1
    lut = dots * (adders + 2 * ACCUMULATOR_BITS) + CONTROL_LUTS
    registers = (
        multipliers * (bits + _width(bits, 0)) + heads * inputs * bits + dots * (nodes + ACCUMULATOR_BITS)
    )
    ff = registers + CONTROL_FFS + stages * TAG_FFS
    if bits in MULTIPLIER_LUTS:
        return 0, lut + multipliers * MULTIPLIER_LUTS[bits], ff
    return multipliers, lut, ff


def inside_dsp(tile: Tile, bits: int) -> int:
    """Flip-flops of `datapath` that a tool which packs registers can put into the DSPs: weights and products.

    A DSP48E2 has registers for its operands and its product. Activations stay outside, being shared by the
    dot products of a bank.
    """
    check_tile(tile, bits)
    if bits in MULTIPLIER_LUTS:
        return 0
    inputs, outputs, heads = tile
    return heads * outputs * inputs * (bits + _width(bits, 0))


def _width(bits: int, stage: int) -> int:
    """Bits of a node in a stage of the adder tree; stage 0 are the products."""
    return min(2 * bits + stage, ACCUMULATOR_BITS)


def _tree(inputs: int, bits: int) -> tuple[int, int]:
    """LUTs of the adders and flip-flops of the nodes of one dot product's tree, products not included."""
    luts = ffs = 0
    nodes = [_width(bits, 0)] * inputs
    for stage in range(1, depth(inputs) - 2):
        paired = len(nodes) // 2
        luts += paired * _width(bits, stage - 1)
        # A node without a partner passes through; the sign bits by which it is extended cost nothing.
        nodes = [_width(bits, stage)] * paired + nodes[2 * paired :]
        ffs += sum(nodes)
    return luts, ffs


def _tiles(size: int, tile: int) -> int:
    """Number of tiles that cover a size; the last may be partly empty."""
    return -(-size // tile)
