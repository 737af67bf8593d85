"""A training goes on from its checkpoint as if it had never stopped."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lib.errors import ReproError
from lib.lab.checkpoint import load_state, save_state


class Training:
    """A small training with normalisation, moments and random data."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.generator = torch.Generator().manual_seed(seed)

    def steps(self, count: int) -> None:
        for _ in range(count):
            loss = self.model(torch.randn(8, 4, generator=self.generator)).pow(2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def save(self, path: Path) -> None:
        save_state(path, self.model, self.optimizer, self.generator, {"epoch": 3, "recipe": {"seed": 1}})

    def load(self, path: Path) -> dict[str, object]:
        return load_state(path, self.model, self.optimizer, self.generator)


def test_resumed_training_is_bit_identical(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    whole, resumed = Training(0), Training(1)
    whole.steps(3)
    whole.save(path)
    whole.steps(3)
    assert resumed.load(path) == {"epoch": 3, "recipe": {"seed": 1}}
    resumed.steps(3)
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())


def test_saving_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    training = Training(0)
    training.save(tmp_path / "state.safetensors")
    training.steps(1)
    training.save(tmp_path / "state.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
    other = Training(1)
    other.load(tmp_path / "state.safetensors")
    assert torch.equal(other.model[0].weight, training.model[0].weight)  # type: ignore[arg-type]


def test_failed_saving_keeps_the_last_state_and_leaves_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.safetensors"
    training = Training(0)
    training.save(path)
    before = path.read_bytes()

    def full(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib.lab.checkpoint.save_file", full)
    with pytest.raises(OSError, match="space"):
        training.save(path)
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize("length", [0, 4, 100, -10])
def test_truncated_state_is_a_clear_error(tmp_path: Path, length: int) -> None:
    path = tmp_path / "state.safetensors"
    training = Training(0)
    training.steps(1)
    training.save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ReproError, match="truncated"):
        training.load(path)


def test_state_of_another_model_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    Training(0).save(path)
    other = nn.Linear(2, 2)
    with pytest.raises(ReproError, match="another model"):
        load_state(path, other, torch.optim.AdamW(other.parameters()), torch.Generator())
