"""Devices by name, and seeds."""

import random

import numpy
import pytest
import torch

from lib.errors import WrongUse
from lib.lab.compute import device_named, seeded


def test_cpu_is_always_there() -> None:
    assert device_named("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("available", "best"), [(False, "cpu"), (True, "cuda")])
def test_auto_takes_the_best_there_is(available: bool, best: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert device_named("auto") == torch.device(best)


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "tpu", ""])
def test_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WrongUse, match=f"device '{name}' is not available"):
        device_named(name)


def test_numbered_device_keeps_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_named("cuda:1") == torch.device("cuda", 1)


def draws(seed: int) -> tuple[float, ...]:
    generator = seeded(seed)
    legacy = numpy.random.random()  # noqa: NPY002  (the global state is what is tested)
    return (torch.rand(1, generator=generator).item(), torch.rand(1).item(), legacy, random.random())


def test_seed_fixes_the_generator_and_every_global_state() -> None:
    first, again, other = draws(1), draws(1), draws(2)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
