"""C source of the product of a pruned matrix with a matrix of several columns.

Rows are worked on in bands of `height`, columns of the right side in tiles of `vectors` registers, so that
a whole band of results stays in registers while the matrix's columns pass (register tiling). The columns
of a band are sorted by the set of rows in which they are kept, and every set has a loop of its own that
names its accumulators: a row of the right side is loaded once for all rows that need it (redundant load
elimination) and nothing is tested inside. Weights are data: one compiled source serves every matrix of its
shape class. Written with GCC's vector extensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lib.errors import WrongUse
from lib.kernels.convolution import CONVOLUTION

PRECISIONS = ("fp32", "int8")


def check_precision(precision: str) -> None:
    """Fails with WrongUse for a precision of weights that no kernel has."""
    if precision not in PRECISIONS:
        raise WrongUse(f"precision={precision!r}: choose from {', '.join(PRECISIONS)}")


def check_vector(vector_bytes: int) -> None:
    """Fails with WrongUse for a width of vector registers that no kernel is written for."""
    if vector_bytes not in (16, 32, 64):
        raise WrongUse(f"vector registers have 16, 32 or 64 bytes, not {vector_bytes}")


@dataclass(frozen=True)
class BandKernel:
    """What the source depends on: `height` rows in a band, tiles of `vectors` registers of `vector_bytes`,
    and the precision of weights."""

    height: int
    vectors: int
    vector_bytes: int
    precision: str = "fp32"

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_vector(self.vector_bytes)
        if not 1 <= self.height <= 8 or not 1 <= self.vectors <= 8:
            raise WrongUse(f"a kernel has 1 to 8 rows and vectors, not {self.height} and {self.vectors}")

    @property
    def classes(self) -> int:
        """Sets of rows of a band that are not empty: one loop each."""
        return 2**self.height - 1

    @property
    def lanes(self) -> int:
        """Numbers in a vector register."""
        return self.vector_bytes // 4

    @property
    def width(self) -> int:
        """Columns of the right side in a full tile."""
        return self.vectors * self.lanes


def band_source(kernel: BandKernel, *, convolves: bool = False) -> str:
    """The source of `bands_multiply`, or of `bands_convolve`, for `kernel`.

    They share the tiles: a product finds row k of the right side k strides on, a convolution where a table
    says."""
    across = range(1, kernel.vectors + 1)
    widths = "".join(_tile(kernel, vectors) for vectors in across)
    dispatch = "\n".join(
        f"    case {vectors}: tile{vectors}(m, t, lo, hi, B, steps, C, ldc, bias, relu, scratch); break;"
        for vectors in across
    )
    rows = _TABLE if convolves else _STRIDE
    driver = CONVOLUTION if convolves else _PRODUCT + short_call("bands_multiply", "Bands")
    return _declarations(kernel) + rows + widths + _DRIVER.replace("@DISPATCH@", dispatch) + driver


def short_call(product: str, matrix: str) -> str:
    """Source of `short_call`, which calls `product` with all arguments but two prepared: passing ten from
    Python takes as long as a hundred rows of a vector product."""
    return f"""
