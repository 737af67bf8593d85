"""edgerepro: fifteen papers on efficient deep learning for the edge, readable, rerunnable and auditable."""
