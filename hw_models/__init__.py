"""Analytical hardware models: what a network asks of a machine, and how long a device would take for it."""

from hw_models.trace import trace
from hw_models.workload import Layer, Workload

__all__ = ["Layer", "Workload", "trace"]