typedef struct {{ const {matrix} *matrix; int64_t ldx, ldy, n; const float *bias; int relu, threads; }} Call;
int short_call(const Call *c, const float *X, float *Y) {{
    return {product}(c->matrix, X, c->ldx, Y, c->ldy, c->n, c->bias, c->relu, c->threads);
}}
"""


def _declarations(kernel: BandKernel) -> str:
    return f"""
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#define H {kernel.height}
#define CLASSES {kernel.classes}
#define LANES {kernel.lanes}
#define VECTORS {kernel.vectors}
#define WIDTH (LANES * VECTORS)
#define QUANTIZED {int(kernel.precision == "int8")}
typedef float V __attribute__((vector_size({kernel.vector_bytes}), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size({kernel.vector_bytes}), aligned(4), may_alias));
typedef uint16_t column_t;
typedef {"int8_t" if kernel.precision == "int8" else "float"} weight_t;
/* See lib/kernels/bands.py for what the arrays hold. */
typedef struct {{
    int64_t rows, columns, bands, tiles, widest, shares, idle_rows, longest;
    const int64_t *edge;
    const int32_t *row;
    const uint16_t *count;
    const int64_t *entry, *start;
    const column_t *column;
    const weight_t *weight;
    const float *scale;
    const int32_t *share;
    const int32_t *idle;
    const uint8_t *used;
}} Bands;
"""


def _tile(kernel: BandKernel, vectors: int) -> str:
    """One tile of `vectors` registers: bands `lo` to `hi`, columns of the matrix in its tile `t`."""
    rows, across = range(kernel.height), range(vectors)
    lines = [
        f"static void tile{vectors}(const Bands *m, int64_t t, int64_t lo, int64_t hi,",
        "    const float *restrict B, steps_t steps, float *restrict C, int64_t ldc, const float *bias,",
        "    int relu, float *restrict scratch) {",
        "  const int first = t == 0, last = t == m->tiles - 1;",
        "  for (int64_t band = lo; band < hi; band++) {",
        "    const int64_t at = t * m->bands + band;",
        "    const column_t *c = m->column + m->entry[at];",
        "    const uint16_t *n = m->count + at * CLASSES;",
    ]
    if kernel.precision == "int8":
        lines += [
            "    const int8_t *packed = m->weight + m->start[at];",
            "    const int64_t many = m->start[at + 1] - m->start[at];",
            "    for (int64_t i = 0; i < many; i++) scratch[i] = (float)packed[i];",
            "    const float *w = scratch;",
        ]
    else:
        lines += ["    const float *w = m->weight + m->start[at];", "    (void)scratch;"]
    lines += [f"    V {', '.join(f'a{r}_{v} = {{0}}' for r in rows for v in across)};"]
    for kept in range(1, kernel.classes + 1):
        lines += _class_loop(kept, [r for r in rows if kept >> r & 1], across)
    lines += ["    const int32_t *row = m->row + band * H;", *_store(kernel, vectors), "  }", "}", ""]
    return "\n".join(lines)


def _class_loop(kept: int, rows: list[int], across: range) -> Iterator[str]:
    """The columns kept in exactly `rows`: one load of the right side serves all of them."""
    yield f"    for (const column_t *e = c + n[{kept - 1}]; c < e; c++, w += {len(rows)}) {{"
    yield "      const float *b = B + STEPS(*c);"
    loads = "".join(f" V b{v} = *(const V *)(b + {v} * LANES);" for v in across)
    yield f"     {loads}"
    for place, row in enumerate(rows):
        yield "      " + " ".join(f"a{row}_{v} += w[{place}] * b{v};" for v in across)
    yield "    }"


def _store(kernel: BandKernel, vectors: int) -> Iterator[str]:
    for row in range(kernel.height):
        yield f"    if (row[{row}] >= 0) {{"
        yield f"      float *to = C + row[{row}] * ldc;"
        yield f"      const float s = first && bias ? bias[row[{row}]] : 0.0f;"
        if kernel.precision == "int8":
            yield f"      const float unit = m->scale[row[{row}]];"
        for v in range(vectors):
            total = f"a{row}_{v} * unit" if kernel.precision == "int8" else f"a{row}_{v}"
            yield f"      {{ V sum = {total} + s; if (!first) sum += *(V *)(to + {v} * LANES);"
            yield "        if (relu && last) sum = (V)((I)sum & ~(I)(sum < 0.0f));"
            yield f"        *(V *)(to + {v} * LANES) = sum; }}"
        yield "    }"


_STRIDE = """
typedef int64_t steps_t;
#define STEPS(k) (int64_t)(k) * steps
"""

_TABLE = """
typedef const int32_t *steps_t;
#define STEPS(k) steps[k]
"""

_DRIVER = """
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Columns of the matrix in its tile `t`, for `vectors` registers of the right side. */
static void tile(const Bands *m, int64_t t, int vectors, int64_t lo, int64_t hi, const float *B,
    steps_t steps, float *C, int64_t ldc, const float *bias, int relu, float *scratch) {
    switch (vectors) {
@DISPATCH@
    }
}

/* Rows without weights. */
static void idle(const Bands *m, float *C, int64_t ldc, int64_t n, const float *bias, int relu) {
    for (int64_t i = 0; i < m->idle_rows; i++) {
        float s = bias ? bias[m->idle[i]] : 0.0f;
        if (relu && s < 0.0f) s = 0.0f;
        float *to = C + m->idle[i] * ldc;
        for (int64_t j = 0; j < n; j++) to[j] = s;
    }
}

