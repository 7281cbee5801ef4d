"""Fixtures for all tests; being here also lets every test import the modules of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from small_training import small_spec, write_random_model

settings.register_profile("repeatable", derandomize=True, deadline=None)  # the same examples on every machine
settings.load_profile("repeatable")


@pytest.fixture
def a_model_folder(tmp_path: Path) -> Path:
    """A package of random weights."""
    return write_random_model(tmp_path / "balls", small_spec())
