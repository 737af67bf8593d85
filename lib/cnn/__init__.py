"""Convolutional networks: pruning of channels and quantisation."""
