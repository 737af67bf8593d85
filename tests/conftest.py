"""Settings of every test."""

import pytest


@pytest.fixture(autouse=True)
def _piped_output_has_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest's workers set COLUMNS to their terminal's width; what the commands print would follow it."""
    monkeypatch.delenv("COLUMNS", raising=False)
