"""Variational quantum circuits, the compiler that decides their cost, and CompVQC's compression of them."""
