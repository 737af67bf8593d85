"""Pruned matrices as they are stored and multiplied: formats, generated kernels and layers."""
