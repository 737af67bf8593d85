"""What can go wrong with compiled matrices."""

from lib.errors import ReproError


class KernelError(ReproError):
    """A matrix cannot be packed, compiled or multiplied: the message says what is wrong with it."""
