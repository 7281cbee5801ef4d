"""Fixtures for all tests; being here also lets every test import the modules of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from small_training import small_spec, write_random_model

settings.register_profile("repeatable", derandomize=True, deadline=None)  # the same examples on every machine
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="session")
def _a_cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Engines that are measured in tests are not remembered in the user's home."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MEDSEGREG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def a_model_folder(tmp_path: Path) -> Path:
    """A package of random weights."""
    return write_random_model(tmp_path / "balls", small_spec())


@pytest.fixture
def an_empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's store of models, which is not there yet; and no trusted keys."""
    monkeypatch.setenv("MEDSEGREG_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("MEDSEGREG_KEYS", str(tmp_path / "keys"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums of several threads are not the same twice."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
