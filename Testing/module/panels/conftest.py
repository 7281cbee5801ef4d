"""What the tests of the panels share: a job system that obeys, and two studies that can be registered."""

# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift
from scripted_jobs import ScriptedJobs

SIZE = 32
SHIFT_MM = 4.0


@pytest.fixture
def jobs():
    return ScriptedJobs()


@pytest.fixture
def panels(window, jobs):
    """The opened module with a job system that says what the test says; ``at_work`` has a real one."""
    runner = window.widget.runner
    runner.ready, runner._supervisor = lambda: True, jobs
    return window


@pytest.fixture
def studies(scene):
    """A fixed and a moving volume of blobs; the moving one is the fixed one, moved by 4 mm to the right."""
    from MedSegRegLib.geometry import Geometry
    from MedSegRegLib.image import Image
    from MedSegRegLib.mrml.volumes import node_from_image

    random = np.random.default_rng(3)
    blobs = gaussian_filter(random.normal(size=(SIZE, SIZE, SIZE)), 2.5, mode="constant")
    blobs = 100 * (blobs - blobs.min()) / np.ptp(blobs)
    k, j, i = np.meshgrid(*[np.arange(SIZE) - (SIZE - 1) / 2] * 3, indexing="ij")
    blobs *= (k**2 + j**2 + i**2) < (SIZE / 2 - 3) ** 2
    grid = Geometry.from_spacing((SIZE, SIZE, SIZE), (2.0, 2.0, 2.0))
    moved = shift(blobs, (0, 0, SHIFT_MM / 2), order=1)
    return [
        node_from_image(Image.from_array(array, grid), scene, name) for array, name in ((blobs, "T1"), (moved, "T2"))
    ]
