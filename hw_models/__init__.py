"""Analytical hardware models: what a network asks of a machine, and how long a device would take for it."""

from hw_models.device import Device, device_names, load_device
from hw_models.errors import DeviceError, HardwareModelError, TraceError, UncountedWarning
from hw_models.roofline import Estimate, LayerEstimate, estimate
from hw_models.trace import trace
from hw_models.workload import Layer, Workload

__all__ = [
    "Device",
    "DeviceError",
    "Estimate",
    "HardwareModelError",
    "Layer",
    "LayerEstimate",
    "TraceError",
    "UncountedWarning",
    "Workload",
    "device_names",
    "estimate",
    "load_device",
    "trace",
]
