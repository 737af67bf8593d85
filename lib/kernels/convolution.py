"""Convolution as a product with a pruned matrix: C source that lays out inputs, and where they are.

The image is first copied with its padding, one plane for each remainder of rows and columns by the stride,
so that whatever the stride, the inputs that one weight meets along an output row lie side by side. Panels
of the matrix product (im2col) are filled from there, those rows alone that the pruned matrix uses, just
before they are multiplied.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Geometry:
    """A convolution of `channels` images of `height` by `width`; pairs are (rows, columns)."""

    channels: int
    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def output(self) -> tuple[int, int]:
        """Rows and columns of the output; not positive where the kernel does not fit into the image."""
        rows, columns = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                (self.height, self.width), self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        return rows, columns

    @property
    def plane(self) -> tuple[int, int]:
        """Rows and columns of one plane of the copied image."""
        rows, columns = (
            -(-(size + 2 * pad) // stride)
            for size, pad, stride in zip((self.height, self.width), self.padding, self.stride, strict=True)
        )
        return rows, columns

    @property
    def is_product(self) -> bool:
        """Whether the image is the right side of the product as it lies there."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0)

    def offsets(self) -> NDArray[np.int64]:
        """Where in the copied image each column of the weight matrix finds its first input: (channels * kh
        * kw)."""
        rows, columns = self.plane
        channel, y, x = np.meshgrid(*(np.arange(n) for n in (self.channels, *self.kernel)), indexing="ij")
        y, x = y * self.dilation[0], x * self.dilation[1]
        down, right = self.stride
        plane = (channel * down + y % down) * right + x % right
        return ((plane * rows + y // down) * columns + x // right).ravel().astype(np.int64)


CONVOLUTION = """
/* See Geometry in lib/kernels/convolution.py. `offset` holds one number for each column of the matrix. */
typedef struct {
    int64_t channels, height, width, out_rows, out_columns, plane_rows, plane_columns;
    int64_t down, right, top, left;
    const int64_t *offset;
} Image;

/* Copies the image with its padding, one plane for each remainder of rows and columns by the stride. */
static void spread(const Image *g, const float *restrict image, float *restrict to) {
    const int64_t plane = g->plane_rows * g->plane_columns;
    memset(to, 0, (g->channels * g->down * g->right * plane + LANES) * sizeof(float));
    for (int64_t c = 0; c < g->channels; c++)
        for (int64_t y = 0; y < g->height; y++) {
            const float *from = image + (c * g->height + y) * g->width;
            const int64_t row = y + g->top;
            for (int64_t b = 0; b < g->right; b++) {
                float *line = to + ((c * g->down + row % g->down) * g->right + b) * plane
                              + row / g->down * g->plane_columns;
                const int64_t first = ((b - g->left) % g->right + g->right) % g->right;
                float *place = line + (first + g->left) / g->right;
                if (g->right == 1) memcpy(place, from, g->width * sizeof(float));
                else for (int64_t x = first; x < g->width; x += g->right) *place++ = from[x];
            }
        }
}

/* Fills a panel with the inputs of outputs `from` to `from + n`, of its rows those that the tile `t` uses.
   Copies whole vectors: what they write too much is overwritten by the next copy or lies behind the panel.
   */
static void fill(const Bands *m, int64_t t, const Image *g, const float *restrict image, int64_t from,
    int64_t n, float *restrict panel, int64_t width) {
    int64_t at[WIDTH + 1], many[WIDTH], source[WIDTH], runs = 0;
    for (int64_t j = 0; j < n; runs++) {
        const int64_t y = (from + j) / g->out_columns, x = (from + j) % g->out_columns;
        at[runs] = j; source[runs] = y * g->plane_columns + x;
        many[runs] = least(g->out_columns - x, n - j);
        j += many[runs];
    }
    for (int64_t k = m->edge[t]; k < m->edge[t + 1]; k++, panel += width) {
        if (!m->used[k]) continue;
        const float *base = image + g->offset[k];
        for (int64_t i = 0; i < runs; i++) {
            const float *s = base + source[i];
            float *d = panel + at[i];
            for (int64_t x = 0; x < many[i]; x += LANES) *(V *)(d + x) = *(const V *)(s + x);
        }
    }
}

/* Y (batch, rows, out_rows * out_columns) of X (batch, channels, height, width). Returns 1 if there is no
   memory. */
int bands_convolve(const Bands *m, const Image *g, const float *X, float *Y, int64_t batch,
    const float *bias, int relu, int threads) {
    int failed = 0;
    const int64_t n = g->out_rows * g->out_columns, tiles = (n + WIDTH - 1) / WIDTH;
    const int by_band = tiles < 2 * threads;
    float *image = room(g->channels * g->down * g->right * g->plane_rows * g->plane_columns + LANES);
    if (!image) return 1;
    for (int64_t item = 0; item < batch && !failed; item++) {
        float *C = Y + item * m->rows * n;
        idle(m, C, n, n, bias, relu);
        spread(g, X + item * g->channels * g->height * g->width, image);
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
        for (int part = 0; part < threads; part++) {
            const int64_t lo = by_band ? m->share[part * m->shares / threads] : 0;
            const int64_t hi = by_band ? m->share[(part + 1) * m->shares / threads] : m->bands;
            Desk desk;
            if (set_desk(m, &desk))
                for (int64_t i = by_band ? 0 : part; i < tiles; i += by_band ? 1 : threads) {
                    const int64_t from = i * WIDTH, many = least(WIDTH, n - from);
                    const int64_t width = (many + LANES - 1) / LANES * LANES;
                    for (int64_t t = 0; t < m->tiles; t++) {
                        fill(m, t, g, image, from, many, desk.panel, width);
                        panel_tile(m, t, lo, hi, &desk, width, C + from, n, many, bias, relu);
                    }
                }
            else
#pragma omp atomic write
                failed = 1;
            clear_desk(&desk);
        }
    }
    free(image);
    return failed;
}
"""
