"""The first click after Slicer was started: nothing heavy is loaded into the window's process, and nothing waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from small_training import small_spec, write_random_model

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def told(tmp_path_factory, qt_application):
    """What a fresh process tells about its first run."""
    folder = tmp_path_factory.mktemp("fresh")
    write_random_model(folder / "store" / "balls", small_spec())
    done = subprocess.run(
        [sys.executable, str(HERE / "fresh_window.py"), str(folder)],
        env={**os.environ, "MEDSEGREG_MODELS": str(folder / "store")},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_first_click_gives_a_segmentation(told):
    assert (told["segmentations"], told["messages"], told["faults"]) == (["head balls"], [], [])


@pytest.mark.xfail(strict=True, reason="writing a result still imports torch into the process of the window")
def test_torch_stays_in_the_child_process(told):
    assert not told["torch"]
    assert told["click"] < 0.1
    assert told["longest_block"] < 0.1
