"""C source that walks a GRU or LSTM layer through a sequence: the recurrent product, then the gates.

The product of the inputs with their weights is made for all steps at once beforehand. Exponentials are
computed by a polynomial that compilers turn into vector code: 1e-7 of the value, as good as float32 can show.
"""

GATES = {"gru": 3, "lstm": 4}
"""Gate matrices stacked in a layer's weights, in torch's order: r z n, and i f g o."""

RECURRENT = """
#include <stdint.h>
#include <string.h>
typedef int (*product_t)(const void *, const float *, int64_t, float *, int64_t, int64_t, const float *,
    int, int);

static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float t = x * 1.44269504f;
    const int32_t n = (int32_t)(t + (t < 0.0f ? -0.5f : 0.5f));
    const float f = x - n * 0.693145752f - n * 1.42860677e-6f;
    float p = 1.0f / 5040;
    p = p * f + 1.0f / 720; p = p * f + 1.0f / 120; p = p * f + 1.0f / 24;
    p = p * f + 1.0f / 6; p = p * f + 0.5f; p = p * f + 1.0f; p = p * f + 1.0f;
    const int32_t bits = (n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}
static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
static inline float hyperbolic(float x) { return 1.0f - 2.0f / (1.0f + exponential(2.0f * x)); }

/* One direction of a layer. given (steps, gates * size): inputs' share of the gates; hidden, cell (size):
   state, updated; work (gates * size); out (steps, size). `size` is hidden units times sequences side by
   side (n). */
int gru_sequence(product_t product, const void *m, const float *bias, const float *restrict given,
    float *restrict hidden, float *restrict work, float *restrict out, int64_t steps, int64_t size,
    int64_t n, int threads) {
    for (int64_t t = 0; t < steps; t++, given += 3 * size, out += size) {
        if (product(m, hidden, n, work, n, n, bias, 0, threads)) return 1;
        for (int64_t i = 0; i < size; i++) {
            const float r = sigmoid(given[i] + work[i]), z = sigmoid(given[size + i] + work[size + i]);
            const float fresh = hyperbolic(given[2 * size + i] + r * work[2 * size + i]);
            out[i] = hidden[i] = fresh + z * (hidden[i] - fresh);
        }
    }
    return 0;
}

int lstm_sequence(product_t product, const void *m, const float *bias, const float *restrict given,
    float *restrict hidden, float *restrict cell, float *restrict work, float *restrict out, int64_t steps,
    int64_t size, int64_t n, int threads) {
    for (int64_t t = 0; t < steps; t++, given += 4 * size, out += size) {
        if (product(m, hidden, n, work, n, n, bias, 0, threads)) return 1;
        for (int64_t i = 0; i < size; i++) {
            const float in = sigmoid(given[i] + work[i]), keep = sigmoid(given[size + i] + work[size + i]);
            const float fresh = hyperbolic(given[2 * size + i] + work[2 * size + i]);
            const float show = sigmoid(given[3 * size + i] + work[3 * size + i]);
            cell[i] = keep * cell[i] + in * fresh;
            out[i] = hidden[i] = show * hyperbolic(cell[i]);
        }
    }
    return 0;
}
"""
