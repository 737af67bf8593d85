"""The errors of this package: each message names the thing that is wrong and what to do about it."""


class HardwareModelError(Exception):
    """A workload, device file or request cannot be used as given."""


def check_count(name: str, value: object) -> None:
    """Fails unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise HardwareModelError(f"{name} must be a whole number of at least 1, got {value!r}")


class TraceError(HardwareModelError):
    """A module cannot be traced with the given example inputs."""


class DeviceError(HardwareModelError):
    """A device is unknown, its file is malformed, or a number that a model needs is missing from it."""


class UncountedWarning(UserWarning):
    """A traced module ran operations whose multiply-accumulates are not known to this package."""
