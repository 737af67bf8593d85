"""Analytical hardware models: what a network asks of a machine, and what a device would take for it."""

from hw_models.design import Design
from hw_models.device import Device, device_names, load_device
from hw_models.engine import Tiling
from hw_models.errors import DeviceError, HardwareModelError, TraceError, UncountedWarning
from hw_models.estimate import compare, estimate
from hw_models.fusion import fused
from hw_models.result import Estimate, LayerEstimate
from hw_models.search import best_design
from hw_models.sparsity import Sparsity, measured_sparsity
from hw_models.tokens import with_tokens
from hw_models.trace import trace
from hw_models.workload import Layer, Workload

__all__ = [
    "Design",
    "Device",
    "DeviceError",
    "Estimate",
    "HardwareModelError",
    "Layer",
    "LayerEstimate",
    "Sparsity",
    "Tiling",
    "TraceError",
    "UncountedWarning",
    "Workload",
    "best_design",
    "compare",
    "device_names",
    "estimate",
    "fused",
    "load_device",
    "measured_sparsity",
    "trace",
    "with_tokens",
]
