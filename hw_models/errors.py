"""The errors of this package: each message names the thing that is wrong and what to do about it."""


class HardwareModelError(Exception):
    """A workload, device file or request cannot be used as given."""


class TraceError(HardwareModelError):
    """A module cannot be traced with the given example inputs."""


class DeviceError(HardwareModelError):
    """A device is unknown, its file is malformed, or a number that a model needs is missing from it."""


class UncountedWarning(UserWarning):
    """A traced module ran operations whose multiply-accumulates are not known to this package."""
