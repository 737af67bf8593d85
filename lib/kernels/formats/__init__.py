"""Storage formats of pruned matrices: each is encoded, decoded exactly, and counts its own index."""
