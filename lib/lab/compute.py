"""Which processor computes, on how many threads, from which seed."""

import random

import numpy
import torch

from lib.errors import WrongUse


def device_named(name: str) -> torch.device:
    """The torch device called `name` (`cpu`, `cuda`, `cuda:1`, `mps`, or `auto` for the best there is).

    Raises:
        WrongUse: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(name.split(":")[0], False):
        raise WrongUse(f"device {name!r} is not available here; use device=cpu")
    return torch.device(name)


def seeded(seed: int) -> torch.Generator:
    """A generator for data order and sampling; also seeds the libraries that draw from global state."""
    random.seed(seed)
    numpy.random.seed(seed)  # noqa: NPY002  (timm's augmentation draws from numpy's global generator)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)