/* The memory of one thread: a panel, weights of a band as floats, results that do not fill vectors. */
typedef struct { float *panel, *scratch, *edge; } Desk;

static void *room(size_t floats) { return aligned_alloc(64, (floats * sizeof(float) + 127) / 64 * 64); }

static int set_desk(const Bands *m, Desk *desk, int64_t panel) {
    desk->panel = room(panel);
    desk->scratch = QUANTIZED ? room(m->longest) : NULL;
    desk->edge = room(m->rows * WIDTH);
    return desk->panel && desk->edge && (desk->scratch || !QUANTIZED);
}

static void clear_desk(Desk *desk) { free(desk->panel); free(desk->scratch); free(desk->edge); }

"""

_PRODUCT = """
/* Copies n <= WIDTH columns of B into a panel of whole vectors, the rest of which is zero; of its rows
   those that the matrix's tile `t` uses. */
static void pack(const Bands *m, int64_t t, const float *restrict B, int64_t ldb, int64_t n,
    float *restrict panel, int64_t width) {
    for (int64_t k = m->edge[t]; k < m->edge[t + 1]; k++, panel += width) {
        if (!m->used[k]) continue;
        const float *from = B + k * ldb;
        int64_t j = 0;
        for (; j + LANES <= n; j += LANES) *(V *)(panel + j) = *(const V *)(from + j);
        for (; j < n; j++) panel[j] = from[j];
        for (; j < width; j++) panel[j] = 0.0f;
    }
}

/* n columns of a panel of whole vectors, in the matrix's tile `t`. Results of a panel that n does not fill
   are made in the desk's edge, all vectors at once: the matrix passes once. */
static void panel_tile(const Bands *m, int64_t t, int64_t lo, int64_t hi, const Desk *desk, int64_t width,
    float *C, int64_t ldc, int64_t n, const float *bias, int relu) {
    const int vectors = (int)(width / LANES);
    if (n == width) {
        tile(m, t, vectors, lo, hi, desk->panel, width, C, ldc, bias, relu, desk->scratch);
        return;
    }
    tile(m, t, vectors, lo, hi, desk->panel, width, desk->edge, width, bias, relu, desk->scratch);
    if (t < m->tiles - 1) return;
    for (int64_t i = lo * H; i < hi * H; i++)
        if (m->row[i] >= 0) memcpy(C + m->row[i] * ldc, desk->edge + m->row[i] * width, n * sizeof(float));
}

/* C (rows, n) = matrix times B (columns, n), plus bias per row, then relu. Strides in floats. Returns 1 if
   there is no memory, else 0. A right side of one tile that lies on whole vectors is used where it is, any
   other is copied. */
int bands_multiply(const Bands *m, const float *B, int64_t ldb, float *C, int64_t ldc, int64_t n,
    const float *bias, int relu, int threads) {
    int failed = 0;
    const int64_t tiles = (n + WIDTH - 1) / WIDTH;
    const int direct = tiles == 1 && n % LANES == 0 && ldb % LANES == 0 && (uintptr_t)B % sizeof(V) == 0;
    const int by_band = tiles < 2 * threads;
    idle(m, C, ldc, n, bias, relu);
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
    for (int part = 0; part < threads; part++) {
        const int64_t lo = by_band ? m->share[part * m->shares / threads] : 0;
        const int64_t hi = by_band ? m->share[(part + 1) * m->shares / threads] : m->bands;
        Desk desk;
        if (direct && !QUANTIZED) {
            for (int64_t t = 0; t < m->tiles; t++)
                tile(m, t, (int)(n / LANES), lo, hi, B + m->edge[t] * ldb, ldb, C, ldc, bias, relu, NULL);
            continue;
        }
        if (set_desk(m, &desk, m->widest * WIDTH))
            for (int64_t i = by_band ? 0 : part; i < tiles; i += by_band ? 1 : threads) {
                const int64_t from = i * WIDTH, many = least(WIDTH, n - from);
                const int64_t width = (many + LANES - 1) / LANES * LANES;
                for (int64_t t = 0; t < m->tiles; t++) {
                    pack(m, t, B + from, ldb, many, desk.panel, width);
                    panel_tile(m, t, lo, hi, &desk, width, C + from, ldc, many, bias, relu);
                }
            }
        else
#pragma omp atomic write
            failed = 1;
        clear_desk(&desk);
    }
    return failed;
}
"""
