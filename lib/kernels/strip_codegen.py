"""C source of the product of a pruned matrix with one column.

The input is cut into chunks of one vector, and a row keeps those chunks in which it has weights: an entry
is the number of a chunk and a vector of weights, zeros included. That costs bytes, but no instruction
besides one multiply-add: on the processor tried, spreading packed weights under a mask or gathering inputs
costs more than the zeros. Four rows of about equally many entries (row reorder) are worked on together by
one loop, whose length is all that a processor has to predict. Three ways to hold fewer zeros: where rows of
a strip share their columns, the strip's inputs are first gathered; two chunks that together have few enough
weights share an entry, whose inputs are shuffled out of both (`paired`); and where weights lie alone, an
entry is one weight (`single`).

With int8 weights and 16-bit multiply-adds (AVX-512 VNNI or BW) the input is rounded to 16 bits; the largest
integer is chosen so that no sum can overflow: 15 bits up to 8192 columns. Elsewhere weights become floats
on the way.
"""

from dataclasses import dataclass

from lib.errors import WrongUse
from lib.kernels.codegen import check_precision, check_vector, short_call

HEIGHT = 4
"""Rows worked on together."""
LAYOUTS = ("plain", "paired", "single")


@dataclass(frozen=True)
class StripKernel:
    """What the source depends on: vectors of `vector_bytes`, the precision of weights, what an entry holds
    (`layout`: plain, paired or single), whether inputs are rounded to 16-bit words (`words`, plain int8
    only), and whether column numbers need 32 bits."""

    vector_bytes: int
    precision: str = "fp32"
    layout: str = "plain"
    words: bool = False
    wide_index: bool = False

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_vector(self.vector_bytes)
        if self.layout not in LAYOUTS:
            raise WrongUse(f"layout={self.layout!r}: choose from {', '.join(LAYOUTS)}")
        if self.words and (self.precision, self.vector_bytes, self.layout) != ("int8", 64, "plain"):
            raise WrongUse("16-bit inputs go with plain int8 weights and vectors of 64 bytes")

    @property
    def lanes(self) -> int:
        """Columns in a chunk, weights in an entry."""
        return 1 if self.layout == "single" else self.vector_bytes // (2 if self.words else 4)


def strip_source(kernel: StripKernel) -> str:
    """The source of `strips_multiply` for `kernel`."""
    quantized = kernel.precision == "int8"
    head = f"""
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX__)
#include <immintrin.h>
#endif
#define VECTOR {kernel.vector_bytes}
#if defined(__AVX512F__) && VECTOR == 64
#define WIDE 1
#endif
#define H {HEIGHT}
#define LANES {kernel.lanes}
#define QUANTIZED {int(quantized)}
#define WORDS {int(kernel.words)}
#define PAIRED {int(kernel.layout == "paired")}
#define SINGLE {int(kernel.layout == "single")}
#define CHUNKS (1 + PAIRED)
typedef {"uint32_t" if kernel.wide_index else "uint16_t"} index_t;
typedef {"int8_t" if quantized else "float"} weight_t;
typedef {"int16_t" if kernel.words else "float"} input_t;
"""
    steps = "\n".join(f"            STEP({row})" for row in range(HEIGHT))
    vectors = _WORDS if kernel.words else _FLOATS.replace("@BYTES@", str(kernel.vector_bytes))
    return head + vectors + _BODY.replace("@STEPS@", steps) + short_call("strips_multiply", "Strips")


_FLOATS = """
#if SINGLE
typedef float V;
#define ZERO 0.0f
#define SPREAD(w) (float)*(w)
#define INPUT(r) x[INDEX(r)]
#else
typedef float V __attribute__((vector_size(@BYTES@), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(@BYTES@), aligned(4), may_alias));
typedef int8_t B __attribute__((vector_size(@BYTES@ / 4), aligned(1), may_alias));
#define ZERO (V){0}
#define CHUNK(at) *(const V *)(x + (int64_t)INDEX(at) * LANES)
#if QUANTIZED && defined(WIDE)
#define SPREAD(w) (V)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(w))))
#elif QUANTIZED
#define SPREAD(w) __builtin_convertvector(*(const B *)(w), V)
#else
#define SPREAD(w) *(const V *)(w)
#endif
#if PAIRED
#define INPUT(r) __builtin_shuffle(CHUNK(2 * r), CHUNK(2 * r + 1), places >> 8 * r)
#else
#define INPUT(r) CHUNK(r)
#endif
#endif
#define SUM V
#define STEP(r) sum##r += SPREAD(w + r * LANES) * INPUT(r);
#define TOTAL(sum) sum
"""

