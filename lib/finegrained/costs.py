"""What AFTrans adds to a ViT, by closed formula: tokens, parameters, multiply-accumulates, head products."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Shape:
    """A plain ViT: L layers, K heads, width D, square patches; ViT-B/16 with 200 classes by default."""

    layers: int = 12
    heads: int = 12
    dim: int = 768
    patch: int = 16
    channels: int = 3
    classes: int = 200

    def tokens(self, image: int, stride: int) -> int:
        """N + 1: patches of an image of `image` pixels a side, and the class token."""
        return ((image - self.patch) // stride + 1) ** 2 + 1

    def parameters(self, image: int, stride: int) -> int:
        """Parameters with one class token and one position table."""
        d = self.dim
        block = 12 * d * d + 13 * d  # qkv, projection and MLP with biases, two norms
        stem = self.channels * self.patch**2 * d + d
        places = (self.tokens(image, stride) + 1) * d  # position table and class token
        return self.layers * block + stem + places + 2 * d + (d + 1) * self.classes

    def macs(self, image: int, stride: int) -> int:
        """Multiply-accumulates of one pass, the two products of attention included."""
        n, d = self.tokens(image, stride), self.dim
        block = 12 * n * d * d + 2 * n * n * d
        return self.layers * block + (n - 1) * self.channels * self.patch**2 * d + d * self.classes

    def head_products(self, image: int, stride: int) -> int:
        """Multiplications of the Hadamard product over heads: L (K - 1) (N + 1)^2."""
        return self.layers * (self.heads - 1) * self.tokens(image, stride) ** 2

    def doubling(self, part: Literal["layers", "heads"], image: int, stride: int) -> float:
        """Head products with twice as many layers or heads, over these."""
        twice = replace(self, **{part: 2 * getattr(self, part)})
        return twice.head_products(image, stride) / self.head_products(image, stride)

    def row(self, image: int, stride: int) -> dict[str, tuple[float, str]]:
        """The four counts, by name: value and unit."""
        return {
            "tokens": (self.tokens(image, stride), "tokens"),
            "mparams": (self.parameters(image, stride) / 1e6, "M"),
            "gmacs": (self.macs(image, stride) / 1e9, "GMAC"),
            "products": (self.head_products(image, stride) / 1e6, "M"),
        }

    def share(self, image: int, stride: int) -> float:
        """Head products in percent of one pass."""
        return 100 * self.head_products(image, stride) / self.macs(image, stride)

    def published_share(self, image: int) -> float:
        """The same percentage as GLSim's comparison counts it (its tools/calc_flops.py).

        Its module works at stride 12 and also squeezes one map, excites and scales; its backbone works at
        stride 16, with every multiplication of the patch projection counted twice.
        """
        tokens = self.tokens(image, 12)
        around = tokens**2 + 1 + 6 * self.layers + self.layers * (tokens - 1)
        projection = (self.tokens(image, 16) - 1) * self.channels * self.patch**2 * self.dim
        return 100 * (self.head_products(image, 12) + around) / (self.macs(image, 16) + projection)

    def added_parameters(self, image: int, stride: int, reduction: int = 4) -> int:
        """Second class token, second position table, and the gate's 2 L^2 / r weights."""
        places = (self.tokens(image, stride) + 1) * self.dim
        return places + 2 * self.layers * (self.layers // reduction)
