"""Comparisons of hardware from published figures: what follows from them and what contradicts itself."""
