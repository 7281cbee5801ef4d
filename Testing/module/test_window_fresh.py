"""The first clicks after Slicer was started: nothing heavy is loaded into the window's process, and nothing waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from small_training import small_spec, write_random_model

HERE = Path(__file__).parent
MODULE = HERE.parents[1] / "MedSegReg"


IMPORT_BRIDGE = """
import importlib, sys
from pathlib import Path
sys.path[:0] = [{module!r}]
sys.modules["torch"] = None
for path in sorted(Path({module!r}, "MedSegRegLib", "mrml").glob("*.py")):
    if path.stem not in {of_files}:
        importlib.import_module("MedSegRegLib.mrml." + path.stem)
"""
OF_FILES = ("headless", "training_cases")
"""Used where there is no window."""
DELIVERED = 0.35
"""Seconds: writing all nodes, and what is imported for it; 0.03 to 0.21 where other work took the processor, too."""
STORIES = (
    "segment", "register", "correct", "transform", "carry", "atlas", "align", "joint", "followup", "evaluate", "adapt"
)  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory, qt_application):
    """What a fresh process tells about the first run of each section."""
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


def test_there_is_a_story_for_each_section_that_runs_a_job(told):
    assert tuple(told) == STORIES


@pytest.mark.parametrize("story", STORIES)
def test_a_first_click_gives_a_result_and_torch_stays_in_the_child_process(told, story):
    assert told[story]["came"]
    assert (told[story]["messages"], told[story]["faults"], told[story]["imported"]) == ([], [], [])


@pytest.mark.parametrize("story", STORIES)
def test_the_window_answers_during_a_first_run(told, story):
    assert told[story]["click"] < 0.1
    assert told[story]["longest_block"] < DELIVERED


def test_the_bridge_to_the_scene_imports_no_torch():
    code = IMPORT_BRIDGE.format(module=str(MODULE), of_files=OF_FILES)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
