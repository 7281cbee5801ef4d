"""How soon a cancel is noticed before the work begins: while a model is loaded, its engine measured, a template placed.

Gaps are in seconds of this thread's own work, so that a busy machine does not count.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import MedSegRegLib
from MedSegRegLib.errors import Cancelled
from MedSegRegLib.files import read_image
from MedSegRegLib.progress import Progress
from MedSegRegLib.samples import sample_path
from MedSegRegLib.segment.engines import choice
from MedSegRegLib.segment.model import load_model
from MedSegRegLib.workflows import locate

LIBRARY = Path(MedSegRegLib.__file__).parents[1]
LOAD = """
from MedSegRegLib.segment.model import load_model
load_model("brain-any-contrast")
assert "sympy" not in sys.modules, "seconds in which no cancel is noticed"
"""
CPU = torch.device("cpu")
SOON = 0.5
TEMPLATE = "icbm152-t1"


class Asked:
    """A progress that remembers when it was asked; the n-th time it says that the user has cancelled."""

    def __init__(self, cancel_at: int | None = None) -> None:
        self.times = [time.thread_time()]
        self._cancel_at = cancel_at
        self.progress = Progress(should_cancel=self._ask)

    def _ask(self) -> bool:
        self.times.append(time.thread_time())
        return len(self.times) - 1 == self._cancel_at

    def longest_gap(self) -> float:
        return float(np.diff([*self.times, time.thread_time()]).max())


def test_every_step_of_loading_a_model_asks():
    asked = Asked()
    load_model("brain-any-contrast", progress=asked.progress)
    assert len(asked.times) > 3
    assert asked.longest_gap() < SOON


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_cancel_at_any_step_of_loading_ends_it(step):
    asked = Asked(step)
    with pytest.raises(Cancelled):
        load_model("brain-any-contrast", progress=asked.progress)
    assert len(asked.times) - 1 == step


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_cancel_is_noticed_while_an_engine_is_measured(a_model_folder, monkeypatch, step):
    monkeypatch.setattr(choice, "_recall", lambda *_: None)
    source = load_model(a_model_folder).sources[0]
    asked = Asked(step)
    with pytest.raises(Cancelled):
        choice.choose_engine(source, CPU, "torch", asked.progress)


def test_a_cancel_is_noticed_while_a_template_is_read_and_prepared():
    image = read_image(sample_path(TEMPLATE))
    for kept in (locate._read_template, locate._prepare_template):
        kept.cache_clear()
    asked = Asked(5)
    with pytest.raises(Cancelled):
        locate.place_template(image, TEMPLATE, CPU, asked.progress)
    assert asked.longest_gap() < SOON


def test_a_network_is_built_without_what_a_meta_device_would_import():
    code = f"import sys; sys.path.insert(0, {str(LIBRARY)!r})\n" + LOAD
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
