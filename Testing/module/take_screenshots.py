"""Pictures of the panels for the README: ``pytest Testing/module/take_screenshots.py``. ``make test`` leaves it out."""

from __future__ import annotations

from pathlib import Path

import pytest

from MedSegRegLib.files import read_image
from MedSegRegLib.samples import sample_path

SCREENSHOTS = Path(__file__).parents[2] / "Resources" / "Screenshots"
UNFOLDED = {"segment": ["structuresGroupBox"], "register": ["knownGroupBox", "resultsGroupBox"]}


@pytest.fixture
def two_heads(scene):
    """The shipped samples as nodes."""
    from MedSegRegLib.mrml.volumes import node_from_image  # noqa: PLC0415 - imports slicer

    return [node_from_image(read_image(sample_path(name)), scene, name) for name in ("icbm152-t1", "s1-t1")]


def test_every_panel_is_pictured(two_heads, window, module, grab):
    fixed, moving = two_heads
    choices = {
        "inputVolumeSelector": moving,
        "fixedVolumeSelector": fixed,
        "movingVolumeSelector": moving,
        "carrySourceSelector": fixed,
        "carryTargetSelector": moving,
        "atlasImageSelector": moving,
        "atlasVolumeSelector": fixed,
        "followupFirstSelector": fixed,
        "followupSecondSelector": moving,
        "alignVolume1Selector": moving,
        "alignVolume4Selector": fixed,
        "sequenceVolumeSelector": moving,
        "jointFixedSelector": fixed,
        "jointMovingSelector": moving,
    }
    for name, node in choices.items():
        window.control(name).setCurrentNode(node)
    for name in map(str.lower, module.PANELS):
        window.open(name)
        for group in UNFOLDED.get(name, []):
            window.control(group).collapsed = False
        grab(window.parent, SCREENSHOTS / f"panel-{name}.png")
        assert (SCREENSHOTS / f"panel-{name}.png").stat().st_size > 1000