_WORDS = """
typedef float V __attribute__((vector_size(64), aligned(4), may_alias));
#define SUM __m512i
#define ZERO _mm512_setzero_si512()
#ifdef __AVX512VNNI__
#define DOT(sum, a, b) _mm512_dpwssd_epi32(sum, a, b)
#else
#define DOT(sum, a, b) _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
#endif
#define BYTES(r) _mm256_loadu_si256((const __m256i *)(w + r * LANES))
#define STEP(r) sum##r = DOT(sum##r, _mm512_cvtepi8_epi16(BYTES(r)), \\
                             _mm512_loadu_si512(x + (int64_t)INDEX(r) * LANES));
#define TOTAL(sum) (V)_mm512_cvtepi32_ps(sum)
"""

_BODY = """
/* See lib/kernels/strips.py for what the arrays hold. */
typedef struct {
    int64_t rows, columns, strips, shares, idle_rows, room;
    const int32_t *strip;
    const int64_t *from;
    const index_t *gather;
    const int32_t *row;
    const int32_t *count;
    const int64_t *entry;
    const index_t *chunk;
    const int8_t *place;
    const weight_t *weight;
    const float *scale;
    const int32_t *share;
    const int32_t *idle;
} Strips;

/* Sums over the lanes of four vectors. */
static inline void four_sums(V a, V b, V c, V d, float *to) {
#if SINGLE
    to[0] = a; to[1] = b; to[2] = c; to[3] = d;
#elif defined(WIDE)
    const __m512 p = (__m512)a, q = (__m512)b, r = (__m512)c, s = (__m512)d;
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(p, q), _mm512_unpackhi_ps(p, q));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(r, s), _mm512_unpackhi_ps(r, s));
    const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all),
                                      _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(all), 1)));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
#elif defined(__AVX__) && VECTOR == 32
    const __m256 ab = _mm256_hadd_ps((__m256)a, (__m256)b), cd = _mm256_hadd_ps((__m256)c, (__m256)d);
    const __m256 all = _mm256_hadd_ps(ab, cd);
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
#else
    to[0] = to[1] = to[2] = to[3] = 0.0f;
    for (int i = 0; i < (int)(sizeof(V) / sizeof(float)); i++) {
        to[0] += a[i]; to[1] += b[i]; to[2] += c[i]; to[3] += d[i];
    }
#endif
}

/* Numbers of chunks of the four rows: loads are what a processor does least of in a cycle, so that four short
   numbers are loaded as one (of a little-endian processor, as all are for which this is meant). */
#define INDEX(at) (sizeof(index_t) == 2 ? (index_t)(four[(at) / 4] >> 16 * ((at) % 4)) : c[at])

static void bands(const Strips *m, int64_t lo, int64_t hi, const input_t *x, float unit, float *y,
    int64_t ldy, const float *bias, int relu) {
    const index_t *c = m->chunk + m->entry[lo] * CHUNKS;
    const int8_t *p = PAIRED ? m->place + m->entry[lo] * LANES : NULL;
    (void)p;
    const weight_t *w = m->weight + m->entry[lo] * LANES;
    for (int64_t band = lo; band < hi; band++) {
        SUM sum0 = ZERO, sum1 = ZERO, sum2 = ZERO, sum3 = ZERO;
        for (int64_t n = m->count[band]; n > 0; n--) {
            uint64_t four[CHUNKS];
            if (sizeof(index_t) == 2) memcpy(four, c, sizeof four);
#if PAIRED
            const I places = *(const I *)p;
#endif
@STEPS@
            c += H * CHUNKS, w += H * LANES, p += PAIRED * H * LANES;
        }
        float sums[H];
        four_sums(TOTAL(sum0), TOTAL(sum1), TOTAL(sum2), TOTAL(sum3), sums);
        const int32_t *row = m->row + band * H;
        for (int r = 0; r < H; r++) {
            if (row[r] < 0) continue;
            float s = QUANTIZED ? sums[r] * unit * m->scale[row[r]] : sums[r];
            if (bias) s += bias[row[r]];
            y[row[r] * ldy] = relu && s < 0.0f ? 0.0f : s;
        }
    }
}

/* Strips of one part of the work; `buffer` holds the gathered inputs of one strip. */
static void strips(const Strips *m, int64_t lo, int64_t hi, const input_t *x, float unit, float *y,
    int64_t ldy, const float *bias, int relu, input_t *restrict buffer) {
    for (int64_t s = lo; s < hi; s++) {
        const int64_t many = m->from[s + 1] - m->from[s];
        const index_t *g = m->gather + m->from[s];
        for (int64_t i = 0; i < many; i++) buffer[i] = x[g[i]];
        bands(m, m->strip[s], m->strip[s + 1], many ? buffer : x, unit, y, ldy, bias, relu);
    }
}

#if WORDS
/* Rounds n inputs, ldx apart, to whole numbers of at most `limit`; returns what one counts. Not a number if
   any is. */
static float rounded(const float *x, int64_t ldx, int64_t n, int16_t *to, int32_t top) {
    const float limit = (float)top;
    int32_t bits = 0; /* of the largest size: positive floats are ordered as their bits are */
    for (int64_t i = 0; i < n; i++) {
        int32_t size;
        memcpy(&size, x + i * ldx, sizeof size);
        size &= 0x7fffffff;
        bits = size > bits ? size : bits;
    }
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    if (bits >= 0x7f800000) return NAN;
    const float unit = largest / limit, inverse = unit > 0.0f ? 1.0f / unit : 0.0f;
    if (isinf(inverse)) { memset(to, 0, n * sizeof *to); return 0.0f; }
    for (int64_t i = 0; i < n; i++) {
        const float v = x[i * ldx] * inverse;
        const int32_t whole = (int32_t)(v + (v < 0.0f ? -0.5f : 0.5f));
        to[i] = (int16_t)(whole > top ? top : whole < -top ? -top : whole);
    }
    return unit;
}
#endif

/* Y (rows, n) = matrix times X (columns, n), plus bias per row, then relu; column by column. Strides in
   floats. Returns 1 if there is no memory, else 0. */
int strips_multiply(const Strips *m, const float *X, int64_t ldx, float *Y, int64_t ldy, int64_t n,
    const float *bias, int relu, int threads) {
    const int64_t whole = (m->columns + LANES - 1) / LANES * LANES;
    const int gathers = m->from[m->strips] > 0;
    const int copies = WORDS || ldx != 1 || (!gathers && whole != m->columns);
    input_t *copy = NULL, *buffers = NULL;
    if (copies) copy = malloc(whole * sizeof(input_t));
    if (gathers) buffers = malloc(threads * m->room * sizeof(input_t));
    const int failed = (copies && !copy) || (gathers && !buffers);
    for (int64_t i = 0; i < m->idle_rows && !failed; i++) {
        float s = bias ? bias[m->idle[i]] : 0.0f;
        if (relu && s < 0.0f) s = 0.0f;
        for (int64_t j = 0; j < n; j++) Y[m->idle[i] * ldy + j] = s;
    }
    for (int64_t i = m->columns; copies && !failed && i < whole; i++) copy[i] = 0;
    for (int64_t j = 0; j < n && !failed; j++) {
        float unit = 1.0f;
#if WORDS
        const int64_t bound = 2147483647 / (127 * 2 * (whole / LANES));
        unit = rounded(X + j, ldx, m->columns, copy, bound < 32767 ? (int32_t)bound : 32767);
        const input_t *x = copy;
#else
        if (copies)
            for (int64_t i = 0; i < m->columns; i++) copy[i] = X[i * ldx + j];
        const input_t *x = copies ? copy : X + j;
#endif
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
        for (int part = 0; part < threads; part++)
            strips(m, m->share[part * m->shares / threads], m->share[(part + 1) * m->shares / threads],
                   x, unit, Y + j, ldy, bias, relu, buffers + part * m->room);
    }
    free(copy); free(buffers);
    return failed;
}
"""
