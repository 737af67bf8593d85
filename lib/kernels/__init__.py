"""Pruned matrices as they are stored and multiplied: storage formats, generated kernels, layers made of
them."""
