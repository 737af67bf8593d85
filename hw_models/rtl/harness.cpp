// Plays the on-chip memories of gemm_engine: reads one problem from standard input, writes the cycles and the product
// to standard output. TI, TO, TH and W are those the engine was built with.
//
// In:  uint32 batch, m, k, n, split; int32 a[batch][m][k]; int32 b[batch][k][n]   (little endian, as is this machine)
// Out: uint64 cycles; int32 product[batch][m][n]
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "Vgemm_engine.h"
#include "verilated.h"

static const int ADDRESS_BITS = 24;            // parameter ADDR of the engine
static const uint32_t UNDEFINED = 0xDEADBEEF;  // what the accumulator memory answers where it promises nothing

[[noreturn]] static void fail(const char* message) {
    std::fprintf(stderr, "%s\n", message);
    std::exit(1);
}

template <typename T>
static void read_exactly(T* into, size_t count) {
    if (std::fread(into, sizeof(T), count, stdin) != count) fail("the problem is shorter than its dimensions say");
}

// Words of `bits` bits, filled field by field; fields never set are zero: the padding of edge tiles.
struct Memory {
    size_t stride;
    std::vector<uint32_t> data;

    Memory(size_t words, size_t bits) : stride((bits + 63) / 64 * 2), data(words * stride, 0) {
        if (words >> ADDRESS_BITS) fail("the operands do not fit in the addresses of the engine");
    }

    void set(size_t word, size_t field, int32_t value) {
        if (value < -(1 << (W - 1)) || value >= 1 << (W - 1)) fail("an operand does not fit in the bits of the engine");
        for (size_t bit = 0; bit < W; bit++)
            if (value >> bit & 1) data[word * stride + (field * W + bit) / 32] |= 1u << (field * W + bit) % 32;
    }

    template <typename Port>
    void drive(Port& port, size_t word) const {
        if ((word + 1) * stride > data.size()) fail("the engine read an operand beyond the end of its memory");
        std::memcpy((void*)&port, &data[word * stride], sizeof port);
    }
};

int main(int argc, char** argv) {
    Verilated::commandArgs(argc, argv);
    uint32_t header[5];
    read_exactly(header, 5);
    const size_t batch = header[0], m = header[1], k = header[2], n = header[3];
    const bool split = header[4];
    std::vector<int32_t> a(batch * m * k), b(batch * k * n), product(batch * m * n, 0);
    read_exactly(a.data(), a.size());
    read_exactly(b.data(), b.size());

    // Where things lie: activations by group, input tile, row; weights by group, column tile, input tile.
    const size_t bank_products = split ? 1 : TH, tile_columns = split ? TH * TO : TO;
    const size_t groups = (batch + bank_products - 1) / bank_products;
    const size_t column_tiles = (n + tile_columns - 1) / tile_columns, input_tiles = (k + TI - 1) / TI;
    Memory activations(groups * input_tiles * m, TH * TI * W);
    Memory weights(groups * column_tiles * input_tiles, TH * TO * TI * W);
    for (size_t group = 0; group < groups; group++)
        for (size_t bank = 0; bank < TH; bank++) {
            const size_t item = split ? group : group * TH + bank;
            if (item >= batch) continue;
            for (size_t input = 0; input < k; input++) {
                const size_t tile = input / TI, lane = input % TI;
                for (size_t row = 0; row < m; row++)
                    activations.set((group * input_tiles + tile) * m + row, bank * TI + lane,
                                    a[(item * m + row) * k + input]);
                for (size_t step = 0; step < column_tiles; step++)
                    for (size_t output = 0; output < TO; output++) {
                        const size_t column = step * tile_columns + (split ? bank * TO : 0) + output;
                        if (column < n)
                            weights.set((group * column_tiles + step) * input_tiles + tile,
                                        (bank * TO + output) * TI + lane, b[(item * k + input) * n + column]);
                    }
            }
        }

    const size_t sums = TH * TO;
    std::vector<uint32_t> pages[2] = {std::vector<uint32_t>(m * sums, UNDEFINED),
                                      std::vector<uint32_t>(m * sums, UNDEFINED)};
    std::vector<uint32_t> answer(sums, UNDEFINED), written(sums);

    // The drain of a finished page: one row a cycle. The engine must not come back to the page before that.
    size_t drained = m, drain_page = 0, drain_tile = 0, finished = 0;
    auto drain = [&] {
        const size_t group = drain_tile / column_tiles, step = drain_tile % column_tiles;
        for (size_t bank = 0; bank < TH; bank++)
            for (size_t output = 0; output < TO; output++) {
                const size_t item = split ? group : group * TH + bank;
                const size_t column = step * tile_columns + (split ? bank * TO : 0) + output;
                if (item < batch && column < n)
                    product[(item * m + drained) * n + column] =
                        (int32_t)pages[drain_page][drained * sums + bank * TO + output];
            }
        drained++;
    };

    Vgemm_engine engine;
    auto edge = [&] {
        engine.clk = 1;
        engine.eval();
        engine.clk = 0;
        engine.eval();
    };
    engine.clk = 0, engine.start = 0, engine.rst = 1;
    engine.batch = batch, engine.m = m, engine.k = k, engine.n = n, engine.split = split;
    engine.eval();  // the clock is low before its first edge
    edge();
    engine.rst = 0;
    engine.start = 1;
    edge();
    engine.start = 0;

    uint64_t cycles = 1;  // the cycle after the one in which start was sampled
    const uint64_t patience = 1000 + (uint64_t)batch * m * k * n;  // a cycle does at least one multiplication
    for (; !engine.done; cycles++) {
        if (cycles > patience) fail("the engine does not finish");
        if (engine.activation_read) activations.drive(engine.activation_data, engine.activation_address);
        if (engine.weight_read) weights.drive(engine.weight_data, engine.weight_address);
        std::memcpy((void*)&engine.sum_read_data, answer.data(), sums * sizeof(uint32_t));
        engine.eval();

        if ((engine.sum_read && engine.sum_read_row >= m) || (engine.sum_write && engine.sum_write_row >= m))
            fail("the engine went beyond the rows of an accumulator page");
        if (drained < m) drain();
        if (engine.sum_read) {
            const bool clash = engine.sum_write && engine.sum_write_page == engine.sum_read_page &&
                               engine.sum_write_row == engine.sum_read_row;
            for (size_t i = 0; i < sums; i++)
                answer[i] = clash ? UNDEFINED : pages[engine.sum_read_page][engine.sum_read_row * sums + i];
        }
        if (engine.sum_write) {
            if (drained < m && engine.sum_write_page == drain_page) fail("a page was overwritten before its drain");
            std::memcpy(written.data(), (void*)&engine.sum_write_data, sums * sizeof(uint32_t));
            std::memcpy(&pages[engine.sum_write_page][engine.sum_write_row * sums], written.data(),
                        sums * sizeof(uint32_t));
        }
        if (engine.tile_done) {
            if (drained < m) fail("a page was finished before the last one was drained");
            drained = 0, drain_page = engine.sum_write_page, drain_tile = finished++;
        }
        edge();
    }
    while (drained < m) drain();  // the last page, after done
    if (finished != groups * column_tiles) fail("the engine finished another number of tiles than there are");

    std::fwrite(&cycles, sizeof cycles, 1, stdout);
    std::fwrite(product.data(), sizeof(int32_t), product.size(), stdout);
    return 0;
}
