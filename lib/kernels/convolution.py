"""Convolution as a product with a pruned matrix: C source that lays out inputs, and where they are.

The image is first copied with its padding, one plane for each remainder of rows and columns by the stride,
so that whatever the stride, the inputs that one weight meets along an output row lie side by side. Seen as
one line, the plane gives all of them for the whole image: row k of the right side begins at an offset of
its own, and nothing is copied together (no im2col). Outputs that belong to the places between two
rows of the image are computed and left behind: kernel - 1 of each row.
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
    def copied(self) -> int:
        """Numbers in the copied image."""
        planes = self.channels * self.stride[0] * self.stride[1]
        return planes * self.plane[0] * self.plane[1]

    @property
    def is_product(self) -> bool:
        """Whether the image is the right side of the product as it lies there."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0)

    def offsets(self) -> NDArray[np.int32]:
        """Where in the copied image each column of the weight matrix finds its first input: (channels * kh
        * kw)."""
        rows, columns = self.plane
        channel, y, x = np.meshgrid(*(np.arange(n) for n in (self.channels, *self.kernel)), indexing="ij")
        y, x = y * self.dilation[0], x * self.dilation[1]
        down, right = self.stride
        plane = (channel * down + y % down) * right + x % right
        return ((plane * rows + y // down) * columns + x // right).ravel().astype(np.int32)


CONVOLUTION = """
/* See Geometry in lib/kernels/convolution.py. `offset` holds one number for each column of the matrix. */
typedef struct {
    int64_t channels, height, width, out_rows, out_columns, plane_rows, plane_columns;
    int64_t down, right, top, left;
    const int32_t *offset;
} Image;

/* Copies the image with its padding, one plane for each remainder of rows and columns by the stride. */
static void spread(const Image *g, const float *restrict image, float *restrict to) {
    const int64_t plane = g->plane_rows * g->plane_columns, all = g->channels * g->down * g->right * plane;
    const int whole = g->plane_rows * g->down == g->height && g->plane_columns * g->right == g->width;
    memset(to + (whole ? all : 0), 0, ((whole ? 0 : all) + LANES) * sizeof(float));
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

/* Copies the outputs of places `from` to `from + n` of the plane from the desk to where they belong; what
   lies between the rows of the image is left behind. */
static void gather(const Bands *m, const Image *g, const float *restrict edge, int64_t width,
    float *restrict C, int64_t from, int64_t n, int64_t lo, int64_t hi) {
    const int64_t ldc = g->out_rows * g->out_columns;
    for (int64_t j = 0; j < n;) {
        const int64_t y = (from + j) / g->plane_columns, x = (from + j) % g->plane_columns;
        const int64_t many = least(g->out_columns - x, n - j);
        for (int64_t i = lo * H; i < hi * H && many > 0; i++) {
            if (m->row[i] < 0) continue;
            const float *source = edge + m->row[i] * width + j;
            float *to = C + m->row[i] * ldc + y * g->out_columns + x;
            int64_t k = 0;
            for (; k + LANES <= many; k += LANES) *(V *)(to + k) = *(const V *)(source + k);
            if (k < many && many >= LANES) *(V *)(to + many - LANES) = *(const V *)(source + many - LANES);
            else for (; k < many; k++) to[k] = source[k];
        }
        j += least(g->plane_columns - x, n - j);
    }
}

/* Outputs of places `from` to `from + n` of the plane. */
static void plane_tile(const Bands *m, const Image *g, const float *image, int64_t from, int64_t n,
    int64_t lo, int64_t hi, const Desk *desk, float *C, const float *bias, int relu) {
    const int vectors = (int)((n + LANES - 1) / LANES);
    const int64_t y = from / g->plane_columns, x = from % g->plane_columns;
    const int inside = x + n <= g->out_columns && n % LANES == 0;
    float *to = inside ? C + y * g->out_columns + x : desk->edge;
    const int64_t stride = inside ? g->out_rows * g->out_columns : vectors * LANES;
    for (int64_t t = 0; t < m->tiles; t++)
        tile(m, t, vectors, lo, hi, image + from, g->offset + m->edge[t], to, stride, bias, relu,
             desk->scratch);
    if (!inside) gather(m, g, desk->edge, stride, C, from, n, lo, hi);
}

/* Y (batch, rows, out_rows * out_columns) of X (batch, channels, height, width). Returns 1 if there is no
   memory. */
int bands_convolve(const Bands *m, const Image *g, const float *X, float *Y, int64_t batch,
    const float *bias, int relu, int threads) {
    int failed = 0;
    const int64_t n = (g->out_rows - 1) * g->plane_columns + g->out_columns, tiles = (n + WIDTH - 1) / WIDTH;
    const int64_t all = g->channels * g->down * g->right * g->plane_rows * g->plane_columns;
    const int by_band = tiles < 2 * threads;
    float *image = room(all + LANES);
    if (!image) return 1;
    for (int64_t item = 0; item < batch && !failed; item++) {
        float *C = Y + item * m->rows * g->out_rows * g->out_columns;
        idle(m, C, g->out_rows * g->out_columns, g->out_rows * g->out_columns, bias, relu);
        spread(g, X + item * g->channels * g->height * g->width, image);
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
        for (int part = 0; part < threads; part++) {
            const int64_t lo = by_band ? m->share[part * m->shares / threads] : 0;
            const int64_t hi = by_band ? m->share[(part + 1) * m->shares / threads] : m->bands;
            Desk desk;
            if (set_desk(m, &desk, 0))
                for (int64_t i = by_band ? 0 : part; i < tiles; i += by_band ? 1 : threads)
                    plane_tile(m, g, image, i * WIDTH, least(WIDTH, n - i * WIDTH), lo, hi, &desk, C, bias,
                               relu);
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
